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
from medseg.engine.networks import answers
from medseg.geometry import AXIS_CODES
from medseg.refusal import Refusal

Sizes = tuple[int, int, int]
PATIENT_AXES = {"left-right": 0, "anterior-posterior": 1, "inferior-superior": 2}


def starts(size: int, tile: int, overlap: float) -> list[int]:
    """First voxel of each tile along one axis: as few as cover `size` at `overlap`, spread evenly (as nnU-Net does).
    None comes twice: single slices cannot overlap.

    Example:
        >>> starts(160, 96, 0.5)
        [0, 32, 64]
        >>> starts(4, 1, 0.5)
        [0, 1, 2, 3]
    """
    if size <= tile:
        return [0]
    count = min(math.ceil((size - tile) / (tile * (1 - overlap))), size - tile) + 1
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
    context: int = 0,
    on_tile: Callable[[int, int], None] | None = None,
    passes: Sequence[tuple[int, ...]] = (),
) -> Tensor:
    """Blended logits of a prepared image.

    Along axes where the networks answer with one entry for a whole tile (classifiers), so does the result.

    Args:
        networks: one, or the members of an ensemble, whose logits are averaged; in evaluation mode, on `device`.
        image: (C, i, j, k) float32.
        tile: side lengths of a tile.
        orientation: of the image, to know which tensor axis a patient axis is.
        context: slices along k that tiles have in addition on each side; 0 beyond the image, as in training.
        on_tile: called with (tiles done, tiles in all).
        passes: tensor axes to flip, of each pass that is averaged; empty: as the settings say, see `flips`.

    Returns:
        (classes, i, j, k) float32 on the CPU; 1 for i, j or k where there is one answer for all.

    Raises:
        Refusal: a classifier's image is larger than what it sees at once; the answer is not finite.
    """
    shape = tuple(image.shape[1:])
    padded = pad_to(image, tile)
    sizes = tuple(padded.shape[1:])
    grid = [starts(size, side, settings.overlap) for size, side in zip(sizes, tile, strict=True)]
    corners = list(itertools.product(*grid))
    padded = torch.nn.functional.pad(padded, (context, context))
    wide = (tile[0], tile[1], tile[2] + 2 * context)
    mirrored = passes or flips(settings.mirror, orientation)
    total: Tensor | None = None
    for first in range(0, len(corners), settings.batch):
        group = corners[first : first + settings.batch]
        batch = torch.stack([padded[(slice(None), *_box(corner, wide))] for corner in group]).to(device)
        scores = _forward(networks, batch, mirrored, settings.precision, device)
        if total is None:
            kept = _result_sizes(scores.shape[2:], tile, sizes)
            total = torch.zeros((scores.shape[1], *kept), device=device)
            norm = torch.zeros(kept, device=device)
            weight = weights((scores.shape[2], scores.shape[3], scores.shape[4]), settings.blend).to(device)
        for corner, score in zip(group, scores, strict=True):
            place = [0 if size == 1 else at for at, size in zip(corner, total.shape[1:], strict=True)]
            box = _box(place, score.shape[1:])
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
    wanted = [min(have, want) for have, want in zip(total.shape[1:], shape, strict=True)]
    offsets = [(have - want) // 2 for have, want in zip(total.shape[1:], wanted, strict=True)]
    return total[(slice(None), *_box(offsets, wanted))].cpu()


def _box(corner: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(at, at + side) for at, side in zip(corner, sides, strict=True))


def _result_sizes(answer: Sequence[int], tile: Sizes, sizes: Sequence[int]) -> list[int]:
    """The image's sizes, but 1 along axes where one entry answers for a whole tile, which must be the whole image."""
    kept = []
    for have, side, size in zip(answer, tile, sizes, strict=True):
        single = have == 1 and side != 1
        if single and size > side:
            raise Refusal(
                "image",
                found=f"{' x '.join(map(str, sizes))} voxels",
                needed=f"at most {' x '.join(map(str, tile))}, which the classifier sees at once",
                remedy="train with prepare.size, to which every image is resampled",
            )
        kept.append(1 if single else size)
    return kept


def pad_to(image: Tensor, tile: Sizes) -> Tensor:
    """Zeros around (C, i, j, k), as evenly as possible, up to the size of a tile; zero is what a normalised scan has
    at its mean, or outside the body, and what training patches are padded with."""
    margins = []
    for size, side in zip(reversed(image.shape[1:]), reversed(tile), strict=True):
        missing = max(0, side - size)
        margins += [missing // 2, missing - missing // 2]
    return torch.nn.functional.pad(image, margins) if any(margins) else image


def _forward(
    networks: Sequence[torch.nn.Module],
    batch: Tensor,
    passes: Sequence[tuple[int, ...]],
    precision: str,
    device: torch.device,
) -> Tensor:
    scores: Tensor | None = None
    for network, axes in itertools.product(networks, passes):
        with torch.inference_mode(), devices.autocast(device, precision):
            out = answers(network(batch.flip(axes) if axes else batch))[0].float()
        out = out.flip(axes) if axes else out
        scores = out if scores is None else scores + out
    assert scores is not None  # there is always at least one network and one pass
    return scores / (len(networks) * len(passes))
