"""An output that ends, or holds up, the process that writes it; of other cases, a NIfTI label map."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from medseg.outputs import nifti
from medseg.prediction import Prediction

Options = nifti.Options
SUFFIX, WRITES, READ_BACK_BY = nifti.SUFFIX, nifti.WRITES, nifti.READ_BACK_BY
LONG_S = 600


def write(prediction: Prediction, path: Path, options: Options) -> None:
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name.startswith("exit"):
        os._exit(3)
    if path.name.startswith("hang"):
        time.sleep(LONG_S)
    mark = path.parents[2] / f"{prediction.case}.begun"
    if path.name.startswith("once") and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        time.sleep(LONG_S)
    nifti.write(prediction, path, options)
