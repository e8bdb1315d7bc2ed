"""What a split by slice over-estimates: the sums and who may ask; end_to_end/test_leakage.py finds it on data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.engine import leakage
from medseg.engine.assess import Pooled
from medseg.labels import IGNORE
from medseg.prediction import Evidence
from tests import tiny

KNOWING, WRONG, CLUELESS = (0.9, 0.1), (0.1, 0.9), (0.5, 0.5)
"""Probabilities of two slices, of which the first shows a tumour."""


def patient(name: str, chances: tuple[float, ...], truth: tuple[int, ...] = (1, 0)) -> Evidence:
    return Evidence(name, name, np.array([truth], np.uint8), np.array([chances], np.float32))


def compared(by_patient: list[Evidence], by_slice: list[Evidence]) -> dict[str, Pooled]:
    """What was pooled -> the mean over the classes, of which there is one."""
    result = leakage.Leakage(tuple(leakage.rows(by_patient, by_slice, ("tumour",))))
    assert [one.row for one in result.rows] == ["tumour", "mean"] * 3
    assert {one.metric for one in result.rows} == {"auroc"}
    found = {one.over: one for one in result.rows if one.row == "mean"}
    assert result.gap() == found["over-estimation"] and result.gap("tumour").row == "tumour"
    return found


def numbers(one: Pooled) -> list[float]:
    return [one.value, one.low, one.high]


def test_the_gap_is_by_slice_less_by_patient() -> None:
    """Right everywhere against undecided everywhere: 1 less 0.5, whoever is drawn."""
    found = compared([patient(name, CLUELESS) for name in "abcd"], [patient(name, KNOWING) for name in "abcd"])
    assert numbers(found["patients divided"]) == [0.5, 0.5, 0.5]
    assert numbers(found["slices divided at random"]) == [1, 1, 1]
    assert numbers(found["over-estimation"]) == [0.5, 0.5, 0.5]


def test_the_interval_of_the_gap_draws_patients() -> None:
    """One patient right and one wrong: both drawn 0.5, one of them twice 1 or 0, so that the gap reaches from 0 to 1
    and may be none."""
    found = compared([patient("a", KNOWING), patient("b", WRONG)], [patient("a", KNOWING), patient("b", KNOWING)])
    assert numbers(found["patients divided"]) == [0.5, 0, 1]
    assert numbers(found["over-estimation"]) == [0.5, 0, 1]


def test_a_split_by_slice_that_is_worse_has_a_gap_below_zero() -> None:
    found = compared([patient("a", KNOWING), patient("b", KNOWING)], [patient("a", WRONG), patient("b", WRONG)])
    assert numbers(found["over-estimation"]) == [-1, -1, -1]


def test_slices_of_the_training_side_do_not_count() -> None:
    """They are marked as not known; without the mark, the third slice would lower the AUROC to a half."""
    seen = [patient(name, (0.9, 0.1, 0.95), (1, 0, IGNORE)) for name in "ab"]
    assert numbers(compared([patient(name, CLUELESS) for name in "ab"], seen)["slices divided at random"]) == [1, 1, 1]


def test_only_slice_classifiers_can_be_asked(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data"))
    said = tiny.medseg_command("leakage", recipe, "--out", tmp_path / "out")
    assert said.code == 2 and "labels of unit voxel" in said.err and "unit slice" in said.err
    assert not (tmp_path / "out").exists()
