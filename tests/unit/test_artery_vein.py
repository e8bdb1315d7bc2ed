"""Arteries told from veins, on pictures of a few pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.labels import IGNORE
from medseg.metrics import artery_vein
from medseg.prediction import Evidence
from medseg.refusal import Refusal

NAMES = ("artery", "vein", "vessel")
NONE, ARTERY, VEIN, CROSSING = (0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)
UNCERTAIN, OUTSIDE = (IGNORE, IGNORE, 1), (IGNORE, IGNORE, IGNORE)


def row(*pixels: tuple, chances: list[tuple], case: str = "a") -> Evidence:
    """A picture of one row, pixel by pixel."""
    truth = np.array(pixels, np.uint8).T[:, None]
    return Evidence(case, case, truth, np.array(chances, np.float32).T[:, None])


def measure(*cases: Evidence, **options) -> dict[str, float]:
    return artery_vein.compute(cases, names=NAMES, options=artery_vein.Options(**options))


MIXED = row(
    *[ARTERY] * 3, *[VEIN] * 2, CROSSING, UNCERTAIN, NONE, OUTSIDE,
    chances=[
        (0.9, 0.1, 0.9), (0.6, 0.2, 0.2), (0.3, 0.8, 0.7),  # of three arteries: right, right but not found, wrong
        (0.1, 0.9, 0.9), (0.7, 0.7, 0.9),                   # of two veins: right, undecided (an artery, then)
        (0.0, 1.0, 0.1), (0.0, 1.0, 0.1), (0.2, 0.1, 0.6), (1, 1, 1),
    ],
)  # fmt: skip


def test_vessels_that_are_either_artery_or_vein():
    found = measure(MIXED)
    assert found["all: sensitivity"] == pytest.approx(2 / 3)
    assert found["all: specificity"] == pytest.approx(1 / 2)
    assert found["all: accuracy"] == pytest.approx(3 / 5)
    assert found["all: F1"] == pytest.approx(2 * 2 / (3 + 3))


def test_those_that_were_found_as_vessels():
    found = measure(MIXED)
    assert found["intersection: sensitivity"] == pytest.approx(1 / 2)
    assert found["intersection: specificity"] == pytest.approx(1 / 2)
    assert found["intersection: accuracy"] == pytest.approx(2 / 4)
    assert found["intersection: F1"] == pytest.approx(2 * 1 / (2 + 2))


def test_all_vessels_inside_the_field_of_view():
    found = measure(MIXED)  # 7 vessels, of which 4 are found; one pixel of background, taken for a vessel
    assert found["vessel: sensitivity"] == pytest.approx(4 / 7)
    assert found["vessel: specificity"] == 0
    assert found["vessel: accuracy"] == pytest.approx(4 / 8)


def test_ranks_leave_out_what_is_not_known():
    # Artery: 0.9, 0.6, 0.3, and 0 at the crossing, against 0.1, 0.7 and 0.2: 3 + 2 + 2 + 0 of 12 pairs.
    assert measure(MIXED)["artery: AUROC"] == pytest.approx(7 / 12)
    # As published the uncertain pixel is one more negative, tied with the crossing.
    assert measure(MIXED, as_published=True)["artery: AUROC"] == pytest.approx((7 + 3 + 0.5) / 16)
    # Precision at the positives: 1/1, 2/3, 3/4, 4/7.
    assert measure(MIXED)["artery: AUPR"] == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 7) / 4)


def test_cases_are_pooled():
    one = row(ARTERY, chances=[(1, 0, 1)], case="a")
    three = row(ARTERY, ARTERY, ARTERY, chances=[(0, 1, 1)] * 3, case="b")
    assert measure(one, three)["all: sensitivity"] == 1 / 4


def test_the_truth_scores_one():
    chances = [tuple(float(value == 1) for value in pixel) for pixel in (ARTERY, VEIN, CROSSING, NONE)]
    found = measure(row(ARTERY, VEIN, CROSSING, NONE, UNCERTAIN, OUTSIDE, chances=[*chances, (0.4, 0, 1), (1, 1, 1)]))
    assert set(found.values()) == {1.0}


def test_two_zeros_are_a_class_at_random():
    empty = row(*[ARTERY] * 1000, chances=[(0, 0, 1)] * 1000)
    first, again, other = measure(empty), measure(empty), measure(empty, seed=1)
    assert first["all: sensitivity"] == pytest.approx(0.5, abs=0.08)
    assert first["all: sensitivity"] == again["all: sensitivity"] != other["all: sensitivity"]


def test_the_random_class_flatters_the_published_ranks_alone():
    some = row(ARTERY, NONE, chances=[(0, 0, 1), (0, 0, 0)])
    assert measure(some)["artery: AUROC"] == 0.5
    assert measure(some, as_published=True)["artery: AUROC"] == 1


def test_nothing_to_count_is_undefined():
    found = measure(row(NONE, chances=[(0, 0, 0)]))
    assert {name for name, value in found.items() if math.isnan(value)} == {
        *(f"{pixels}: {what}" for pixels in ("all", "intersection") for what in ("sensitivity", "specificity")),
        *(f"{pixels}: {what}" for pixels in ("all", "intersection") for what in ("accuracy", "F1")),
        *(f"{name}: {what}" for name in NAMES for what in ("AUROC", "AUPR")),
        "vessel: sensitivity",
    }
    assert all(math.isnan(value) for value in measure().values())


def test_pictures_of_the_pipeline_have_columns_first():
    piped = Evidence("a", "a", MIXED.truth.swapaxes(1, 2)[..., None], MIXED.probabilities.swapaxes(1, 2)[..., None])
    assert measure(piped) == measure(MIXED)


@pytest.mark.parametrize("shape", [(2, 4, 4), (3, 4, 4, 2), (3, 4)])
def test_other_labels_and_volumes_are_refused(shape):
    with pytest.raises(Refusal, match="artery, vein and all vessels"):
        measure(Evidence("a", "a", np.zeros(shape, np.uint8), np.zeros(shape, np.float32)))
