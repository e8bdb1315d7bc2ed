"""medseg sweep"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), see pipelines/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Any recipe key: train.epochs=20")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipe key to try: train.lr=log:1e-4:1e-2 (a range, evenly on a logarithmic scale), "
            "train.foreground=0.2:0.8 (a range), loss.name=dice_ce,tversky (a choice). Once for each."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trainings in all, those of earlier calls included.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make; each trial is a run in it. [default: sweeps/<recipe name>]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it, say what is tried, and end.")] = False,
) -> None:
    """Train a recipe with different values, chosen by how good former ones were on the validation cases.

    The same command again, after a kill or Ctrl-C, goes on where it was; a larger --trials adds trials. Optuna chooses
    the values (pip install 'medseg[sweep]').

    OUT/trial-0007 is the run folder of a trial, with its recipe.yaml; OUT/sweep.json is the table. The best of many
    trials was chosen by its validation cases: how good it is, other cases must say.

    Exit codes are those of `medseg train`.
    """
    from functools import partial

    from medseg import interrupts
    from medseg.engine import sweep

    say = partial(print, file=sys.stderr, flush=True)
    wanted = sweep.Sweep.of(recipe, overrides or [], param or [])
    folder = out or Path("sweeps") / wanted.recipe({}).name
    if dry_run:
        print("\n".join([*map(str, wanted.parameters), f"{trials} trials in {folder}"]))
        return
    try:
        found = sweep.run(wanted, folder, trials, announce=say)
    except interrupts.Interrupted as stop:
        say(f"stopped; the same command goes on from here: {folder}")
        raise typer.Exit(interrupts.exit_code(stop)) from None
    print(sweep.as_text(found, folder))
