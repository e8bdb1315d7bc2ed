"""Metrics over a set of cases, on numbers that can be checked on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg import plugins
from medseg.labels import IGNORE
from medseg.prediction import Evidence


def measure(name: str, cases: list[Evidence], names: tuple[str, ...], **options) -> dict[str, float]:
    metric = plugins.find("metrics", name)
    return metric.compute(cases, names=names, options=metric.Options(**options))


def yes_or_no(truth: list[int], probabilities: list[float]) -> list[Evidence]:
    """Images with one label."""
    return [
        Evidence(f"{place}", f"{place}", np.array([[there]], np.uint8), np.array([[p]], np.float32))
        for place, (there, p) in enumerate(zip(truth, probabilities, strict=True))
    ]


def classes(truth: list[int], probabilities: list[tuple[float, ...]]) -> list[Evidence]:
    """Images of one class each; the number IGNORE: not known."""
    count = len(probabilities[0])
    return [
        Evidence(
            f"{place}",
            f"{place}",
            np.array([IGNORE if number == IGNORE else number == row for row in range(count)], np.uint8)[:, None],
            np.array(chances, np.float32)[:, None],
        )
        for place, (number, chances) in enumerate(zip(truth, probabilities, strict=True))
    ]


# Of 4 positives and 6 negatives; at one half 3 are found, with 2 false alarms.
TRUTH = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
CHANCES = [0.9, 0.8, 0.7, 0.3, 0.85, 0.6, 0.4, 0.2, 0.1, 0.05]
SOME = yes_or_no(TRUTH, CHANCES)
THREE = classes(
    [0, 0, 1, 1, 2, IGNORE],
    [(0.8, 0.1, 0.1), (0.3, 0.5, 0.2), (0.1, 0.8, 0.1), (0.2, 0.6, 0.2), (0.1, 0.6, 0.3), (0.0, 1.0, 0.0)],
)
"""Right, 0 taken for 1, right, right, 2 taken for 1, not known."""
NAMES = ("a", "b", "c")


def test_auroc_counts_pairs():
    # Positives above negatives: 6 + 5 + 5 + 3 of 24 pairs.
    assert measure("auroc", SOME, ("x",)) == pytest.approx({"x": 19 / 24, "mean": 19 / 24})
    assert measure("auroc", yes_or_no([1, 0], [0.5, 0.5]), ("x",))["x"] == 0.5


def test_auprc_is_the_mean_precision_at_the_positives():
    # The positives are 1st, 3rd, 4th and 7th of all: precisions 1, 2/3, 3/4, 4/7.
    expected = (1 + 2 / 3 + 3 / 4 + 4 / 7) / 4
    assert measure("auprc", SOME, ("x",)) == pytest.approx({"x": expected, "mean": expected})


@pytest.mark.parametrize("name", ["auroc", "auprc"])
def test_means_leave_out_labels_that_cannot_be_ranked(name):
    cases = classes([0, 1, 0, 1], [(0.8, 0.2, 0), (0.3, 0.7, 0), (0.9, 0.1, 0), (0.2, 0.8, 0)])
    found = measure(name, cases, NAMES)
    assert (found["a"], found["b"], found["mean"]) == (1, 1, 1) and math.isnan(found["c"])
    assert all(math.isnan(value) for value in measure(name, cases[:1], NAMES).values())


def test_answers_of_yes_or_no_are_counted():
    found = measure("classification", SOME, ("x",))
    assert found == pytest.approx(
        {
            "accuracy": 7 / 10,
            "x: sensitivity": 3 / 4,
            "x: specificity": 4 / 6,
            "x: precision": 3 / 5,
            "x: F1": 2 * 3 / (4 + 5),
        }
    )


def test_a_threshold_is_an_operating_point():
    found = measure("classification", SOME, ("x",), threshold=0.65)
    assert (found["x: sensitivity"], found["x: specificity"]) == pytest.approx((3 / 4, 5 / 6))
    two = classes([1, 0], [(0.7, 0.3), (0.9, 0.1)])
    assert measure("classification", two, ("no", "yes"))["yes: sensitivity"] == 0
    assert measure("classification", two, ("no", "yes"), threshold=0.2)["yes: sensitivity"] == 1


def test_one_half_is_no_yes():
    assert measure("classification", yes_or_no([1, 0], [0.5, 0.5]), ("x",))["accuracy"] == 0.5


def test_the_likeliest_of_several_classes_is_the_answer():
    found = measure("classification", THREE, NAMES)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["a: sensitivity"] == 1 / 2 and found["a: precision"] == 1 and found["a: specificity"] == 1
    assert found["b: sensitivity"] == 1 and found["b: precision"] == 2 / 4 and found["b: specificity"] == 1 / 3
    assert found["c: sensitivity"] == 0 and math.isnan(found["c: precision"]) and found["c: F1"] == 0
    assert found["mean: F1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert found["mean: sensitivity"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["mean: precision"] == pytest.approx((1 + 1 / 2) / 2)


def test_of_classes_that_do_not_exclude_each_other_every_answer_counts():
    # Two labels in two images: both there and both found; none there, and one of them found.
    cases = [
        Evidence("1", "1", np.array([[1], [1]], np.uint8), np.array([[0.9], [0.8]], np.float32)),
        Evidence("2", "2", np.array([[0], [0]], np.uint8), np.array([[0.6], [0.2]], np.float32)),
    ]
    found = measure("classification", cases, ("a", "b"))
    assert found["accuracy"] == 3 / 4 and found["a: precision"] == 1 / 2 and found["b: precision"] == 1


def test_confusion_of_classes():
    found = measure("confusion", THREE, NAMES)
    nonzero = {row: count for row, count in found.items() if count}
    assert nonzero == {
        "true a -> predicted a": 1,
        "true a -> predicted b": 1,
        "true b -> predicted b": 2,
        "true c -> predicted b": 1,
    }
    assert len(found) == 9


def test_confusion_of_yes_or_no():
    assert measure("confusion", SOME, ("x",)) == {
        "true x -> predicted x": 3,
        "true x -> predicted not x": 1,
        "true not x -> predicted x": 2,
        "true not x -> predicted not x": 4,
    }


def test_calibration_of_yes_or_no():
    # Two bins: 0.2, 0.4 and 0.5 (an edge belongs to the bin below it) with one positive, 0.6 and 0.9 with two.
    cases = yes_or_no([0, 0, 1, 1, 1], [0.2, 0.4, 0.5, 0.6, 0.9])
    found = measure("calibration", cases, ("x",), bins=2)
    assert found["ECE"] == pytest.approx((abs(1.1 - 1) + abs(1.5 - 2)) / 5)
    assert found["x: Brier"] == pytest.approx((0.2**2 + 0.4**2 + 0.5**2 + 0.4**2 + 0.1**2) / 5)


def test_calibration_of_classes_is_that_of_the_likeliest():
    # Likeliest: 0.8 right, 0.5 wrong, 0.8 right, 0.6 right, 0.6 wrong: bins at 0.5, 0.6 and 0.8.
    found = measure("calibration", THREE, NAMES)
    assert found["ECE"] == pytest.approx((abs(0.5 - 0) + abs(1.2 - 1) + abs(1.6 - 2)) / 5, abs=1e-6)
    assert found["c: Brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.1**2 + 0.2**2 + 0.7**2) / 5)


def test_certain_answers_are_perfectly_calibrated_or_not_at_all():
    right, wrong = yes_or_no([0, 1], [0.0, 1.0]), yes_or_no([1, 0], [0.0, 1.0])
    assert measure("calibration", right, ("x",)) == {"ECE": 0, "x: Brier": 0}
    assert measure("calibration", wrong, ("x",))["x: Brier"] == 1


def test_screening_on_paper():
    # Negatives 0.85, 0.6, 0.4, ...: with 5 of 6 uncalled the threshold is 0.6, with all of them 0.85.
    found = measure("screening", SOME, ("x",), specificities=(5 / 6, 0.9, 1, 0.01))
    assert list(found.values())[:4] == [3 / 4, 1 / 4, 1 / 4, 1]
    assert list(found)[1] == "x: sensitivity at specificity 0.9"
    # Thresholds lie half-way to the next score, so that the score at the border is called whether > or >= is asked.
    assert found["x: threshold for specificity 0.9"] == pytest.approx((0.85 + 0.9) / 2)
    # Youden: above 0.6 three of four are found and five of six spared; no other threshold has a higher sum.
    assert found["x: value of Youden's threshold"] == pytest.approx((0.6 + 0.7) / 2)
    assert found["x: sensitivity at Youden's threshold"] == 3 / 4
    assert found["x: specificity at Youden's threshold"] == pytest.approx(5 / 6)
    at_it = measure("classification", SOME, ("x",), threshold=found["x: value of Youden's threshold"])
    assert (at_it["x: sensitivity"], at_it["x: specificity"]) == (3 / 4, 5 / 6)


def test_screening_counts_shares_that_binary_fractions_miss():
    # 45 of 100 negatives may be called, and are, at a threshold that finds the positive. In binary, 0.55 * 100 > 55.
    cases = yes_or_no([1] + [0] * 100, [0.5, *[0.9] * 45, *[0.1] * 55])
    found = measure("screening", cases, ("x",), specificities=(0.55, 0.56))
    assert list(found.items())[:2] == [
        ("x: sensitivity at specificity 0.55", 1),
        ("x: sensitivity at specificity 0.56", 0),
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=40), st.floats(0.01, 1))
def test_screening_equals_trying_every_threshold(pairs, specificity):
    truth, scores = np.array([there for there, _ in pairs]), np.array([score / 20 for _, score in pairs], np.float32)
    found = measure("screening", yes_or_no(truth.astype(int), scores), ("x",), specificities=(specificity,))
    best = math.nan
    if truth.any() and not truth.all():
        for threshold in [-1.0, *scores]:
            called = scores > threshold
            if np.mean(~called[~truth]) >= specificity - 1e-12:
                best = np.nanmax([best, np.mean(called[truth])])
    assert next(iter(found.values())) == pytest.approx(best, nan_ok=True)


def test_uncertainty_on_paper():
    """Doubt falls with the distance from one half: 0.95, 0.88, 0.22, 0.75, 0.35, 0.41. Wrong are 0.88 and 0.35."""
    cases = yes_or_no([1, 1, 1, 0, 0, 0], [0.95, 0.75, 0.35, 0.88, 0.22, 0.41])
    found = measure("uncertainty", cases, ("x",), shares=(0.5, 0.8))
    assert found["AUROC of the most certain 50%"] == 1  # 0.95 against 0.88 and 0.22
    assert found["AUROC of the most certain 80%"] == pytest.approx(4 / 6)  # five of six: all but 0.41
    # 0.35 is in more doubt than three of the four right ones, 0.88 than one.
    assert found["errors told by doubt"] == pytest.approx(4 / 8)
    doubts = {p: -p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.95, 0.75, 0.35, 0.88, 0.22, 0.41)}
    assert found["entropy of wrong answers"] == pytest.approx((doubts[0.88] + doubts[0.35]) / 2, abs=1e-6)
    right = [doubts[p] for p in (0.95, 0.75, 0.22, 0.41)]
    assert found["entropy of right answers"] == pytest.approx(sum(right) / 4, abs=1e-6)


def test_uncertainty_of_classes_is_that_of_their_distribution():
    found = measure("uncertainty", THREE, NAMES)
    chances = (0.3, 0.5, 0.2), (0.1, 0.6, 0.3)
    wrong = sum(-p * math.log(p) for row in chances for p in row) / 2
    assert found["entropy of wrong answers"] == pytest.approx(wrong, abs=1e-6)


def test_equally_certain_places_are_kept_together():
    """Two of four are asked for, but three have the same doubt: all three stay, whatever the order."""
    cases = yes_or_no([1, 0, 1, 0], [0.75, 0.25, 0.25, 0.5])
    found = {
        measure("uncertainty", order, ("x",), shares=(0.5,))["AUROC of the most certain 50%"]
        for order in (cases, cases[::-1])
    }
    assert found == {0.75}


def test_pooled_overlap_is_not_the_mean_of_the_cases():
    def case(name: str, truth: list[int], found: list[int]) -> Evidence:
        return Evidence(name, name, np.array([truth], np.uint8), np.array([found], np.float32))

    # Dice 6/7 in a large lesion of 4, and 0 in a small one of 1: pooled 2*3 / (5 + 4). One place is not known.
    cases = [case("large", [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]), case("small", [1, 0, IGNORE], [0, 1, 1])]
    found = measure("pooled_overlap", cases, ("x",))
    assert found == pytest.approx(
        {
            "x: Dice": 6 / 9,
            "x: IoU": 3 / 6,
            "x: sensitivity": 3 / 5,
            "x: specificity": 2 / 3,
            "x: accuracy": 5 / 8,
        }
    )
    assert measure("pooled_overlap", cases, ("x",), threshold=1) == pytest.approx(
        {"x: Dice": 0, "x: IoU": 0, "x: sensitivity": 0, "x: specificity": 1, "x: accuracy": 3 / 8}
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pooled_overlap_equals_classification_of_voxels(seed):
    generator = np.random.default_rng(seed)
    cases = [
        Evidence(
            f"{place}",
            f"{place}",
            generator.choice(np.array([0, 1, IGNORE], np.uint8), (2, 4, 3, size)),
            generator.random((2, 4, 3, size), np.float32),
        )
        for place, size in enumerate((1, 3, 2))
    ]
    pooled, voxels = (measure(name, cases, ("a", "b")) for name in ("pooled_overlap", "classification"))
    for name in ("a", "b"):
        assert pooled[f"{name}: Dice"] == pytest.approx(voxels[f"{name}: F1"])
        for score in ("sensitivity", "specificity"):
            assert pooled[f"{name}: {score}"] == pytest.approx(voxels[f"{name}: {score}"])
        dice, iou = pooled[f"{name}: Dice"], pooled[f"{name}: IoU"]
        assert dice == pytest.approx(2 * iou / (1 + iou))
