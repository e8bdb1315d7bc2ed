"""Tversky loss: Dice in which false alarms and misses weigh differently; with an exponent, the focal Tversky loss.

The mean over structures (and cases) of (1 - T)^exponent, with T = (TP + s) / (TP + alpha FP + beta FN + s) and the soft
counts TP = sum(p t), FP = sum(p (1 - t)), FN = sum((1 - p) t). Sources: Salehi et al. 2017, "Tversky Loss Function for
Image Segmentation Using 3D Fully Convolutional Deep Networks", arXiv:1706.05721; the exponent: Abraham and Khan 2019,
"A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion Segmentation", arXiv:1810.07842, in which
it is called 1 / gamma, and alpha and beta stand for one another.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from medseg.losses import Loss, Scores, deeply_supervised, known_channels, mean, structures
from medseg.settings import Settings

PER_CASE = (2, 3, 4)


class Options(Settings):
    alpha: Annotated[float, Field(ge=0)] = 0.3
    """Weight of false alarms. With alpha = beta = 0.5 the loss is Dice."""
    beta: Annotated[float, Field(gt=0)] = 0.7
    """Weight of misses; above alpha, small structures are missed less often, at the price of false alarms."""
    exponent: Annotated[float, Field(gt=0)] = 1.0
    """The published focal Tversky loss takes 0.75, so that structures answered well still count; above 1, they count
    less."""
    smooth: Annotated[float, Field(gt=0)] = 1e-5
    """Added to numerator and denominator; an absent and unpredicted structure costs nothing."""
    background: bool = False
    """Background counts as one more class, where labels exclude each other."""


def build(options: Options, *, exclusive: bool) -> Loss:
    def term(score: Scores) -> Tensor:
        p, truth = structures(score, exclusive=exclusive, background=options.background)
        hit = torch.where(truth, p, 0).sum(PER_CASE)
        alarm, miss = p.sum(PER_CASE) - hit, truth.sum(PER_CASE) - hit
        wrong = options.alpha * alarm + options.beta * miss  # not 1 - T, which loses digits where T is nearly 1
        losses = _power(wrong / (hit + wrong + options.smooth), options.exponent)
        return mean(losses, known_channels(score, p, PER_CASE))

    return deeply_supervised(term, exclusive=exclusive)


def _power(loss: Tensor, exponent: float) -> Tensor:
    """loss^exponent; below 1, a root has no finite slope at 0, so that it starts just above."""
    return loss if exponent == 1 else loss.clamp(min=torch.finfo(torch.float32).eps) ** exponent
