"""medseg leakage"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe of a slice classifier (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value changes: train.epochs=3 ...")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for both runs. [default: runs/<name>_leakage]")] = None,
) -> None:
    """Train a slice classifier twice, patients divided and slices divided, and say how much the second flatters.

    Writes leakage.json and report.html. Takes twice as long as training; goes on where it was stopped.
    """
    from medseg import config
    from medseg.engine import assess, leakage

    chosen = config.load(recipe, overrides or [])
    folder = out or Path("runs") / f"{chosen.name}_leakage"
    found = leakage.compare(chosen, folder, announce=lambda text: print(text, file=sys.stderr, flush=True))
    print(assess.as_text(found.rows))
    print(f"report: {folder / 'report.html'}")
