"""Soft centre-line Dice plus Dice, which keeps tubes (vessels, airways, nerves) connected.

(1 - alpha) (1 - Dice) + alpha (1 - 2 P S / (P + S)). P is the share of the answer's skeleton that lies in the truth, S
the share of the truth's skeleton that lies in the answer. The soft skeleton is what openings by the smallest element
take away from more and more eroded maps; of one slice, it is that of the plane. Dice and clDice are means over
structures and cases. Source: Shit et al. 2021, "clDice - a Novel Topology-Preserving Loss Function for Tubular
Structure Segmentation", arXiv:2003.07311.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import max_pool3d

from medseg.losses import Loss, Scores, deeply_supervised, known_channels, mean, soft_dice, structures
from medseg.settings import Settings

PER_CASE = (2, 3, 4)


class Options(Settings):
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the centre-line Dice in the loss; the rest is Dice."""
    iterations: Annotated[int, Field(ge=1)] = 3
    """Erosions; at least the radius of the thickest tube in voxels, above which nothing changes but the time."""
    smooth: Annotated[float, Field(gt=0)] = 1e-5
    """Added to numerators and denominators; an absent and unpredicted structure costs nothing."""


def build(options: Options, *, exclusive: bool) -> Loss:
    def term(score: Scores) -> Tensor:
        dice = soft_dice(score, exclusive=exclusive, smooth=options.smooth, squared=False, batch=False)
        p, truth = structures(score, exclusive=exclusive)
        t = truth.to(p.dtype)
        precise = _share(soft_skeleton(p, score.known, options.iterations), t, options.smooth)
        with torch.no_grad():
            skeleton = soft_skeleton(t, score.known, options.iterations)
        sensitive = _share(skeleton, p, options.smooth)
        # P and S are above 0 unless nothing fits at all
        both = 2 * precise * sensitive / (precise + sensitive).clamp(min=options.smooth)
        lines = mean(1 - both, known_channels(score, p, PER_CASE))
        return (1 - options.alpha) * dice + options.alpha * lines

    return deeply_supervised(term, exclusive=exclusive)


def soft_skeleton(values: Tensor, known: Tensor | None, iterations: int) -> Tensor:
    """Of (B, C, I, J, K) in 0 to 1, which are 0 where they are not `known`. These places, and what lies beyond the
    border, neither erode nor dilate their neighbours."""
    skeleton = torch.zeros_like(values)
    for _ in range(iterations + 1):
        smaller = _eroded(values, known)
        edge = (values - max_pool3d(smaller, 3, stride=1, padding=1)).relu()
        skeleton = skeleton + (edge - skeleton * edge).relu()
        values = smaller
    return skeleton


def _share(skeleton: Tensor, inside: Tensor, smooth: float) -> Tensor:
    """Of a skeleton, (B, C), that lies within a map."""
    return ((skeleton * inside).sum(PER_CASE) + smooth) / (skeleton.sum(PER_CASE) + smooth)


def _eroded(values: Tensor, known: Tensor | None) -> Tensor:
    """The least of each voxel and its neighbours by a face. Along an axis of one voxel there are none."""
    negated = -(values if known is None else torch.where(known, values, 1))
    least = values
    for axis in range(3):
        if values.shape[2 + axis] > 1:
            kernel = [3 if other == axis else 1 for other in range(3)]
            least = torch.minimum(least, -max_pool3d(negated, kernel, stride=1, padding=[size // 2 for size in kernel]))
    return least
