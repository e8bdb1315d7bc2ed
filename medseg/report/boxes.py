"""Box plots: how a number spreads over cases, label by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from medseg import wording
from medseg.report import svg

WIDTH, LEFT, RIGHT = 1040, 190, 230
ROW, ROW_OF_MANY, MANY = 34, 20, 20
LONGEST_LABEL = 25
REACH = 1.5
"""Whiskers end at the furthest value within so many box lengths of the box (Tukey 1977)."""

Row = tuple[str, Sequence[tuple[str, float]]]


def boxes(title: str, rows: Sequence[Row]) -> str:
    """A line a label: box from quartile to quartile, bar at the median, whiskers, and a dot per case, whose name and
    value appear on hovering. Quartiles are interpolated linearly. What is not finite is counted in words.

    Args:
        rows: (label, [(case, value), ...]).
    """
    finite = [value for _, cases in rows for _, value in cases if math.isfinite(value)]
    if not finite:
        return ""
    share = min(finite) >= 0 and max(finite) <= 1
    across = svg.ticks(0, 1) if share else svg.ticks(min(finite), max(finite))
    high = ROW if len(rows) <= MANY else ROW_OF_MANY
    height = 12 + high * len(rows) + 28
    root = svg.canvas(WIDTH, height, f"{title} of every case by label: median, quartiles and whiskers")
    axis = svg.Axis(across[0], across[-1], LEFT, WIDTH - RIGHT)
    for tick in across:
        svg.line(root, axis.at(tick), 8, axis.at(tick), height - 26, "grid")
        svg.text(root, axis.at(tick), height - 8, f"{tick:g}", "tick middle")
    digits = wording.digits_for(finite)
    for position, (name, cases) in enumerate(rows):
        y = 12 + high * (position + 0.5)
        shown = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        svg.title(svg.text(root, LEFT - 14, y + 4, shown, "key end"), name)
        values = [value for _, value in cases if math.isfinite(value)]
        words = ""
        if len(values) > 1:
            quartiles = [float(value) for value in np.percentile(values, (25, 50, 75))]
            _box(root, values, quartiles, axis, y, high)
            low, middle, top = (wording.value(value, digits=digits) for value in quartiles)
            words = f"{middle} ({low} to {top})"
        elif values:
            words = wording.value(values[0], digits=digits)
        _dots(root, cases, axis, y, high)
        words = ", ".join([words or "no value", *_others(cases)])
        svg.text(root, WIDTH - RIGHT + 16, y + 4, words, "tick")
    return svg.written(root)


def whiskers(values: Sequence[float], quartiles: Sequence[float]) -> tuple[float, float]:
    """Ends of both whiskers."""
    reach = REACH * (quartiles[2] - quartiles[0])
    inside = [value for value in values if quartiles[0] - reach <= value <= quartiles[2] + reach]
    return min(*inside, quartiles[0]), max(*inside, quartiles[2])


def _box(
    root: Element, values: Sequence[float], quartiles: Sequence[float], axis: svg.Axis, y: float, high: float
) -> None:
    reach = high * 0.3
    low, top = whiskers(values, quartiles)
    for start, end in ((low, quartiles[0]), (quartiles[2], top)):
        svg.line(root, axis.at(start), y, axis.at(end), y, "whisker")
    for end in (low, top):
        svg.line(root, axis.at(end), y - reach / 2, axis.at(end), y + reach / 2, "whisker")
    left, right = axis.at(quartiles[0]), axis.at(quartiles[2])
    svg.box(root, left, y - reach, right - left, 2 * reach, "box")
    middle = axis.at(quartiles[1])
    svg.line(root, middle, y - reach - 2, middle, y + reach + 2, "median")


def _dots(root: Element, cases: Sequence[tuple[str, float]], axis: svg.Axis, y: float, high: float) -> None:
    dots = svg.group(root, "dot series-1")
    defined = [(case, value) for case, value in cases if math.isfinite(value)]
    for number, (case, value) in enumerate(defined):
        # Neighbouring dots are set apart in a fixed pattern: chance would change the page from run to run.
        place = svg.dot(dots, axis.at(value), y + ((number * 5 + 3) % 7 - 3) * high / 18, 3.2)
        svg.title(place, f"{case}: {wording.value(value)}")


def _others(cases: Sequence[tuple[str, float]]) -> list[str]:
    """How many values are not finite, in words."""
    undefined, infinite = (sum(test(value) for _, value in cases) for test in (math.isnan, math.isinf))
    return [f"{count} {word}" for count, word in ((undefined, "undefined"), (infinite, "infinite")) if count]
