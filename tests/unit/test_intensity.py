"""Normalisation, with numbers a reader can check on paper."""

import numpy as np
import pytest

from medseg.plan import Normalisation
from medseg.refusal import Refusal
from medseg.transforms.intensity import normalise

KINDS = ["ct", "window", "zscore", "zscore_nonzero", "percentile", "suv", "none"]


def after(values, **how) -> list[float]:
    array = np.array(values, np.float32).reshape(1, 1, -1)
    normalise(array, Normalisation(**how))
    return array.flatten().tolist()


def test_each_kind_on_paper():
    assert after([-2000, 50, 900], kind="ct", lower=-100, upper=300, mean=50, sd=50) == [-3, 0, 5]
    assert after([-2000, 100, 900], kind="window", lower=-100, upper=300) == [0, 0.5, 1]
    assert after([1, 3], kind="zscore") == [-1, 1]
    assert after([0, 1, 3, 0], kind="zscore_nonzero") == [0, -1, 1, 0]
    assert after([0, 2.5, 40], kind="suv", sd=5) == [0, 0.5, 8]
    assert after([1, 2, 3], kind="none") == [1, 2, 3]
    thousand = after(range(1001), kind="percentile")
    assert thousand[:6] == [0] * 6 and thousand[-6:] == [1] * 6 and thousand[500] == 0.5


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
