"""Intensity thresholds on arrays that can be checked by eye."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.engine.baseline import apply_thresholds, fit_thresholds, threshold_dice


def test_a_label_that_intensity_separates_is_found_whole() -> None:
    image = np.array([0, 100, 110, 200, 210])
    truth = np.array([0, 1, 1, 2, 2])
    fitted = fit_thresholds([(image, truth)], {"a": 1, "b": 2})
    assert apply_thresholds(image, fitted)["a"].tolist() == [False, True, True, False, False]
    assert threshold_dice(image, truth, fitted, {"a": 1, "b": 2}) == {"a": 1.0, "b": 1.0}


def test_the_interval_is_the_best_of_all_intervals() -> None:
    """Held against trying every interval of a small integer image."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        image, truth = rng.integers(0, 12, 60), rng.integers(0, 2, 60)
        fitted = fit_thresholds([(image, truth)], {"a": 1})

        def dice(low: float, high: float, image: np.ndarray = image, truth: np.ndarray = truth) -> float:
            mask = (image >= low) & (image <= high)
            return 2 * (mask & (truth == 1)).sum() / (mask.sum() + truth.sum())

        best = max(dice(low, high) for low in range(12) for high in range(low, 12))
        assert dice(*fitted["a"]) == pytest.approx(best)


def test_a_label_that_never_occurs() -> None:
    image, truth = np.array([1, 2]), np.array([0, 0])
    fitted = fit_thresholds([(image, truth)], {"a": 1})
    assert fitted["a"] == (math.inf, -math.inf)
    assert math.isnan(threshold_dice(image, truth, fitted, {"a": 1})["a"])


def test_a_constant_image_and_wrong_shapes() -> None:
    assert fit_thresholds([(np.ones(3), np.ones(3))], {"a": 1})["a"][0] <= 1
    with pytest.raises(ValueError, match="pair"):
        fit_thresholds([(np.ones(3), np.ones(4))], {"a": 1})
    with pytest.raises(ValueError, match="pair"):
        fit_thresholds([], {"a": 1})
