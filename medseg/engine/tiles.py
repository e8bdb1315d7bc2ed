"""Whole-volume inference on overlapping tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from medseg.config import PredictSettings
from medseg.engine import device as devices
from medseg.geometry import AXIS_CODES
from medseg.refusal import Refusal

Sizes = tuple[int, int, int]
PATIENT_AXES = {"left-right": 0, "anterior-posterior": 1, "inferior-superior": 2}


def starts(size: int, tile: int, overlap: float) -> list[int]:
    """First voxel of each tile along one axis: as few as cover `size` at `overlap`, spread evenly (as nnU-Net does).

    Example:
        >>> starts(160, 96, 0.5)
        [0, 32, 64]
    """
    if size <= tile:
        return [0]
    count = math.ceil((size - tile) / (tile * (1 - overlap))) + 1
    return [round(place * (size - tile) / (count - 1)) for place in range(count)]


@lru_cache(maxsize=8)
def weights(tile: Sizes, blend: str) -> Tensor:
    """Weight of each voxel of a tile in the average, (i, j, k): constant, or a Gaussian with sigma = side / 8."""
    if blend == "constant":
        return torch.ones(tile)
    axes = []
    for side in tile:
        offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        axes.append(torch.exp(-0.5 * (offset / (side / 8)) ** 2))
    return (axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]).float()


def flips(mirror: Sequence[str], orientation: str) -> list[tuple[int, ...]]:
    """Tensor axes (of B, C, I, J, K) to flip for each test-time pass, the first being none."""
    axes = [2 + _voxel_axis(PATIENT_AXES[name], orientation) for name in mirror]
    return [combination for count in range(len(axes) + 1) for combination in itertools.combinations(axes, count)]


def _voxel_axis(world: int, orientation: str) -> int:
    return next(place for place, letter in enumerate(orientation) if letter in AXIS_CODES[world])


def logits(
    networks: Sequence[torch.nn.Module],
    image: Tensor,
    *,
    tile: Sizes,
    settings: PredictSettings,
    orientation: str,
    device: torch.device,
    on_tile: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Blended logits of a prepared image.

    Args:
        networks: one, or the members of an ensemble, whose logits are averaged; in evaluation mode, on `device`.
        image: (C, i, j, k) float32.
        tile: side lengths of a tile.
        orientation: of the image, to know which tensor axis a patient axis is.
        on_tile: called with (tiles done, tiles in all).

    Returns:
        (classes, i, j, k) float32 on the CPU.
    """
    shape = tuple(image.shape[1:])
    padded = pad_to(image, tile)
    grid = [starts(size, side, settings.overlap) for size, side in zip(padded.shape[1:], tile, strict=True)]
    corners = list(itertools.product(*grid))
    weight = weights(tile, settings.blend).to(device)
    total: Tensor | None = None
    norm = torch.zeros(tuple(padded.shape[1:]), device=device)
    for first in range(0, len(corners), settings.batch):
        group = corners[first : first + settings.batch]
        boxes = [tuple(slice(at, at + side) for at, side in zip(corner, tile, strict=True)) for corner in group]
        batch = torch.stack([padded[(slice(None), *box)] for box in boxes]).to(device)
        scores = _forward(networks, batch, flips(settings.mirror, orientation), settings.precision, device)
        if total is None:
            total = torch.zeros((scores.shape[1], *padded.shape[1:]), device=device)
        for box, score in zip(boxes, scores, strict=True):
            total[(slice(None), *box)] += score * weight
            norm[box] += weight
        if on_tile:
            on_tile(first + len(group), len(corners))
    assert total is not None  # there is always at least one tile
    total /= norm
    if not torch.isfinite(total).all():
        raise Refusal(
            "network output",
            found="values that are not finite",
            needed="finite ones",
            remedy="predict with precision 32; if that does not help, the weights are of no use",
        )
    offsets = [(have - want) // 2 for have, want in zip(padded.shape[1:], shape, strict=True)]
    box = tuple(slice(offset, offset + want) for offset, want in zip(offsets, shape, strict=True))
    return total[(slice(None), *box)].cpu()


def pad_to(image: Tensor, tile: Sizes) -> Tensor:
    """Zeros around (C, i, j, k), as evenly as possible, up to the size of a tile; zero is what a normalised scan has
    at its mean, or outside the body, and what training patches are padded with."""
    margins = []
    for size, side in zip(reversed(image.shape[1:]), reversed(tile), strict=True):
        missing = max(0, side - size)
        margins += [missing // 2, missing - missing // 2]
    return torch.nn.functional.pad(image, margins) if any(margins) else image


def finest(outputs: Tensor | Sequence[Tensor]) -> Tensor:
    """The full-resolution logits of a network, with deep supervision or without."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _forward(
    networks: Sequence[torch.nn.Module],
    batch: Tensor,
    passes: list[tuple[int, ...]],
    precision: str,
    device: torch.device,
) -> Tensor:
    scores: Tensor | None = None
    for network, axes in itertools.product(networks, passes):
        with torch.inference_mode(), devices.autocast(device, precision):
            out = finest(network(batch.flip(axes) if axes else batch)).float()
        out = out.flip(axes) if axes else out
        scores = out if scores is None else scores + out
    assert scores is not None  # there is always at least one network and one pass
    return scores / (len(networks) * len(passes))
