"""Intensity normalisation of one channel: numbers from the plan or from the scan, then one affine map of the values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medseg.plan import Normalisation
from medseg.refusal import Refusal

NEEDS: dict[str, tuple[str, ...]] = {
    "ct": ("lower", "upper", "mean", "sd"),
    "window": ("lower", "upper"),
    "fixed": ("mean", "sd"),
    "suv": ("sd",),
}
"""Numbers that a kind takes from the plan; the other kinds find theirs in each scan."""

PERCENTILES = (0.5, 99.5)
RELATIVE_SD = 1e-6
"""A spread below this part of the values' size is rounding noise of float32: the channel is constant."""


class Scale(NamedTuple):
    """The map `(clip(x, lower, upper) - mean) / sd`; no clipping where a bound is None."""

    lower: float | None
    upper: float | None
    mean: float
    sd: float
    keep_zero: bool = False
    """Voxels that are 0 stay 0 (they are outside the skull-stripped head)."""


def scale(array: np.ndarray, how: Normalisation) -> Scale:
    """The numbers that normalise one channel.

    Args:
        array: (I, J, K); statistics add up in memory order, so pass a contiguous array in canonical orientation if the
            result must not depend on how the file was laid out.
        how: what the plan says.

    Raises:
        Refusal: the plan lacks a number that this kind needs, or its bounds or sd make no sense.
    """
    _check(how)
    match how.kind:
        case "ct" | "fixed":
            return _scale(how.lower, how.upper, how.mean or 0.0, how.sd or 1.0)
        case "window":
            return _between(how.lower or 0.0, how.upper or 0.0)
        case "suv":
            return _scale(how.lower, how.upper, how.mean or 0.0, how.sd or 1.0)
        case "percentile":
            lower, upper = np.percentile(array, PERCENTILES)
            return _between(float(lower), float(upper))
        case "zscore":
            return _spread(array, how, keep_zero=False)
        case "zscore_nonzero":
            return _spread(array[array != 0], how, keep_zero=True)
    return _scale(how.lower, how.upper, 0.0, 1.0)


def normalise(array: np.ndarray, how: Normalisation) -> None:
    """Normalise one float32 channel (I, J, K) in place. A constant channel becomes 0 (`zscore`), never NaN."""
    numbers = scale(array, how)
    background = array == 0 if numbers.keep_zero else None
    if numbers.lower is not None or numbers.upper is not None:
        np.clip(array, numbers.lower, numbers.upper, out=array)
    array -= np.float32(numbers.mean)
    array /= np.float32(numbers.sd)
    if background is not None:
        array[background] = 0


def _scale(lower: float | None, upper: float | None, mean: float, sd: float) -> Scale:
    """A division by next to nothing would turn rounding noise into signal, so a constant channel is only shifted."""
    size = max(1e-12, abs(mean))
    return Scale(lower, upper, mean, sd if sd > RELATIVE_SD * size else 1.0)


def _between(lower: float, upper: float) -> Scale:
    """Bounds to 0 and 1."""
    spread = upper - lower
    size = max(abs(lower), abs(upper), 1e-12)
    return Scale(lower, upper, lower, spread if spread > RELATIVE_SD * size else 1.0)


def _spread(values: np.ndarray, how: Normalisation, *, keep_zero: bool) -> Scale:
    """Mean and standard deviation of the clipped values, summed in float64."""
    if values.size == 0:
        return Scale(how.lower, how.upper, 0.0, 1.0, keep_zero)
    if how.lower is not None or how.upper is not None:
        values = np.clip(values, how.lower, how.upper)
    mean = float(values.mean(dtype=np.float64))
    sd = float(values.std(dtype=np.float64))
    return _scale(how.lower, how.upper, mean, sd)._replace(keep_zero=keep_zero)


def _check(how: Normalisation) -> None:
    missing = [name for name in NEEDS.get(how.kind, ()) if getattr(how, name) is None]
    bounds = how.lower is not None and how.upper is not None and how.lower >= how.upper
    if missing or bounds or (how.sd is not None and how.sd <= 0):
        raise Refusal(
            f"normalisation '{how.kind}'",
            found=f"no {' and no '.join(missing)}" if missing else f"bounds {how.lower} to {how.upper}, sd {how.sd}",
            needed="lower < upper and sd > 0, with all of "
            + ", ".join(NEEDS.get(how.kind, ("kind",)))
            + " given in the plan",
            remedy="correct the plan, or let `normalisation: auto` work the numbers out from the training set",
        )
