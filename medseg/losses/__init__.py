"""Losses: one file each with `Options` and `build`; here is what they share.

A loss takes the network's outputs, finest first, and one target: (B, 1, I, J, K) class numbers where labels exclude
each other (softmax), else (B, R, I, J, K) of 0 and 1 (sigmoid). Where the target is `labels.IGNORE` the truth is not
known, and the place is left out of every sum and mean. All is computed in float32, whatever the logits are.

A loss that is, with some options, other than the mean of the losses of the batch's samples (where all is known) has a
function `mixes_samples(options) -> bool` that says so, because gradients that are added up then differ from those of
the whole batch.

A loss that measures in millimetres says `IN_MM = True`; its `build` is then given `spacing_mm`, the plan's size of a
voxel, unless each scan keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from medseg.labels import IGNORE
from medseg.refusal import Refusal

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]


class Scores(NamedTuple):
    """What every term starts from: log-probability, probability and truth per voxel, all (B, C, I, J, K).

    Attributes:
        log_odds: log p of each class (exclusive), or the logits themselves (regions).
        probabilities: softmax or sigmoid.
        truth: boolean, one channel per class or region; False where it is not known.
        known: boolean (B, 1 or R, I, J, K), whether the truth is known; None: everywhere, which costs less.
    """

    log_odds: Tensor
    probabilities: Tensor
    truth: Tensor
    known: Tensor | None = None


def scores(logits: Tensor, target: Tensor, *, exclusive: bool) -> Scores:
    """`Scores` of one network output against a target of the same size."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    known = None
    if not (exclusive and logits.shape[1] > IGNORE):  # with so many classes the number is that of a class
        known = target != IGNORE
        if target.device.type == "cpu" and known.all():  # to ask a GPU is to wait for it
            known = None
    if not exclusive:
        return Scores(logits, logits.sigmoid(), target > 0 if known is None else (target > 0) & known, known)
    log_probabilities = logits.log_softmax(dim=1)
    classes = torch.arange(logits.shape[1], device=target.device).view(1, -1, 1, 1, 1)
    return Scores(log_probabilities, log_probabilities.exp(), target == classes, known)


def mean(values: Tensor, known: Tensor | None) -> Tensor:
    """Mean over the places that are known, of which `known` has one each; 0 where none is."""
    if known is None:
        return values.mean()
    return torch.where(known, values, 0).sum() / known.sum().clamp(min=1)


def per_channel(weights: Sequence[float], score: Scores, what: str) -> Tensor:
    """One number for each class or region as (1, C, 1, 1, 1).

    Raises:
        Refusal: there are more or fewer numbers than channels.
    """
    channels = score.log_odds.shape[1]
    if len(weights) != channels:
        raise Refusal(
            what,
            found=f"{len(weights)} numbers",
            needed=f"{channels}, one for each output of the network",
            remedy="give one for each class in the order of the label table; before them, where structures are "
            "painted, one for background",
        )
    return score.log_odds.new_tensor(weights).view(1, -1, 1, 1, 1)


def cross_entropy(score: Scores, *, exclusive: bool) -> Tensor:
    """Mean over voxels of -log p(true class); for regions the mean binary cross entropy over voxels and regions."""
    if exclusive:
        return -mean(torch.where(score.truth, score.log_odds, 0).sum(dim=1, keepdim=True), score.known)
    if score.known is None:
        return binary_cross_entropy(score, "mean")
    return mean(binary_cross_entropy(score), score.known)


def binary_cross_entropy(score: Scores, reduction: str = "none") -> Tensor:
    """Of each place and region, (B, R, I, J, K); or their mean, known or not."""
    truth = score.truth.to(score.log_odds.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(score.log_odds, truth, reduction=reduction)


def soft_dice(
    score: Scores, *, exclusive: bool, smooth: float, squared: bool, batch: bool, background: bool = False
) -> Tensor:
    """1 - mean of (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth) over classes (and cases, unless `batch`).

    Background takes no part where labels exclude each other, unless `background`. `squared` replaces sum(p) by
    sum(p^2). A class of which no place is known (in a case, unless `batch`) takes no part in the mean.
    Source: Milletari et al. 2016, "V-Net", arXiv:1606.04797 (squared); Drozdzal et al. 2016, arXiv:1608.04117.
    """
    p, truth = structures(score, exclusive=exclusive, background=background)
    axes = (0, 2, 3, 4) if batch else (2, 3, 4)
    overlap = torch.where(truth, p, 0).sum(axes)
    sizes = (p.square() if squared else p).sum(axes) + truth.sum(axes)
    losses = 1 - (2 * overlap + smooth) / (sizes + smooth)
    return mean(losses, known_channels(score, p, axes))


def structures(score: Scores, *, exclusive: bool, background: bool = False) -> tuple[Tensor, Tensor]:
    """Probability and truth of every structure, (B, C, I, J, K), both 0 where the truth is not known. Where labels
    exclude each other, background is none, unless `background`."""
    first = 1 if exclusive and not background else 0
    p, truth = score.probabilities[:, first:], score.truth[:, first:]
    return (p if score.known is None else torch.where(score.known, p, 0)), truth


def known_channels(score: Scores, like: Tensor, axes: tuple[int, ...]) -> Tensor | None:
    """For `mean` over what is left of `like` without `axes`: whether anything is known there."""
    return None if score.known is None else score.known.expand_as(like).any(axes)


def deep_supervision_weights(count: int) -> list[float]:
    """1, 1/2, 1/4, ... with the coarsest set to 0 (where there is more than one), scaled to sum 1, as in nnU-Net."""
    weights = [2.0**-level for level in range(count)]
    if count > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def nearest(target: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, C, I, J, K) resampled to (i, j, k): the voxel in which each new voxel's centre lies."""
    for axis, size in enumerate(shape, start=2):
        old = target.shape[axis]
        if size != old:
            centres = (2 * torch.arange(size, device=target.device) + 1) * old // (2 * size)
            target = target.index_select(axis, centres)
    return target


def deeply_supervised(term: Callable[[Scores], Tensor], *, exclusive: bool) -> Loss:
    """The loss of all outputs: `term` of each, weighted, against the target at that output's size.

    The coarsest output is evaluated although its weight is 0: distributed training wants a gradient for every weight.
    """

    def loss(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        total = torch.zeros((), device=target.device)
        for weight, logits in zip(deep_supervision_weights(len(outputs)), outputs, strict=True):
            score = scores(logits, nearest(target, logits.shape[2:]), exclusive=exclusive)
            total = total + weight * term(score)
        return total

    return loss
