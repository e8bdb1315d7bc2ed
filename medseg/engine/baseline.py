"""What intensity alone achieves: the best interval per label, a yardstick that every network has to beat.

An interval is fitted for each label on training cases and applied to a new one. Masks of different labels may
overlap, which is the most favourable reading for the baseline: no voxel has to choose between two labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

BINS = 512
"""Intensities are counted in this many equal steps between the training set's extremes."""


def fit_thresholds(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], labels: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """For each label, the interval of intensity with the highest Dice over all training voxels pooled.

    Every pair of bin edges is tried, so the interval found is the best one to within a bin.

    Args:
        pairs: (image, label map) of each training case, of one shape; a case of several channels is given by the one
            that is to be thresholded.
        labels: number in the label maps by name.

    Returns:
        {name: (lowest, highest)}, both ends included; (inf, -inf) for a label that occurs nowhere.

    Raises:
        ValueError: no pairs, or image and label map differ in shape.

    Example:
        >>> image, truth = np.array([0, 10, 20, 30]), np.array([0, 1, 1, 0])
        >>> [(low < 10, high > 20) for low, high in fit_thresholds([(image, truth)], {"a": 1}).values()]
        [(True, True)]
    """
    cases = [(np.asarray(image), np.asarray(truth)) for image, truth in pairs]
    if not cases or any(image.shape != truth.shape for image, truth in cases):
        raise ValueError("needed at least one (image, label map), each pair of one shape")
    lowest = float(min(image.min() for image, _ in cases))
    highest = float(max(image.max() for image, _ in cases))
    edges = np.linspace(lowest, highest if highest > lowest else lowest + 1, BINS + 1)
    everything = sum(np.histogram(image, edges)[0] for image, _ in cases)
    fitted = {}
    for name, value in labels.items():
        inside = sum(np.histogram(image[truth == value], edges)[0] for image, truth in cases)
        fitted[name] = _best(np.asarray(inside), np.asarray(everything), edges)
    return fitted


def _best(inside: np.ndarray, everything: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Interval of highest Dice, from counts per bin of the label's voxels and of all voxels."""
    if inside.sum() == 0:
        return float("inf"), float("-inf")
    hits, taken = (np.concatenate([[0], np.cumsum(counts)]).astype(float) for counts in (inside, everything))
    hits, taken = hits[None] - hits[:, None], taken[None] - taken[:, None]
    dice = np.triu(2 * hits, k=1) / np.maximum(np.triu(taken, k=1) + inside.sum(), 1)
    first, last = np.unravel_index(dice.argmax(), dice.shape)
    return float(edges[first]), float(edges[last])


def apply_thresholds(image: np.ndarray, thresholds: Mapping[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """{name: boolean mask of `image`'s shape} of the voxels within each label's interval."""
    return {name: (image >= low) & (image <= high) for name, (low, high) in thresholds.items()}


def threshold_dice(
    image: np.ndarray, truth: np.ndarray, thresholds: Mapping[str, tuple[float, float]], labels: Mapping[str, int]
) -> dict[str, float]:
    """Dice of each label on one case; nan where neither truth nor mask has a voxel."""
    scores = {}
    for name, mask in apply_thresholds(image, thresholds).items():
        wanted = truth == labels[name]
        total = int(mask.sum()) + int(wanted.sum())
        scores[name] = 2 * int((mask & wanted).sum()) / total if total else float("nan")
    return scores
