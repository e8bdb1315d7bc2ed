"""Paths along vessels, on lines that can be followed by eye."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.labels import IGNORE
from medseg.metrics import vessel_paths
from medseg.metrics.vessel_paths import CentreLine
from medseg.prediction import Evidence

NAMES = ("artery", "vein", "vessel")
EMPTY = np.zeros((20, 60), bool)


def picture(*masks: np.ndarray) -> np.ndarray:
    return np.stack([*masks, *[EMPTY] * (3 - len(masks))])


def measure(truth: np.ndarray, predicted: np.ndarray, **options) -> dict[str, float]:
    case = Evidence("a", "a", truth.astype(np.uint8), predicted.astype(np.float32))
    return vessel_paths.compute([case], names=NAMES, options=vessel_paths.Options(**options))


def line(row: int = 10, first: int = 5, last: int = 55) -> np.ndarray:
    mask = EMPTY.copy()
    mask[row, first:last] = True
    return mask


def test_the_truth_is_followed_everywhere():
    found = measure(picture(line(), line(5), line() | line(5)), picture(line(), line(5), line() | line(5)))
    assert found == {
        f"{name}: {what}": float(what == "correct") for name in NAMES for what in ("infeasible", "correct")
    }


def test_nothing_predicted_leaves_no_path():
    found = measure(picture(line()), picture())
    assert (found["artery: infeasible"], found["artery: correct"]) == (1, 0)


def test_a_gap_breaks_the_paths_across_it():
    # Two halves of 25 pixels without the gap of one: a pair is in one half with a chance of about one half.
    broken = line()
    broken[10, 30] = False
    found = measure(picture(line()), picture(broken), paths=1000)
    assert found["artery: infeasible"] == pytest.approx(0.52, abs=0.05)
    assert found["artery: correct"] == 1 - found["artery: infeasible"]


def test_a_detour_is_neither():
    # Between columns 15 and 45 the prediction goes up 9 rows and down again. Of 50 true pixels 11 lie on its left end
    # and 10 on its right, so that a pair on both sides has a chance of 2 * 11/50 * 10/50.
    detour = line(10, 5, 16) | line(10, 45, 55) | line(1, 15, 46)
    detour[1:11, 15] = detour[1:11, 45] = True
    found = measure(picture(line()), picture(detour), paths=2000)
    assert 1 - found["artery: correct"] - found["artery: infeasible"] == pytest.approx(0.088, abs=0.02)


def test_paths_stay_within_one_true_vessel():
    found = measure(picture(line(5) | line(15)), picture(line(5) | line(15)), paths=200)
    assert found["artery: infeasible"] == 0


def test_a_label_that_no_case_has_is_undefined():
    found = measure(picture(line()), picture(line(), line()))
    assert math.isnan(found["vein: infeasible"]) and math.isnan(found["vein: correct"])
    assert all(
        math.isnan(value) for value in vessel_paths.compute([], names=NAMES, options=vessel_paths.Options()).values()
    )


def test_cases_without_the_vessel_take_no_part_in_the_mean():
    cases = [
        Evidence(name, name, truth.astype(np.uint8), picture(line()).astype(np.float32))
        for name, truth in (("a", picture(line())), ("b", picture()), ("c", picture(line(3))))
    ]
    found = vessel_paths.compute(cases, names=NAMES, options=vessel_paths.Options())
    assert found["artery: infeasible"] == 1 / 2


def test_uncertain_vessels_may_carry_a_path_and_what_lies_outside_may_not():
    truth = picture(line(), EMPTY, line()).astype(np.uint8)
    truth[0, 10, 25:35] = IGNORE  # the middle is a vessel that may be artery or vein, so two true pieces are left
    assert measure(truth, picture(line(), EMPTY, line()))["artery: infeasible"] == 0
    loop = EMPTY.copy()
    loop[0, 5:55] = loop[:11, 5] = loop[:11, 54] = True
    broken = line()
    broken[10, 30] = False
    assert measure(picture(line()), picture(broken | loop))["artery: infeasible"] < 0.1
    outside = picture(line()).astype(np.uint8)
    outside[:, 0] = IGNORE
    assert measure(outside, picture(broken | loop))["artery: infeasible"] > 0.3


def test_the_seed_alone_decides():
    broken = line()
    broken[10, 30] = False
    results = [measure(picture(line()), picture(broken), seed=seed)["artery: correct"] for seed in (1, 1, 2, 3)]
    assert results[0] == results[1]
    assert len(set(results)) > 1


def test_centre_lines_measure_along_themselves():
    mask = np.zeros((6, 6), bool)
    mask[0, :3] = True
    mask[[1, 2], [3, 4]] = True  # two pixels to the right, then three steps down to the right
    mask[3, 5] = True
    mask[5, 0] = True
    centre = CentreLine(mask)
    assert centre.points.tolist() == [[0, 0], [0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [5, 0]]
    assert centre.length(0, 5) == pytest.approx(2 + 3 * math.sqrt(2))
    assert centre.length(5, 0) == pytest.approx(centre.length(0, 5))
    assert centre.length(0, 6) == math.inf
    assert centre.nearest(np.array([4, 1]), np.arange(7)) == 6
    assert centre.nearest(np.array([4, 1]), np.arange(6)) == 3  # pixel 4 is as near
