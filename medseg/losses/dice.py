"""Soft Dice, without background unless it is asked for.

Source: Milletari et al. 2016, "V-Net", arXiv:1606.04797.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from medseg.losses import Loss, deeply_supervised, soft_dice
from medseg.settings import Settings


class Options(Settings):
    batch_dice: bool = False
    """One Dice over all cases of the batch, in place of the mean over cases; steadier for small structures."""
    smooth: Annotated[float, Field(gt=0)] = 1e-5
    """Added to numerator and denominator; an absent and unpredicted structure counts as Dice 1."""
    squared: bool = False
    """Square the probabilities in the denominator, as the Swin UNETR paper does."""
    background: bool = False
    """Background counts as one more class, where labels exclude each other."""


def mixes_samples(options: Options) -> bool:
    return options.batch_dice


def build(options: Options, *, exclusive: bool) -> Loss:
    term = partial(
        soft_dice,
        exclusive=exclusive,
        smooth=options.smooth,
        squared=options.squared,
        batch=options.batch_dice,
        background=options.background,
    )
    return deeply_supervised(term, exclusive=exclusive)
