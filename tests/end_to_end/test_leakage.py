"""`medseg leakage` on PET/CT slices: a split by slice promises too much where slices of a patient resemble one another,
and nothing where they do not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import ROOT, medseg_command

RECIPE = ROOT / "pipelines" / "small" / "resnet18_lymphoma.yaml"
OVER = ("patients divided", "slices divided at random", "over-estimation")


def control(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As many slices as in sample_data, each with an appearance and a chance of a tumour of its own."""
    monkeypatch.syspath_prepend(ROOT / "sample_data")
    try:
        from phantoms import lymphoma_pet

        lymphoma_pet.write(folder, correlated=False)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "phantoms"]:
            del sys.modules[name]
    return folder


def compared(root: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Run the command; what was pooled -> its row of leakage.json."""
    words = (f"dataset.root={root}", f"cache={out / 'cache'}", "prepare.workers=0", "train.threads=2")
    said = medseg_command("leakage", RECIPE, *words, "--out", out / "runs")
    assert said.code == 0, said.err
    rows = json.loads((out / "runs" / "leakage.json").read_text())
    found = {row["over"]: row for row in rows if row["row"] == "mean"}
    assert tuple(found) == OVER
    page = (out / "runs" / "report.html").read_text()
    for row in found.values():
        assert f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in page, "value with interval"
        assert row["over"] in page and row["over"] in said.out
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_split_by_slice_over_estimates_where_slices_resemble_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property
) -> None:
    monkeypatch.chdir(ROOT)
    found = compared(ROOT / "sample_data" / "lymphoma_pet", tmp_path)
    record_property("leakage", json.dumps(found))
    assert found["over-estimation"]["low"] > 0, found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_does_not_where_every_slice_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property
) -> None:
    monkeypatch.chdir(ROOT)
    found = compared(control(tmp_path / "control", monkeypatch), tmp_path)
    record_property("leakage", json.dumps(found))
    assert found["over-estimation"]["low"] < 0 < found["over-estimation"]["high"], found
