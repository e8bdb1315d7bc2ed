"""Boundary loss plus Dice and cross entropy: a wrong voxel costs as much as it is far from the true surface.

The mean over voxels and structures of D (p - t), times `weight`. D is the distance in millimetres to the true surface,
below 0 inside; the surface lies half a voxel (its shortest side, where slices are thick) from the centre of the nearest
voxel of the other kind. Where each scan keeps its own spacing, every voxel counts as 1 mm on all axes. D t does not
hang on the network, and makes the perfect answer cost 0. A structure that is absent, or all there is, has no surface:
Dice and cross entropy alone speak for it. Distances are computed on the CPU, for every patch and structure.
Source: Kervadec et al. 2019, "Boundary loss for highly unbalanced segmentation", arXiv:1812.07032.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import edt
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medseg.losses import Loss, Scores, cross_entropy, deeply_supervised, mean, soft_dice, structures
from medseg.plan import Triple
from medseg.settings import Settings

IN_MM = True
Weight = Annotated[float, Field(ge=0)]


class Options(Settings):
    weight: Weight = 0.01
    """Factor of the boundary term, which is of the size of distances in millimetres."""
    dice_weight: Weight = 1.0
    """Factor of the Dice term."""
    ce_weight: Weight = 1.0
    """Factor of the cross entropy."""
    smooth: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the Dice's numerator and denominator; an absent and unpredicted structure counts as Dice 1."""


def build(options: Options, *, exclusive: bool, spacing_mm: Triple = (1.0, 1.0, 1.0)) -> Loss:
    """The loss. `spacing_mm` is that of a target's voxels; those of coarser outputs are larger."""

    def loss(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        def term(score: Scores) -> Tensor:
            dice = soft_dice(score, exclusive=exclusive, smooth=options.smooth, squared=False, batch=False)
            total = options.dice_weight * dice + options.ce_weight * cross_entropy(score, exclusive=exclusive)
            sides = zip(spacing_mm, target.shape[2:], score.truth.shape[2:], strict=True)
            i, j, k = (mm * whole / coarse for mm, whole, coarse in sides)
            return total + options.weight * _boundary(score, (i, j, k), exclusive=exclusive)

        return deeply_supervised(term, exclusive=exclusive)(outputs, target)

    return loss


def _boundary(score: Scores, spacing_mm: Triple, *, exclusive: bool) -> Tensor:
    p, truth = structures(score, exclusive=exclusive)
    known = None if score.known is None else score.known.expand_as(p)
    on_cpu = None if known is None else _on_cpu(known)
    distances = torch.from_numpy(signed_distances(_on_cpu(truth), on_cpu, spacing_mm))
    return mean(distances.to(p) * (p - truth.to(p.dtype)), known)


def _on_cpu(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.cpu().numpy())


def signed_distances(truth: np.ndarray, known: np.ndarray | None, spacing_mm: Triple) -> np.ndarray:
    """Millimetres from each voxel's centre to the surface of (B, C, I, J, K) truths, below 0 inside. What is not known
    is no voxel of either kind, and has 0; so has a map in which one kind is missing."""
    distances = np.zeros(truth.shape, np.float32)
    half = min(spacing_mm) / 2
    for place in np.ndindex(truth.shape[:2]):
        inside = truth[place]
        outside = ~inside if known is None else known[place] & ~inside
        if inside.any() and outside.any():
            to_inside, to_outside = edt.edt(~inside, spacing_mm), edt.edt(~outside, spacing_mm)
            distances[place] = np.where(outside, to_inside - half, np.where(inside, half - to_outside, 0))
    return distances
