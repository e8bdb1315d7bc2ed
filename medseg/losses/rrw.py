"""RRWNet's loss: binary cross entropy of every map of a recursion, later refinements weighing more.

With the first answer p0 and its refinements p1 to pM, the loss is L(p0) + sum of i L(pi) over i, divided by the sum of
all i. L is the sum over labels (arteries, veins, all vessels) of the mean over the places where it is known whether the
label is there: a vessel that may be either counts for the vessels alone. Labels that exclude each other take the cross
entropy of their softmax instead. A label that is not known anywhere counts 0.
Source: Morano et al. 2024, "RRWNet", Expert Systems with Applications, doi:10.1016/j.eswa.2024.124970; L is the loss of
Morano et al. 2021, "Simultaneous segmentation and classification of the retinal arteries and veins", arXiv:2209.09582.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medseg.labels import IGNORE
from medseg.losses import Loss, nearest
from medseg.settings import Settings


class Options(Settings):
    pass


def mixes_samples(options: Options) -> bool:
    """A mean over all known places of the batch, of which its samples have more or fewer."""
    return True


def build(options: Options, *, exclusive: bool) -> Loss:
    """The loss of answers in the network's order: last refinement first, the first network's answer at the end."""
    term = _exclusive if exclusive else _overlapping

    def loss(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        total = torch.zeros((), device=target.device)
        for weight, logits in zip(recursion_weights(len(outputs)), outputs, strict=True):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            total = total + weight * term(logits, nearest(target, logits.shape[2:]))
        return total

    return loss


def recursion_weights(count: int) -> list[float]:
    """M / Z, ..., 2 / Z, 1 / Z, and 1 for the first answer, with M = count - 1 and Z = M (M + 1) / 2."""
    refinements = range(count - 1, 0, -1)
    return [step / sum(refinements) for step in refinements] + [1.0]


def _overlapping(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over channels of the mean over known places in the whole batch."""
    known = target != IGNORE
    truth = torch.where(known, target, 0).to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    axes = (0, *range(2, logits.ndim))
    return (torch.where(known, each, 0).sum(axes) / known.sum(axes).clamp(min=1)).sum()


def _exclusive(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over known places of -log p(true class)."""
    known = target[:, 0] != IGNORE
    truth = torch.where(known, target[:, 0], 0).long()
    each = functional.cross_entropy(logits, truth, reduction="none")
    return torch.where(known, each, 0).sum() / known.sum().clamp(min=1)
