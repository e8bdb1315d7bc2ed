"""What is usual of a trait in training cases: its range, how far outside of it a value lies, and how that is said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from medseg.settings import Settings
from medseg.traits import AXES, SCAN, Traits

FEW = 5
"""Cases with a label below which nothing is said of it."""
WIDTH = 3.0
"""A range reaches so many standard deviations from the middle, or to the lowest and highest training case."""
CERTAINTY, DISAGREEMENT = "certainty", "disagreement"
"""Traits that the engine adds: the Dice that probabilities promise, and the mean disagreement of members in a label."""
LOGARITHMS = {"volume": 0.1, "pieces": 0.2, "length x": 0.06, "length y": 0.06, "length z": 0.06}
"""Traits whose ratios count, and the least standard deviation of their logarithms."""
LEAST = {
    "largest": 0.03,
    DISAGREEMENT: 0.02,
    "part x": 0.03,
    "part y": 0.03,
    "part z": 0.03,
    "place x": 5,
    "place y": 5,
    "place z": 5,
}
"""The least standard deviation of others."""
LEAST_SHARE = 0.05
"""The least standard deviation of intensities, as a share of the training scans' own span."""
HIGH_IS_GOOD, LOW_IS_GOOD = ("largest", CERTAINTY), (DISAGREEMENT,)


class Range(Settings):
    """What is usual of a trait."""

    low: float
    high: float
    """Of the training cases; what is said to people."""
    middle: float
    spread: float
    """Robust standard deviation; both after the logarithm, of traits that have one."""

    def beyond(self, trait: str, value: float) -> float:
        """How many standard deviations outside."""
        taken = [_scaled(trait, one) for one in (value, self.low, self.high)]
        bottom = min(taken[1], self.middle - WIDTH * self.spread) - taken[0]
        bottom = 0.0 if trait in LOW_IS_GOOD else bottom
        top = 0.0 if trait in HIGH_IS_GOOD else taken[0] - max(taken[2], self.middle + WIDTH * self.spread)
        return max(bottom, top, 0.0) / self.spread


def ranges(cases: Sequence[Mapping[str, float]], widths: Mapping[str, float]) -> dict[str, Range]:
    """Of all traits that enough cases have.

    Args:
        widths: see `spans`.
    """
    found = {}
    for trait in sorted({trait for case in cases for trait in case}):
        values = [case[trait] for case in cases if trait in case]
        if trait.split()[0] in ("edge", "x", "y", "z") or len(values) < FEW:
            continue
        taken = np.array([_scaled(trait, value) for value in values])
        first, third = np.percentile(taken, (25, 75))
        channel = trait.split()[-1]
        least = LOGARITHMS.get(trait, LEAST.get(trait, LEAST_SHARE * widths.get(channel, 1.0)))
        few = 1 + WIDTH / len(values)  # what few cases say of the width is not to be relied on
        spread = max(few * (third - first) / 1.349, few * 0.7 * float(taken.std()), least)
        found[trait] = Range(low=min(values), high=max(values), middle=float(np.median(taken)), spread=float(spread))
    return found


def spans(cases: Sequence[Traits]) -> dict[str, float]:
    """By channel, from the 5th to the 95th percentile of a usual scan."""
    channels = {trait.split()[1] for case in cases for trait in case[SCAN]}
    found = {one: float(np.median([case[SCAN][f"high {one}"] - case[SCAN][f"low {one}"] for case in cases]))
             for one in channels}  # fmt: skip
    return {one: width or 1.0 for one, width in found.items()}


def _scaled(trait: str, value: float) -> float:
    return math.log(max(value, 1e-6)) if trait in LOGARITHMS else value


def words(name: str, trait: str, value: float, usual: Range, unit: str) -> str:
    """What is odd, and what would be usual."""
    kind, _, which = trait.partition(" ")
    length = "mm" if unit == "mm" else "px"
    axis = AXES["xyz".index(which)] if which in ("x", "y", "z") else ""
    channel = f" of channel {int(which) + 1}" if which.isdecimal() and which != "0" else ""
    if kind == "place":
        return f"{name} lies {abs(value):.0f} {length} off its place among the labels ({axis})"
    if kind in ("largest", "part"):
        low, high, value = 100 * usual.low, 100 * usual.high, 100 * value
        share = Range(low=low, high=high, middle=0, spread=1)
        what = "in its largest piece" if kind == "largest" else f"along the scan, {axis}"
        return f"{name}: {digits(value)} % {what}, {training(share)}"
    said = {
        "volume": "ml" if unit == "mm" else "% of the image",
        "length": f"{length} long, {axis}",
        "pieces": "pieces",
        "median": f"in the median{channel}",
        CERTAINTY: "is the Dice that its probabilities promise",
        DISAGREEMENT: "is how far folds and mirrored passes disagree",
    }[kind]
    cases = training(usual)
    if kind in (CERTAINTY, DISAGREEMENT):
        cases = cases.replace("training", "validation")
    return f"{name}: {digits(value)} {said}, {cases}"


def training(usual: Range) -> str:
    low, high = digits(usual.low), digits(usual.high)
    return f"training cases {low}" + ("" if low == high else f" to {high}")


def digits(value: float) -> str:
    """Two or three digits."""
    if value and abs(value) < 10:
        return f"{value:.2g}"
    return f"{float(f'{value:.3g}'):,.0f}"
