"""Values as people read them: numbers with sensible digits, and words where there is no number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

UNDEFINED = "undefined"
INFINITE = "infinite: one mask empty"


def value(given: object, *, digits: int | None = None) -> str:
    """A value for a page: NaN and infinity in words, whole numbers as they are, three digits where they matter.
    `digits` after the point, if given, makes the numbers of one column alike.

    Infinity is what a distance metric yields when exactly one of two masks is empty; the words say so.

    Example:
        >>> [value(v) for v in (0.91234, 41.26, 0.0003, 7, float("nan"), None, "n/a")]
        ['0.912', '41.3', '0.0003', '7', 'undefined', '–', 'n/a']
    """
    if given is None:
        return "–"
    if isinstance(given, bool) or not isinstance(given, Real):
        return str(given)
    if isinstance(given, Integral):
        return str(int(given))
    number = float(given)
    if math.isnan(number):
        return UNDEFINED
    if math.isinf(number):
        return INFINITE if number > 0 else "minus infinity"
    if digits is not None:
        return f"{number:,.{digits}f}"
    size = abs(number)
    if 0 < size < 0.01:
        return f"{number:.3g}"
    return f"{number:.3f}" if size < 10 else f"{number:,.1f}" if size < 1000 else f"{number:,.0f}"


def digits_for(values: Iterable[object]) -> int | None:
    """How many digits after the point suit all of these numbers together; None leaves it to each."""
    sizes = [abs(float(v)) for v in values if isinstance(v, Real) and not isinstance(v, Integral) and math.isfinite(v)]
    largest = max(sizes, default=0.0)
    if largest < 0.01:
        return None
    return 3 if largest < 2 else 2 if largest < 100 else 1


def is_number(given: object) -> bool:
    """Whether a value is a number at all (NaN and infinity included); True and False are not."""
    return isinstance(given, Real) and not isinstance(given, bool)
