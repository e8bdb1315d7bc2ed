"""Areas under curves on scores that can be ordered by hand, and against counting every pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.ranking import auroc, average_precision, precision_recall_area


def test_by_hand():
    # From the top: 0.9 yes, 0.8 no, 0.7 yes, 0.1 no. Pairs (yes above no): 0.9 beats both, 0.7 beats one: 3 of 4.
    # Precision at the two positives: 1/1 and 2/3.
    truth, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert auroc(truth, scores) == 0.75
    assert average_precision(truth, scores) == pytest.approx((1 + 2 / 3) / 2)


def test_ties_count_half_and_make_one_step():
    truth = np.array([True, False, True, False])
    assert auroc(truth, np.ones(4)) == 0.5
    assert average_precision(truth, np.ones(4)) == 0.5
    # 3 yes; 2 yes and 2 no, tied: of two pairs one is won and one is half won.
    assert auroc(np.array([1, 1, 0]), np.array([3, 2, 2])) == 0.75
    assert average_precision(np.array([1, 1, 0]), np.array([3, 2, 2])) == pytest.approx((1 + 2 / 3) / 2)


def test_perfect_and_reversed():
    truth = np.array([[0, 0], [1, 1]])
    assert auroc(truth, truth * 0.3) == average_precision(truth, truth * 0.3) == 1
    assert auroc(truth, -truth) == 0


@pytest.mark.parametrize("measure", [auroc, average_precision, precision_recall_area])
@pytest.mark.parametrize(
    ("truth", "scores"), [([1, 1], [0.1, 0.2]), ([0, 0], [0.1, 0.2]), ([], []), ([0, 1], [0.1, math.nan])]
)
def test_without_both_classes_or_an_order_there_is_no_answer(measure, truth, scores):
    assert math.isnan(measure(np.array(truth), np.array(scores)))


@pytest.mark.parametrize("levels", [3, 50])
def test_equals_counting_all_pairs(levels):
    generator = np.random.default_rng(levels)
    truth, scores = generator.random(120) < 0.3, generator.integers(0, levels, 120) / levels
    pairs = np.sign(scores[truth][:, None] - scores[~truth][None])
    assert auroc(truth, scores) == pytest.approx((pairs + 1).mean() / 2)
    at_least = [scores >= score for score in scores[truth]]
    assert average_precision(truth, scores) == pytest.approx(np.mean([truth[chosen].mean() for chosen in at_least]))


def test_float32_scores_of_many_pixels_do_not_overflow():
    truth = np.arange(200_000) % 2 == 0
    assert auroc(truth, truth.astype(np.float32)) == 1  # 10^10 pairs


def test_shapes_must_match():
    with pytest.raises(ValueError, match="2 truths and 3 scores"):
        auroc(np.zeros(2), np.zeros(3))


def test_straight_lines_between_the_points_are_kinder():
    # Points (recall, precision): (0, 1), (1/2, 1), (1/2, 1/2), (1, 2/3), (1, 1/2).
    truth, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert precision_recall_area(truth, scores) == pytest.approx(1 / 2 + (1 / 2 + 2 / 3) / 2 / 2)
    assert precision_recall_area(truth, np.ones(4)) == pytest.approx(3 / 4)
    assert average_precision(truth, np.ones(4)) == 1 / 2
