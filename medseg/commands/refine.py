"""medseg refine"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder of a network that refines, such as rrwnet.")],
    maps: Annotated[
        Path, typer.Argument(help="Probability maps of another method: a colour PNG, or a folder of them.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the refined maps, under the same names.")],
    valid: Annotated[Path | None, typer.Option(help="Folder of masks; outside of them the result is 0.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Refine artery/vein maps that another method made: red = artery, green = vein, blue = all vessels.

    The photograph itself is not needed. Exit code 1 when a map could not be refined.
    """
    from medseg.engine.refine import refine_all
    from medseg.engine.run import Run

    outcomes = refine_all(
        Run.open(run),
        maps,
        out,
        valid=valid,
        device=device,
        announce=lambda text: print(text, file=sys.stderr, flush=True),
    )
    failed = sum(outcome.state != "done" for outcome in outcomes)
    print(f"{len(outcomes) - failed} done, {failed} not; see {out}")
    if failed:
        raise typer.Exit(1)
