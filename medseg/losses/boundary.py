"""Boundary loss plus Dice and cross entropy: a wrong voxel costs as much as it is far from the true surface.

The mean over voxels and structures of D (p - t), times `weight`. D is the distance in voxels to the true surface, below
0 inside; the surface lies half a voxel from the nearest voxel of the other kind. D t does not hang on the network, and
makes the perfect answer cost 0. A structure that is absent, or all there is, has no surface: Dice and cross entropy
alone speak for it. Distances are computed on the CPU, for every patch and structure.
Source: Kervadec et al. 2019, "Boundary loss for highly unbalanced segmentation", arXiv:1812.07032.
"""

from __future__ import annotations

from typing import Annotated

import edt
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medseg.losses import Loss, Scores, cross_entropy, deeply_supervised, mean, soft_dice, structures
from medseg.settings import Settings

Weight = Annotated[float, Field(ge=0)]


class Options(Settings):
    weight: Weight = 0.01
    """Factor of the boundary term, which is of the size of distances in voxels."""
    dice_weight: Weight = 1.0
    """Factor of the Dice term."""
    ce_weight: Weight = 1.0
    """Factor of the cross entropy."""
    smooth: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the Dice's numerator and denominator; an absent and unpredicted structure counts as Dice 1."""


def build(options: Options, *, exclusive: bool) -> Loss:
    def term(score: Scores) -> Tensor:
        dice = soft_dice(score, exclusive=exclusive, smooth=options.smooth, squared=False, batch=False)
        total = options.dice_weight * dice + options.ce_weight * cross_entropy(score, exclusive=exclusive)
        return total + options.weight * _boundary(score, exclusive=exclusive)

    return deeply_supervised(term, exclusive=exclusive)


def _boundary(score: Scores, *, exclusive: bool) -> Tensor:
    p, truth = structures(score, exclusive=exclusive)
    known = None if score.known is None else score.known.expand_as(p)
    distances = torch.from_numpy(signed_distances(_on_cpu(truth), None if known is None else _on_cpu(known)))
    return mean(distances.to(p) * (p - truth.to(p.dtype)), known)


def _on_cpu(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.cpu().numpy())


def signed_distances(truth: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """Voxels from each voxel's centre to the surface of (B, C, I, J, K) truths, below 0 inside. What is not known is no
    voxel of either kind, and has 0; so has a map in which one kind is missing."""
    distances = np.zeros(truth.shape, np.float32)
    for place in np.ndindex(truth.shape[:2]):
        inside = truth[place]
        outside = ~inside if known is None else known[place] & ~inside
        if inside.any() and outside.any():
            to_inside, to_outside = edt.edt(~inside), edt.edt(~outside)
            distances[place] = np.where(outside, to_inside - 0.5, np.where(inside, 0.5 - to_outside, 0))
    return distances
