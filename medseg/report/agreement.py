"""Bland-Altman charts: how predicted and true volumes agree.

Source: Bland and Altman, Statistical methods for assessing agreement between two methods of clinical measurement,
Lancet 1986. The difference of two measurements over their mean; bias and bias ± 1.96 standard deviations (limits of
agreement, within which 95 % of differences lie if they are normally distributed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from medseg import wording
from medseg.report import svg

REACH = 1.96
FEWEST = 3
"""Cases from which limits of agreement are drawn; of two they would be a guess."""


@dataclass(frozen=True)
class Agreement:
    """Bias and limits of agreement of some differences; limits are NaN for fewer than `FEWEST` cases."""

    bias: float
    low: float
    high: float

    @classmethod
    def of(cls, differences: Sequence[float]) -> Agreement:
        bias = mean(differences)
        reach = REACH * stdev(differences) if len(differences) >= FEWEST else math.nan
        return cls(bias, bias - reach, bias + reach)


def agreement(label: str, pairs: Sequence[tuple[str, float, float]]) -> str:
    """Predicted less true volume over the mean of both, in ml; a dot per case, whose name appears on hovering.

    Args:
        pairs: (case, true ml, predicted ml); those that are not finite are left out.
    """
    known = [pair for pair in pairs if math.isfinite(pair[1]) and math.isfinite(pair[2])]
    if not known:
        return ""
    means = [(truth + predicted) / 2 for _, truth, predicted in known]
    differences = [predicted - truth for _, truth, predicted in known]
    found = Agreement.of(differences)
    drawn = [value for value in (found.bias, found.low, found.high, 0.0) if math.isfinite(value)]
    made = svg.frame(
        f"Bland-Altman chart of {label}: bias {_ml(found.bias)}"
        + (f", 95 % limits of agreement {_ml(found.low)} to {_ml(found.high)}" if math.isfinite(found.low) else ""),
        svg.ticks(min(means), max(means)),
        svg.ticks(min(*differences, *drawn), max(*differences, *drawn)),
        ("mean of both volumes [ml]", "predicted less true [ml]"),
    )
    svg.line(made.root, made.x.start, made.y.at(0), made.x.end, made.y.at(0), "axis")
    for value, kind in ((found.low, "limit"), (found.high, "limit"), (found.bias, "bias")):
        if math.isfinite(value):
            svg.line(made.root, made.x.start, made.y.at(value), made.x.end, made.y.at(value), kind)
    dots = svg.group(made.root, "dot series-1")
    for (case, truth, predicted), x, y in zip(known, means, differences, strict=True):
        place = svg.dot(dots, made.x.at(x), made.y.at(y), 3.6)
        svg.title(place, f"{case}: true {_ml(truth)}, predicted {_ml(predicted)}")
    return svg.written(made.root)


def in_words(pairs: Sequence[tuple[str, float, float]]) -> str:
    """The line below the chart."""
    differences = [predicted - truth for _, truth, predicted in pairs if math.isfinite(truth + predicted)]
    if not differences:
        return "no volume"
    found, count = Agreement.of(differences), len(differences)
    words = f"{count} case{'s' * (count > 1)}, bias {_ml(found.bias)}"
    if not math.isfinite(found.low):
        return f"{words}; too few cases for limits of agreement"
    return f"{words}, 95 % limits of agreement {_ml(found.low)} to {_ml(found.high)}"


def _ml(value: float) -> str:
    return f"{wording.value(float(value))} ml"
