"""Charts as inline SVG. Their colours are classes of the page's style sheet, so they follow light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from medseg import wording

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 40
STRIP_WIDTH, STRIP_LEFT, STRIP_RIGHT = 1040, 190, 190
STRIP_ROW, STRIP_ROW_OF_MANY, MANY = 30, 18, 20
LONGEST_LABEL = 25

Points = Sequence[tuple[float, float]]
Strip = tuple[str, Sequence[tuple[str, float]]]


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


def curves(title: str, series: Mapping[str, Points], *, mark: str = "") -> str:
    """Lines over epochs; values that are not finite leave a gap. The highest point of series `mark` is pointed out."""
    finite = [point for points in series.values() for point in points if math.isfinite(point[1])]
    if not finite:
        return ""
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    across, upwards = [tick for tick in ticks(min(xs), max(xs), 6) if tick == int(tick)], ticks(min(ys), max(ys))
    span = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)

    def x_of(value: float) -> float:
        return LEFT + (value - span[0]) / (span[1] - span[0]) * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (value - upwards[0]) / (upwards[-1] - upwards[0]) * (HEIGHT - TOP - BOTTOM)

    svg = _svg(WIDTH, HEIGHT, f"{title} over epochs: {_in_words(series)}")
    for tick in upwards:
        _line(svg, LEFT, y_of(tick), WIDTH - RIGHT, y_of(tick), "grid")
        _text(svg, LEFT - 8, y_of(tick) + 4, f"{tick:g}", "tick end")
    for tick in across:
        if span[0] <= tick <= span[1]:
            _text(svg, x_of(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", "tick middle")
    _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "epoch", "tick middle")
    legend = float(LEFT)
    for position, (name, points) in enumerate(series.items()):
        kind = f"series-{position % 4 + 1}"
        for run in _runs(points):
            places = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in run)
            SubElement(svg, "polyline", {"points": places, "class": f"curve {kind}"})
            if len(run) == 1:
                _dot(svg, x_of(run[0][0]), y_of(run[0][1]), 2.5, kind)
        _line(svg, legend, 12, legend + 18, 12, f"curve {kind}")
        _text(svg, legend + 24, 16, name, "key")
        legend += 24 + 7.2 * len(name) + 20
    _point_out(svg, series.get(mark, ()), x_of, y_of)
    return ElementTree.tostring(svg, encoding="unicode")


def strips(title: str, rows: Sequence[Strip]) -> str:
    """One line per label from 0 to 1: a dot per case (its name and value appear on hovering), a bar at the median."""
    if not rows:
        return ""
    high = STRIP_ROW if len(rows) <= MANY else STRIP_ROW_OF_MANY
    height = 12 + high * len(rows) + 28
    svg = _svg(STRIP_WIDTH, height, f"{title} of every case by label, from 0 to 1")
    across = STRIP_WIDTH - STRIP_LEFT - STRIP_RIGHT
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x = STRIP_LEFT + tick * across
        _line(svg, x, 8, x, height - 26, "grid")
        _text(svg, x, height - 8, f"{tick:g}", "tick middle")
    for position, (name, cases) in enumerate(rows):
        y = 12 + high * (position + 0.5)
        shown = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        _title(_text(svg, STRIP_LEFT - 14, y + 4, shown, "key end"), name)
        defined = [(case, value) for case, value in cases if math.isfinite(value)]
        for number, (case, value) in enumerate(defined):
            # Neighbouring dots are set apart in a fixed pattern: chance would change the page from run to run.
            _title(
                _dot(
                    svg,
                    STRIP_LEFT + min(max(value, 0), 1) * across,
                    y + (number * 5 % 7 - 3) * high / 16,
                    3.6,
                    "series-1",
                ),
                f"{case}: {wording.value(value)}",
            )
        words = _median_of(svg, [value for _, value in defined], y, high * 0.37, across) if defined else "no value"
        missing = len(cases) - len(defined)
        words += f", {missing} undefined" if missing else ""
        _text(svg, STRIP_WIDTH - STRIP_RIGHT + 16, y + 4, words, "tick")
    return ElementTree.tostring(svg, encoding="unicode")


def _median_of(svg: Element, values: list[float], y: float, reach: float, across: float) -> str:
    middle = median(values)
    x = STRIP_LEFT + min(max(middle, 0), 1) * across
    _line(svg, x, y - reach, x, y + reach, "median")
    return f"median {wording.value(float(middle))}"


def _runs(points: Points) -> list[list[tuple[float, float]]]:
    """Stretches of finite values."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _point_out(svg: Element, points: Points, x_of, y_of) -> None:  # type: ignore[no-untyped-def]
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return
    x, y = max(finite, key=lambda point: point[1])
    _dot(svg, x_of(x), y_of(y), 4.5, "best")
    side = "end" if x_of(x) > WIDTH / 2 else ""
    below = y_of(y) + 22
    _text(svg, x_of(x), below, f"best {wording.value(float(y))} (epoch {x:g})", f"key {side}")


def _in_words(series: Mapping[str, Points]) -> str:
    parts = []
    for name, points in series.items():
        finite = [y for _, y in points if math.isfinite(y)]
        if finite:
            parts.append(f"{name} from {wording.value(float(finite[0]))} to {wording.value(float(finite[-1]))}")
    return "; ".join(parts)


def _svg(width: float, height: float, label: str) -> Element:
    attributes = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label, "class": "chart"}
    return Element("svg", attributes)


def _line(parent: Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    places = {name: f"{place:.1f}" for name, place in zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2), strict=True)}
    SubElement(parent, "line", {**places, "class": kind})


def _dot(parent: Element, x: float, y: float, radius: float, kind: str) -> Element:
    return SubElement(parent, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius}", "class": f"dot {kind}"})


def _text(parent: Element, x: float, y: float, words: str, kind: str) -> Element:
    element = SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": kind})
    element.text = words
    return element


def _title(element: Element, words: str) -> None:
    """What appears on hovering. An element's own text must stay before it."""
    SubElement(element, "title").text = words
