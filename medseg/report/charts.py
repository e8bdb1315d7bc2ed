"""Curves over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from medseg import wording
from medseg.report import svg

Points = Sequence[tuple[float, float]]


def curves(title: str, series: Mapping[str, Points], *, mark: str = "") -> str:
    """Lines over epochs; values that are not finite leave a gap. The highest point of series `mark` is pointed out."""
    finite = [point for points in series.values() for point in points if math.isfinite(point[1])]
    if not finite:
        return ""
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    upwards = svg.ticks(min(ys), max(ys))
    span = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    across = [tick for tick in svg.ticks(min(xs), max(xs), 6) if tick == int(tick)]
    words = f"{title} over epochs: {_in_words(series)}"
    made = svg.frame(words, across, upwards, ("epoch", ""), span=span)
    root = made.root
    legend = float(svg.LEFT)
    for position, (name, points) in enumerate(series.items()):
        kind = f"series-{position % 4 + 1}"
        for run in _runs(points):
            svg.lines(root, [(made.x.at(x), made.y.at(y)) for x, y in run], f"curve {kind}")
            if len(run) == 1:
                svg.dot(root, made.x.at(run[0][0]), made.y.at(run[0][1]), 2.5, f"dot {kind}")
        svg.line(root, legend, 12, legend + 18, 12, f"curve {kind}")
        svg.text(root, legend + 24, 16, name, "key")
        legend += 24 + 7.2 * len(name) + 20
    _point_out(made, series.get(mark, ()))
    return svg.written(root)


def _runs(points: Points) -> list[list[tuple[float, float]]]:
    """Stretches of finite values."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _point_out(made: svg.Frame, points: Points) -> None:
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return
    x, y = max(finite, key=lambda point: point[1])
    svg.dot(made.root, made.x.at(x), made.y.at(y), 4.5, "best")
    side = "end" if made.x.at(x) > svg.WIDTH / 2 else ""
    words = f"best {wording.value(float(y))} (epoch {x:g})"
    svg.text(made.root, made.x.at(x), made.y.at(y) + 22, words, f"key {side}")


def _in_words(series: Mapping[str, Points]) -> str:
    parts = []
    for name, points in series.items():
        finite = [y for _, y in points if math.isfinite(y)]
        if finite:
            parts.append(f"{name} from {wording.value(float(finite[0]))} to {wording.value(float(finite[-1]))}")
    return "; ".join(parts)
