"""Inline SVG for charts: a frame with axes, and the few shapes that stand in it.

Colours are classes of the page's style sheet, so they follow light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 30, 44


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at most `low` to at least `high`.

    Example:
        >>> ticks(0.13, 0.87)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * wanted >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        last += 1
    return [float(f"{step * number:.12g}") + 0.0 for number in range(first, last + 1)]


@dataclass(frozen=True)
class Axis:
    """Where values lie along one side of a chart: `start` to `end` in the picture's units."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place of a value; one outside of the axis lies at its end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


@dataclass(frozen=True)
class Frame:
    """A chart of the usual size with its two axes."""

    root: Element
    x: Axis
    y: Axis


def frame(
    words: str,
    across: Sequence[float],
    upwards: Sequence[float],
    names: tuple[str, str],
    *,
    span: tuple[float, float] | None = None,
) -> Frame:
    """An empty chart: lines at the ticks `upwards`, numbers at both, and what the axes are called.

    Args:
        words: what the chart says, for those who do not see it.
        across, upwards: ticks, rising; the axes end with them.
        names: of the axes, x and y.
        span: ends of the axis across, if not those of its ticks.
    """
    made = Frame(
        canvas(WIDTH, HEIGHT, words),
        Axis(*(span or (across[0], across[-1])), LEFT, WIDTH - RIGHT),
        Axis(upwards[0], upwards[-1], HEIGHT - BOTTOM, TOP),
    )
    for tick in upwards:
        line(made.root, LEFT, made.y.at(tick), WIDTH - RIGHT, made.y.at(tick), "grid")
        text(made.root, LEFT - 8, made.y.at(tick) + 4, f"{tick:g}", "tick end")
    for tick in across:
        if made.x.low <= tick <= made.x.high:
            text(made.root, made.x.at(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", "tick middle")
    text(made.root, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, names[0], "tick middle")
    text(made.root, 4, 14, names[1], "tick")
    return made


def canvas(width: float, height: float, words: str) -> Element:
    """An empty picture; `words` say what it shows to those who do not see it."""
    return Element("svg", {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": words, "class": "chart"})


def group(parent: Element, kind: str) -> Element:
    """What is drawn in it shares a class, which then is written once."""
    return SubElement(parent, "g", {"class": kind})


def line(parent: Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    places = {name: f"{place:.1f}" for name, place in zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2), strict=True)}
    SubElement(parent, "line", {**places, "class": kind})


def lines(parent: Element, points: Sequence[tuple[float, float]], kind: str) -> None:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    SubElement(parent, "polyline", {"points": places, "class": kind})


def box(parent: Element, x: float, y: float, width: float, height: float, kind: str) -> Element:
    sides = {"x": x, "y": y, "width": max(width, 0), "height": max(height, 0)}
    return SubElement(parent, "rect", {**{name: f"{side:.1f}" for name, side in sides.items()}, "class": kind})


def dot(parent: Element, x: float, y: float, radius: float, kind: str = "") -> Element:
    places = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius}"}
    return SubElement(parent, "circle", {**places, "class": kind} if kind else places)


def text(parent: Element, x: float, y: float, words: str, kind: str) -> Element:
    element = SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": kind})
    element.text = words
    return element


def title(element: Element, words: str) -> None:
    """What appears on hovering. An element's own text must stay before it."""
    SubElement(element, "title").text = words


def written(root: Element) -> str:
    return ElementTree.tostring(root, encoding="unicode")
