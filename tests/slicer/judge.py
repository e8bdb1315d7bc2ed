"""The interpreter with 3D Slicer's core and Qt, where there is one: `python3 bootstrap.py slicer` makes it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.tiny import ROOT

OWN = ROOT / ".venv-slicer" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PYTHON = os.environ.get("MEDSEG_SLICER_PYTHON") or (str(OWN) if OWN.exists() else "")
needed = pytest.mark.skipif(
    not PYTHON, reason="no interpreter with 3D Slicer's core: `python3 bootstrap.py slicer`, or MEDSEG_SLICER_PYTHON"
)


def environment() -> dict[str, str]:
    """For processes of that interpreter. They are told which Python has medseg: `MEDSEG_PYTHON`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    paths = [str(ROOT / "slicer" / "MedSeg"), str(ROOT / "tests" / "slicer" / "shim")]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "MEDSEG_PYTHON": sys.executable,
        "MEDSEG_ROOT": str(Path(ROOT)),
        "QT_QPA_PLATFORM": "offscreen",
        "QT_LOGGING_RULES": "*.debug=false",
    }
