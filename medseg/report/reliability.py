"""Reliability curves: how often what was given a probability is so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medseg.report import svg

STRIP = 34
"""Height of the bars that count what lies in each bin."""


def reliability(label: str, bins: Sequence[tuple[float, float, float]]) -> str:
    """The share that is truly so over the probability given; the diagonal is a calibrated answer. Bars below count what
    lies in each bin, by the logarithm, because background fills the first one a thousandfold.

    Args:
        bins: (mean probability, share, places) of each; empty ones, and those that are not finite, are left out.
    """
    filled = [one for one in bins if one[2] > 0 and math.isfinite(one[0]) and math.isfinite(one[1])]
    if not filled:
        return ""
    made = svg.frame(
        f"Reliability of {label}: {_in_words(filled)}", svg.ticks(0, 1), svg.ticks(0, 1), ("probability", "share")
    )
    root, x, y = made.root, made.x, made.y
    svg.line(root, x.at(0), y.at(0), x.at(1), y.at(1), "axis")
    most = math.log10(max(places for _, _, places in filled) + 1)
    wide = (x.end - x.start) / max(len(bins), 10) * 0.7
    for probability, _, places in filled:
        tall = STRIP * math.log10(places + 1) / most
        bar = svg.box(root, x.at(probability) - wide / 2, y.start - tall, wide, tall, "count")
        svg.title(bar, f"{places:,.0f} places at {probability:.3f}")
    svg.lines(root, [(x.at(probability), y.at(share)) for probability, share, _ in filled], "curve series-1")
    dots = svg.group(root, "dot series-1")
    for probability, share, places in filled:
        words = f"probability {probability:.3f}, share {share:.3f}, {places:,.0f} places"
        svg.title(svg.dot(dots, x.at(probability), y.at(share), 4), words)
    return svg.written(root)


def _in_words(bins: Sequence[tuple[float, float, float]]) -> str:
    return "; ".join(f"of {probability:.2f}, {share:.2f}" for probability, share, _ in bins)
