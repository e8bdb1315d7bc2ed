"""Intensity normalisation of one channel: numbers from the plan or from the scan, then one affine map of the values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from torch import Tensor

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
HALF = 1 << 16
"""Values of one half of the 32 bits of a number."""
SIGN = np.uint32(1 << 31)


class Scale(NamedTuple):
    """The map `(clip(x, lower, upper) - mean) / sd`; no clipping where a bound is None."""

    lower: float | None
    upper: float | None
    mean: float
    sd: float
    keep_zero: bool = False
    """Voxels that are 0 stay 0 (they are outside the skull-stripped head)."""


AS_IS = Scale(None, None, 0.0, 1.0)


def scale(slabs: Iterable[np.ndarray], how: Normalisation) -> Scale:
    """The numbers that normalise one channel.

    Args:
        slabs: float32 arrays that are the channel together, and can be gone through twice; statistics add up in their
            order, and in the order of each in memory.
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
            return _between(*percentiles(slabs, PERCENTILES))
        case "zscore":
            return _spread(slabs, how, keep_zero=False)
        case "zscore_nonzero":
            return _spread((slab[slab != 0] for slab in slabs), how, keep_zero=True)
    return _scale(how.lower, how.upper, 0.0, 1.0)


def normalise(values: Tensor, numbers: Scale) -> None:
    """Normalise float32 values in place. A constant channel becomes 0 (`zscore`), never NaN."""
    background = values == 0 if numbers.keep_zero else None
    if numbers.lower is not None or numbers.upper is not None:
        values.clamp_(numbers.lower, numbers.upper)
    values.sub_(numbers.mean).div_(numbers.sd)
    if background is not None:
        values.masked_fill_(background, 0)


def percentiles(slabs: Iterable[np.ndarray], wanted: tuple[float, ...]) -> list[float]:
    """Exact percentiles of float32 values, interpolated between neighbours, without a copy of them all.

    Values are counted by the upper halves of their bits, and then those of the few halves that matter by their lower
    ones. `slabs` is gone through twice.
    """
    counts = np.zeros(HALF, np.int64)
    for slab in slabs:
        counts += np.bincount(_sortable(slab) >> 16, minlength=HALF)
    places = [(counts.sum() - 1) * one / 100 for one in wanted]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    upper = {rank: int(np.searchsorted(np.cumsum(counts), rank, side="right")) for rank in ranks}
    finer = {half: np.zeros(HALF, np.int64) for half in upper.values()}
    for slab in slabs:
        bits = _sortable(slab)
        for half, count in finer.items():
            count += np.bincount(bits[bits >> 16 == half] & (HALF - 1), minlength=HALF)
    values = {}
    for rank, half in upper.items():
        lower = np.searchsorted(np.cumsum(finer[half]), rank - counts[:half].sum(), side="right")
        values[rank] = _value(half << 16 | int(lower))
    pairs = ((values[math.floor(place)], values[math.ceil(place)], place % 1) for place in places)
    return [low + (high - low) * part for low, high, part in pairs]


def _sortable(values: np.ndarray) -> np.ndarray:
    """Whole numbers of 32 bits in the same order as float32 values."""
    bits = values.ravel().view(np.uint32)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def _value(bits: int) -> float:
    """The number whose `_sortable` is `bits`."""
    return float(np.uint32(bits ^ SIGN if bits & SIGN else ~bits & 0xFFFFFFFF).view(np.float32))


def _scale(lower: float | None, upper: float | None, mean: float, sd: float) -> Scale:
    """A division by next to nothing would turn rounding noise into signal, so a constant channel is only shifted."""
    size = max(1e-12, abs(mean))
    return Scale(lower, upper, mean, sd if sd > RELATIVE_SD * size else 1.0)


def _between(lower: float, upper: float) -> Scale:
    """Bounds to 0 and 1."""
    spread = upper - lower
    size = max(abs(lower), abs(upper), 1e-12)
    return Scale(lower, upper, lower, spread if spread > RELATIVE_SD * size else 1.0)


def _spread(slabs: Iterable[np.ndarray], how: Normalisation, *, keep_zero: bool) -> Scale:
    """Mean and standard deviation of the clipped values in float64: those of each slab, put together (Chan, Golub and
    LeVeque 1979)."""
    size, mean, squares = 0, 0.0, 0.0
    for slab in slabs:
        values = slab if how.lower is None and how.upper is None else np.clip(slab, how.lower, how.upper)
        if values.size:
            away = float(values.mean(dtype=np.float64)) - mean
            total = size + values.size
            squares += float(values.var(dtype=np.float64)) * values.size + away**2 * (size * values.size / total)
            mean += away * (values.size / total)
            size = total
    if not size:
        return Scale(how.lower, how.upper, 0.0, 1.0, keep_zero)
    return _scale(how.lower, how.upper, mean, math.sqrt(squares / size))._replace(keep_zero=keep_zero)


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
