"""medseg train"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medseg.config import Recipe


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), see pipelines/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Any recipe key: train.lr=3e-4 model.size=B")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make. [default: runs/<recipe name>]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Insist on a checkpoint to go on from; training settings may differ.")
    ] = False,
    folds: Annotated[
        str | None,
        typer.Option(help="Cross-validation: all, or some as in 0,2, one after another into OUT/fold0, OUT/fold1, ..."),
    ] = None,
) -> None:
    """Prepare a recipe's cases and train its network into a run folder.

    The same command again, after a kill or Ctrl-C, goes on where it was.

    Exit codes: 0 done, 2 refused, 130 stopped by Ctrl-C, 75 stopped by SIGTERM or SIGUSR1 so that a cluster can start
    it again. Both stops come after the step and save first (Slurm: `#SBATCH --signal=USR1@120 --requeue`).

    --folds: all share one split and one plan, so that OUT can be given to `medseg predict` as an ensemble.
    """
    from lightning_fabric.utilities import rank_zero_only

    from medseg import config, interrupts

    loaded = config.load(recipe, overrides or [])
    folder = out or Path("runs") / loaded.name
    try:
        if folds is None:
            _one(loaded, folder, resume)
        else:
            _folds(loaded, folder, folds, resume)
    except interrupts.Interrupted as stop:
        if rank_zero_only.rank:  # a launcher takes any other code of this process for a failure
            raise typer.Exit(0) from None
        print(f"stopped; the same command goes on from here: {folder}", file=sys.stderr)
        raise typer.Exit(interrupts.exit_code(stop)) from None


def _one(recipe: Recipe, folder: Path, resume: bool) -> None:
    from lightning_fabric.utilities import rank_zero_only

    from medseg.engine.train import train

    train(recipe, folder, resume=resume)
    if rank_zero_only.rank == 0:  # with several devices each process comes here
        print(folder)


def _folds(recipe: Recipe, folder: Path, wanted: str, resume: bool) -> None:
    from functools import partial

    from medseg.engine.crossvalidation import train_folds
    from medseg.engine.folds import as_text

    say = partial(print, file=sys.stderr, flush=True)
    print(as_text(train_folds(recipe, folder, wanted, resume=resume, announce=say), folder))
