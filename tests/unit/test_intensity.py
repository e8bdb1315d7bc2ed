"""Normalisation, with numbers a reader can check on paper."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from medseg.plan import Normalisation
from medseg.refusal import Refusal
from medseg.transforms.intensity import normalise, percentiles, scale

KINDS = ["ct", "window", "zscore", "zscore_nonzero", "percentile", "suv", "none"]


def after(values, **how) -> list[float]:
    array = np.array(values, np.float32).reshape(1, 1, -1)
    tensor = torch.from_numpy(array.copy())
    normalise(tensor, scale([array[..., :2], array[..., 2:]], Normalisation(**how)))
    return tensor.flatten().tolist()


def test_each_kind_on_paper():
    assert after([-2000, 50, 900], kind="ct", lower=-100, upper=300, mean=50, sd=50) == [-3, 0, 5]
    assert after([-2000, 100, 900], kind="window", lower=-100, upper=300) == [0, 0.5, 1]
    assert after([1, 3], kind="zscore") == [-1, 1]
    assert after([0, 1, 3, 0], kind="zscore_nonzero") == [0, -1, 1, 0]
    assert after([0, 2.5, 40], kind="suv", sd=5) == [0, 0.5, 8]
    assert after([1, 2, 3], kind="none") == [1, 2, 3]
    thousand = after(range(1001), kind="percentile")
    assert thousand[:6] == [0] * 6 and thousand[-6:] == [1] * 6 and thousand[500] == 0.5


@settings(max_examples=100, deadline=None)
@given(
    some.lists(some.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50),
    some.integers(0, 50),
    some.floats(0, 100),
)
def test_percentiles_are_exact_however_the_values_are_cut(values, at, wanted):
    array = np.array(values, np.float32)
    (got,) = percentiles([array[:at], array[at:]], (wanted,))
    place = (len(array) - 1) * wanted / 100
    below, above = np.sort(array.astype(np.float64))[[math.floor(place), math.ceil(place)]]
    assert got == below + (above - below) * (place % 1)
    assert np.isclose(got, np.percentile(array.astype(np.float64), wanted), rtol=1e-6, atol=1e-38)


@settings(max_examples=100, deadline=None)
@given(some.lists(some.lists(some.floats(-1000, 1000, width=16), max_size=9), min_size=1, max_size=5), some.booleans())
def test_mean_and_sd_do_not_depend_on_the_cuts(slabs, nonzero):
    slabs = [np.array(slab, np.float32) for slab in slabs]
    values = np.concatenate(slabs).astype(np.float64).clip(-500, 700)
    counted = values[np.concatenate(slabs) != 0] if nonzero else values
    got = scale(slabs, Normalisation(kind="zscore_nonzero" if nonzero else "zscore", lower=-500, upper=700))
    assert got.keep_zero == nonzero
    if not counted.size:
        assert (got.mean, got.sd) == (0, 1)
    elif counted.std() > 1e-3:
        assert np.allclose([got.mean, got.sd], [counted.mean(), counted.std()], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1.0, -1024.0, 0.1, 1e-7, 3e6])
def test_constant_images_stay_finite(kind, value):
    got = np.array(after([value] * 1000, kind=kind, **({"lower": -5, "upper": 5, "mean": 0, "sd": 2} if kind in
                   ("ct", "window", "suv") else {})))  # fmt: skip
    assert np.isfinite(got).all()
    if kind.startswith("zscore") or kind == "percentile":
        assert np.abs(got).max() <= 1e-6 * max(1, abs(value))


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "ct", "lower": 0, "upper": 1, "mean": 0},
        {"kind": "window", "lower": 5},
        {"kind": "window", "lower": 5, "upper": 5},
        {"kind": "suv"},
        {"kind": "zscore", "sd": 0},
    ],
)
def test_missing_or_senseless_numbers_are_refused(how):
    with pytest.raises(Refusal, match="normalisation"):
        after([1, 2, 3], **how)
