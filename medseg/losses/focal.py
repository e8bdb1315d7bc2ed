"""Focal loss: cross entropy in which what is already answered well counts less.

The mean over voxels (and regions) of -a (1 - p)^gamma log p, where p is the probability given to the truth. Source: Lin
et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002. It is computed from logits.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from medseg.losses import Loss, Scores, binary_cross_entropy, deeply_supervised, mean, per_channel
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """How little the well answered counts; 0 is cross entropy."""
    alpha: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """The factor a. Where classes exclude each other: of each class (background first, where there is one). Of regions:
    where a region is, for each region or one for all; where it is not, the factor is 1 - a. Empty: 1 everywhere."""


def build(options: Options, *, exclusive: bool) -> Loss:
    def of_classes(score: Scores) -> Tensor:
        # The probability of all other classes together: more exact than 1 - p where p is nearly 1.
        wrong = torch.where(score.truth, 0, score.probabilities).sum(dim=1, keepdim=True)
        log_p = score.log_odds
        if options.alpha:
            log_p = log_p * per_channel(options.alpha, score, "loss.options.alpha")
        chosen = torch.where(score.truth, log_p, 0).sum(dim=1, keepdim=True)
        return mean(-chosen * _power(wrong, options.gamma), score.known)

    def of_regions(score: Scores) -> Tensor:
        wrong = torch.where(score.truth, -score.log_odds, score.log_odds).sigmoid()
        losses = binary_cross_entropy(score) * _power(wrong, options.gamma)
        if options.alpha:
            given = options.alpha * (score.log_odds.shape[1] if len(options.alpha) == 1 else 1)
            alpha = per_channel(given, score, "loss.options.alpha")
            losses = losses * torch.where(score.truth, alpha, 1 - alpha)
        return mean(losses, score.known)

    if not exclusive and max(options.alpha, default=0) > 1:
        raise Refusal(
            "loss.options.alpha",
            found=f"{max(options.alpha)}",
            needed="from 0 to 1, because 1 - alpha is the factor where a region is not",
            remedy="lower it; only the ratio alpha : (1 - alpha) matters",
        )
    return deeply_supervised(of_classes if exclusive else of_regions, exclusive=exclusive)


def _power(wrong: Tensor, gamma: float) -> Tensor:
    """wrong^gamma; the root of 0 has no finite slope, so that a gamma below 1 starts just above it."""
    return wrong.clamp(min=torch.finfo(wrong.dtype).tiny) ** gamma
