"""Soft Dice plus cross entropy (binary cross entropy for regions), as in nnU-Net.

Source: Isensee et al. 2021, "nnU-Net", Nature Methods 18, doi:10.1038/s41592-020-01008-z. Swin-Unet's loss is
`{dice_weight: 0.6, ce_weight: 0.4, batch_dice: true, squared: true, background: true}`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from medseg.losses import Loss, Scores, cross_entropy, deeply_supervised, soft_dice
from medseg.settings import Settings

Weight = Annotated[float, Field(ge=0)]


class Options(Settings):
    dice_weight: Weight = 1.0
    """Factor of the Dice term."""
    ce_weight: Weight = 1.0
    """Factor of the cross entropy."""
    batch_dice: bool = False
    """One Dice over all cases of the batch, in place of the mean over cases; steadier for small structures."""
    smooth: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the Dice's numerator and denominator; an absent and unpredicted structure counts as Dice 1."""
    squared: bool = False
    """Square the probabilities in the Dice's denominator, as the Swin UNETR paper does."""
    background: bool = False
    """Background counts as one more class of the Dice, where labels exclude each other."""


def mixes_samples(options: Options) -> bool:
    return options.batch_dice


def build(options: Options, *, exclusive: bool) -> Loss:
    def term(score: Scores) -> Tensor:
        dice = soft_dice(
            score,
            exclusive=exclusive,
            smooth=options.smooth,
            squared=options.squared,
            batch=options.batch_dice,
            background=options.background,
        )
        return options.dice_weight * dice + options.ce_weight * cross_entropy(score, exclusive=exclusive)

    return deeply_supervised(term, exclusive=exclusive)
