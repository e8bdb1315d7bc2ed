"""What every metric of the registry keeps to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from medseg import plugins
from medseg.pair import Pair

NAMES = plugins.names("metrics")
SETS = tuple(name for name in NAMES if hasattr(plugins.find("metrics", name), "OVER"))
EACH = pytest.mark.parametrize("name", [name for name in NAMES if name not in SETS])
SPACING = np.array([0.9, 1.1, 2.5])
RNG = np.random.default_rng(11)
TRUTH = RNG.random((7, 8, 5)) < 0.4
PREDICTED = TRUTH ^ (RNG.random(TRUTH.shape) < 0.1)
EMPTY = np.zeros_like(TRUTH)
THINNED = ("cldice",)
"""Thinning takes the axes in turn."""
BETTER = ("higher", "lower", "nearer zero", "neither")


def measure(name: str, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    metric = plugins.find("metrics", name)
    return metric.compute(Pair.of(truth, predicted, spacing_mm=SPACING, label="a"), metric.Options())


def test_the_list_equals_the_folder():
    assert tuple(sorted(file.stem for file in (plugins.PACKAGE / "metrics").glob("[!_]*.py"))) == NAMES


@EACH
def test_says_what_it_is(name):
    metric = plugins.find("metrics", name)
    assert plugins.summary("metrics", name)
    assert metric.NUMBERS and all(number.better in BETTER for number in metric.NUMBERS.values())
    assert isinstance(metric.NEEDS_MM, bool)
    assert all(part in metric.__doc__ for part in ("Unit: ", "Empty masks: ", "Source: "))
    assert all(field.description for field in metric.Options.model_fields.values())
    with pytest.raises(ValidationError):
        metric.Options(no_such_option=1)


def test_every_number_has_one_name():
    numbers = [number for name in NAMES if name not in SETS for number in plugins.find("metrics", name).NUMBERS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", SETS)
def test_what_looks_at_all_cases_says_what_it_is(name):
    metric = plugins.find("metrics", name)
    assert plugins.summary("metrics", name)
    assert metric.OVER == "set"
    assert isinstance(metric.UNIT, str)
    assert isinstance(metric.HIGHER_IS_BETTER, bool)
    assert isinstance(metric.INTERVAL, bool)
    assert all(part in metric.__doc__ for part in ("Unit: ", "nan where", "Source: "))
    assert all(field.description for field in metric.Options.model_fields.values())
    with pytest.raises(ValidationError):
        metric.Options(no_such_option=1)


@EACH
def test_a_perfect_answer_is_at_least_as_good_as_any(name):
    perfect, other = measure(name, TRUTH, TRUTH), measure(name, TRUTH, PREDICTED)
    numbers = plugins.find("metrics", name).NUMBERS
    assert list(perfect) == list(other) == list(numbers)
    for number, about in numbers.items():
        assert isinstance(other[number], float) and math.isfinite(other[number])
        gain = {
            "higher": perfect[number] - other[number],
            "lower": other[number] - perfect[number],
            "nearer zero": abs(other[number]) - abs(perfect[number]),
            "neither": 0,
        }[about.better]
        assert gain >= 0


@EACH
@pytest.mark.parametrize(("truth", "predicted"), [(EMPTY, EMPTY), (EMPTY, TRUTH), (TRUTH, EMPTY)])
def test_empty_masks_raise_nothing(name, truth, predicted):
    found = measure(name, truth, predicted)
    assert list(found) == list(plugins.find("metrics", name).NUMBERS)
    assert all(isinstance(value, float) for value in found.values())


@EACH
def test_the_order_of_the_axes_does_not_matter_and_masks_stay_as_they_are(name):
    truth, predicted = TRUTH.copy(), PREDICTED.copy()
    metric = plugins.find("metrics", name)
    turned = Pair.of(truth.transpose(2, 0, 1), predicted.transpose(2, 0, 1), spacing_mm=SPACING[[2, 0, 1]], label="a")
    found = metric.compute(turned, metric.Options())
    assert found == pytest.approx(measure(name, truth, predicted), rel=0.1 if name in THINNED else 1e-9)
    assert (truth == TRUTH).all()
    assert (predicted == PREDICTED).all()
