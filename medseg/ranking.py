"""How well scores put positives above negatives, over all thresholds: `auroc` and areas under precision and recall."""

from __future__ import annotations

import numpy as np


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the receiver operating characteristic: the chance that a positive scores above a negative, a tie
    counting one half.

    Args:
        truth: of any shape; everything but 0 and False is positive.
        scores: of the same shape; higher means more positive. Probabilities, logits, ranks: only the order counts.

    Returns:
        From 0 to 1; nan where there are no positives, no negatives, or a score is nan.

    Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", Radiology 143.
    """
    hits, alarms = _found(truth, scores)
    if not (len(hits) and hits[-1] and alarms[-1]):
        return float("nan")
    area = np.trapezoid(np.append(0, hits), np.append(0, alarms))
    return float(area / (float(hits[-1]) * float(alarms[-1])))


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the curve of precision over recall as steps: the mean over positives of the precision at the score of
    each. No interpolation, which is too kind (Davis and Goadrich 2006).

    Args and returns are those of `auroc`; chance is the share of positives, not one half.
    """
    hits, alarms = _found(truth, scores)
    if not (len(hits) and hits[-1] and alarms[-1]):
        return float("nan")
    return float((np.diff(hits, prepend=0) * (hits / (hits + alarms))).sum() / hits[-1])


def precision_recall_area(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the curve of precision over recall with straight lines between its points, from precision 1 at recall
    0. Kinder than `average_precision`; here because papers report it.

    Args and returns are those of `auroc`.
    """
    hits, alarms = _found(truth, scores)
    if not (len(hits) and hits[-1] and alarms[-1]):
        return float("nan")
    return float(np.trapezoid(np.append(1, hits / (hits + alarms)), np.append(0, hits / hits[-1])))


def _found(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives at or above each distinct score, from the highest score down; empty where the order is
    not known (nan) or there is nothing to order."""
    truth, scores = np.asarray(truth).ravel() != 0, np.asarray(scores).ravel()
    if truth.shape != scores.shape:
        raise ValueError(f"{truth.size} truths and {scores.size} scores")
    if np.isnan(scores).any() or not scores.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(scores)[::-1]
    sorted_scores = scores[order]
    last_of_ties = np.append(np.flatnonzero(sorted_scores[1:] != sorted_scores[:-1]), scores.size - 1)
    hits = np.cumsum(truth[order], dtype=np.int64)[last_of_ties]
    return hits, last_of_ties + 1 - hits
