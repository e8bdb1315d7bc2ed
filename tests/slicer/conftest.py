"""Files in `inside` run in an environment of their own that has 3D Slicer's core; `test_inside.py` runs them there."""

from __future__ import annotations

import sys

from tests.tiny import ROOT

collect_ignore = ["inside"]
sys.path.append(str(ROOT / "slicer" / "MedSeg"))  # what Slicer does with the folder of a module
