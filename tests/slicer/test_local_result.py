"""What a program on this machine has written, before Slicer reads it."""

from __future__ import annotations

import gzip
import os
import sys

import pytest

from MedSegLib.local import Local
from MedSegLib.work import DONE, FAILED, Order
from tests.slicer.program import finished

WRITES = """
import pathlib, sys
out = pathlib.Path(sys.argv[-1])
(out / "x.seg.nrrd").write_bytes(bytes.fromhex({0!r}))
(out / "x.entropy.nii.gz").write_bytes(bytes.fromhex({1!r}))
(out / "x.csv").write_text("probability")
(out / "predict.json").write_text('{{"cases": [{{"state": "done", "files": ["x.seg.nrrd", "x.entropy.nii.gz", "x.csv"],'
    '"facts": {{}}, "seconds": 1, "stages": {{}}}}]}}')
"""
"""A program that says it is done, whatever it has written."""


def packed() -> list[bytes]:
    """Two files: after a header, and in several members; of zeros that are unpacked in several goes."""
    zeros = gzip.compress(bytes(40 << 20))
    return [b"NRRD0004\nencoding: gzip\n\n" + zeros, zeros + gzip.compress(os.urandom(3 << 20))]


@pytest.mark.parametrize(("number", "cut"), [(0, 0), (0, 9), (1, 9), (0, None), (1, None)])
def test_a_result_that_is_not_whole_is_refused_before_slicer_reads_it(tmp_path, number, cut):
    """Slicer's reader of segmentations would end Slicer, and the one of volumes would show what is left."""
    files, order = packed(), Order("t", "m", (), tmp_path / "o")
    if cut is None:
        files[number] = files[number][:-200] + b"\xff" * 100 + files[number][-100:]
    elif cut:
        files[number] = files[number][:-cut]
    (tmp_path / "writes.py").write_text(WRITES.format(*(one.hex() for one in files)), encoding="utf-8")
    outcome = finished(Local([sys.executable, str(tmp_path / "writes.py")]).start(order))[-1]
    if cut == 0:
        assert outcome.state == DONE and len(outcome.files) == 3, outcome.failure
        return
    name = ("x.seg.nrrd", "x.entropy.nii.gz")[number]
    assert (outcome.state, outcome.failure.what) == (FAILED, f"The result {name} is cut short or damaged.")
    assert not list((tmp_path / "o").iterdir())
