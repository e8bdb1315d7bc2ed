"""medseg train"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), see pipelines/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Any recipe key: train.lr=3e-4 model.size=B")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make. [default: runs/<recipe name>]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Insist on a checkpoint to go on from; training settings may differ.")
    ] = False,
) -> None:
    """Prepare a recipe's cases and train its network into a run folder.

    The same command again, after a kill or Ctrl-C, goes on where it was.

    Exit codes: 0 done, 2 refused, 130 stopped by Ctrl-C, 75 stopped by SIGTERM or SIGUSR1 so that a cluster can start
    it again. Both stops come after the step and save first (Slurm: `#SBATCH --signal=USR1@120 --requeue`).
    """
    from lightning_fabric.utilities import rank_zero_only

    from medseg import config
    from medseg.engine.train import train
    from medseg.interrupts import AGAIN, Interrupted

    loaded = config.load(recipe, overrides or [])
    folder = out or Path("runs") / loaded.name
    try:
        train(loaded, folder, resume=resume)
    except Interrupted as stop:
        if rank_zero_only.rank:  # a launcher takes any other code of this process for a failure
            raise typer.Exit(0) from None
        print(f"stopped; the same command goes on from here: {folder}", file=sys.stderr)
        raise typer.Exit(130 if stop.number == signal.SIGINT else AGAIN) from None
    if rank_zero_only.rank == 0:  # with several devices each process comes here
        print(folder)
