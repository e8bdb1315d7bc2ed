"""Cross entropy over all classes, background included; binary cross entropy for regions."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from medseg.losses import Loss, Scores, binary_cross_entropy, cross_entropy, deeply_supervised, per_channel
from medseg.settings import Settings


class Options(Settings):
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """How much each output of the network counts: a class where classes exclude each other (background first, where
    there is one), else a region. The result is a weighted mean, so only ratios matter. Empty: all count alike."""


def mixes_samples(options: Options) -> bool:
    """A weighted mean over the batch weighs its samples by the classes in them."""
    return bool(options.weights)


def build(options: Options, *, exclusive: bool) -> Loss:
    def term(score: Scores) -> Tensor:
        if not options.weights:
            return cross_entropy(score, exclusive=exclusive)
        weights = per_channel(options.weights, score, "loss.options.weights")
        if exclusive:  # truth is False where it is not known, so that such places have no weight
            return -_weighted_mean(score.log_odds, weights * score.truth)
        known = torch.ones_like(score.truth) if score.known is None else score.known
        return _weighted_mean(binary_cross_entropy(score), weights * known)

    return deeply_supervised(term, exclusive=exclusive)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """0 where nothing has weight."""
    total = weights.sum()
    # Not `values * weights`: an impossible class has the log-probability -inf, and 0 times that is not a number.
    return torch.where(weights > 0, values * weights, 0).sum() / torch.where(total > 0, total, 1)
