"""medseg calibrate"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder, or that of a cross-validation: each of its folds.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = all cores.")] = 0,
) -> None:
    """Make a run's probabilities honest, and let it judge its own results, by its validation cases.

    They are predicted, and a temperature by which scores are divided is fitted and written into calibration.json;
    labels do not change by it. ECE, log-likelihood and Brier score are told before and after, of patients that it was
    not fitted on. It takes 3 validation patients at least.

    quality.json keeps what training cases are like and how sure the network is where it is right: predict says by it
    which results pass, which to look at and which are likely to have failed, and why.
    """
    from functools import partial

    from medseg.engine import device as devices
    from medseg.engine import folds
    from medseg.engine.calibrate import calibrate
    from medseg.engine.calibration import as_text

    devices.set_threads(threads)
    say = partial(print, file=sys.stderr, flush=True)
    for folder in folds.run_folders([run]):
        print(as_text(folder.name, calibrate(folder, device=device, announce=say)))
