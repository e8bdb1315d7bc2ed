"""How often 95 % intervals of a mean hold the true mean, in simulated studies of patients with several images each.

    python benchmarks/intervals.py [studies]

Each study has so many patients, with 1 to 8 images each (evenly), or 1 to 30 (long-tailed); what the images of one
patient share has a spread larger than that of his images around it. Three kinds of numbers: normal; like Dice (a
logistic curve of the normal ones, skewed, mean 0.84); and like Dice with one patient in twenty whose structure was
missed (0). Intervals: studentised by patient (what medseg gives), percentiles by patient, and the studentised one of
images taken for patients. The table is printed as Markdown.
"""

from __future__ import annotations

import sys

import numpy as np

from medseg import clustered

SHARED, OWN, MIDDLE = 0.9, 0.5, 2.0
"""Spread of patients, and of images around their patient; centre of the values before the logistic curve."""
KINDS = ("normal", "like Dice", "like Dice, some missed")
PATIENTS = (10, 20, 50, 200)
MISSED = 0.05


def true_mean(kind: str) -> float:
    """By Gauss-Hermite quadrature."""
    if kind == "normal":
        return MIDDLE
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    mean = float(weights @ _logistic(MIDDLE + np.hypot(SHARED, OWN) * nodes) / weights.sum())
    return mean * (1 - MISSED) if kind.endswith("missed") else mean


def study(
    generator: np.random.Generator, kind: str, patients: int, *, uneven: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(images, 1) values, and (images,) whose each is."""
    sizes = generator.integers(1, 9, patients)
    if uneven:
        sizes = np.minimum(generator.geometric(0.2, patients), 30)
    who = np.repeat(np.arange(patients), sizes)
    values = MIDDLE + SHARED * generator.normal(size=patients)[who] + OWN * generator.normal(size=len(who))
    if kind != "normal":
        values = _logistic(values)
    if kind.endswith("missed"):
        values = np.where((generator.random(patients) < MISSED)[who], 0, values)
    return values[:, None], who


def percentiles(values: np.ndarray, who: np.ndarray) -> np.ndarray:
    """(2, 1): what the studentised interval is compared with."""
    total, count = clustered.sums(values, who)
    counts = clustered.times(clustered.drawn(len(total), draws=clustered.DRAWS, seed=0))
    return np.percentile((counts @ total) / (counts @ count), (2.5, 97.5), axis=0)


def coverage(kind: str, patients: int, *, studies: int, uneven: bool = False, seed: int = 1) -> dict[str, float]:
    """Share of the studies in which each interval holds the true mean."""
    generator, truth = np.random.default_rng(seed), true_mean(kind)
    held = dict.fromkeys(("studentised", "percentiles", "naive"), 0)
    for _ in range(studies):
        values, who = study(generator, kind, patients, uneven=uneven)
        images = np.arange(len(values))
        found = (clustered.intervals(values, who), percentiles(values, who), clustered.intervals(values, images))
        for name, (low, high) in zip(held, found, strict=True):
            held[name] += bool(low[0] <= truth <= high[0])
    return {name: count / studies for name, count in held.items()}


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def main(studies: int) -> None:
    print("| values | images | patients | studentised by patient | percentiles by patient | images as patients |")
    print("|---|---|--:|--:|--:|--:|")
    settings = [(kind, count, False) for kind in KINDS for count in PATIENTS]
    settings += [(kind, 50, True) for kind in KINDS]
    for kind, patients, uneven in settings:
        found = coverage(kind, patients, studies=studies, uneven=uneven)
        cells = " | ".join(f"{100 * share:.1f} %" for share in found.values())
        print(f"| {kind} | {'1 to 30' if uneven else '1 to 8'} | {patients} | {cells} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
