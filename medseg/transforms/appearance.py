"""What augmentation does to the values of a patch, and not to places. Heavy imports are inside the functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.plan import Sizes
from medseg.refusal import Refusal
from medseg.transforms import fundus

if TYPE_CHECKING:
    import torch

    from medseg.transforms.augment import Draw

BEYOND = 0.5
"""How far values may lie outside 0 to 1 for colours to have a meaning; interpolation overshoots by less."""


def change(draw: Draw, image: torch.Tensor) -> torch.Tensor:
    """Colours; noise, blur, brightness, contrast, low resolution, gamma, in nnU-Net's order; cut-out.

    Args:
        draw: from `augment.draw`.
        image: (C, i, j, k) floating point; it is not written into.

    Raises:
        Refusal: colours are to be changed of an image whose values do not run from 0 to 1.
    """
    import torch

    if draw.colour is not None:
        image = _recolour(image, fundus.Colour(*draw.colour))
    if draw.noise is not None:
        seed, sd = draw.noise
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))  # on CPU: the same everywhere
        image = image + sd * noise.to(image)
    if draw.blur is not None:
        image = torch.stack([_blur(one, sd) if sd else one for one, sd in zip(image, draw.blur, strict=True)])
    if draw.brightness is not None:
        image = image * image.new_tensor(draw.brightness).reshape(-1, 1, 1, 1)
    if draw.contrast is not None:
        factor = image.new_tensor(draw.contrast).reshape(-1, 1, 1, 1)
        mean = image.mean((1, 2, 3), keepdim=True)
        lower, upper = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
        image = torch.minimum(torch.maximum((image - mean) * factor + mean, lower), upper)
    if draw.low_resolution is not None:
        image = torch.stack(
            [_coarse(one, by) if by else one for one, by in zip(image, draw.low_resolution, strict=True)]
        )
    if draw.inverted_gamma is not None:
        image = _gamma(image, draw.inverted_gamma, invert=True)
    if draw.gamma is not None:
        image = _gamma(image, draw.gamma, invert=False)
    return image if draw.cutout is None else _cut_out(image, draw.cutout)


def _recolour(image: torch.Tensor, colour: fundus.Colour) -> torch.Tensor:
    """Hue, saturation and value of a picture with values from 0 to 1."""
    import torch

    lowest, highest = float(image.amin()), float(image.amax())
    if lowest < -BEYOND or highest > 1 + BEYOND:
        raise Refusal(
            "augment.hue, augment.saturation, augment.value",
            found=f"an image with values from {lowest:.3g} to {highest:.3g}",
            needed="red, green and blue from 0 to 1",
            remedy="normalise pictures with the window 0 to 255, or set the three to 0",
        )
    changed = fundus.recolour(image.movedim(0, -1).cpu().numpy(), colour)
    return torch.from_numpy(changed).movedim(-1, 0).contiguous().to(image)


def _cut_out(image: torch.Tensor, boxes: tuple[tuple[Sizes, Sizes, float], ...]) -> torch.Tensor:
    """A copy with all channels of each box filled."""
    image = image.clone()
    for start, size, fill in boxes:
        i, j, k = (slice(first, first + length) for first, length in zip(start, size, strict=True))
        image[:, i, j, k] = fill
    return image


def _blur(channel: torch.Tensor, sd: float) -> torch.Tensor:
    """Gaussian along each axis of (i, j, k), the border repeated. A product with a small matrix is several times
    faster than a convolution here, and MONAI's GaussianSmooth darkens the border, which it fills with 0."""
    import torch

    for axis, size in enumerate(channel.shape):
        if size == 1:
            continue
        offsets = torch.arange(-math.ceil(4 * sd), math.ceil(4 * sd) + 1)
        weights = torch.exp(-0.5 * (offsets / sd) ** 2)
        read = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
        matrix = torch.zeros(size, size).scatter_add_(1, read, (weights / weights.sum()).expand(size, -1))
        channel = torch.tensordot(matrix.to(channel), channel.movedim(axis, 0), dims=1).movedim(0, axis)
    return channel.contiguous()


def _coarse(channel: torch.Tensor, factor: float) -> torch.Tensor:
    """Fewer samples (nearest), then as many as before (linear)."""
    from torch.nn import functional

    size = [max(1, round(length * factor)) for length in channel.shape]
    small = functional.interpolate(channel[None, None], size=size, mode="nearest-exact")
    return functional.interpolate(small, size=tuple(channel.shape), mode="trilinear", align_corners=False)[0, 0]


def _gamma(image: torch.Tensor, gammas: tuple[float, ...], *, invert: bool) -> torch.Tensor:
    """MONAI's gamma, channel by channel, keeping each channel's mean and standard deviation; constants stay."""
    import torch
    from monai.transforms import AdjustContrast

    changed = []
    for channel, gamma in zip(image, gammas, strict=True):
        if channel.amin() == channel.amax():
            changed.append(channel)
        else:
            changed.append(AdjustContrast(gamma, invert_image=invert, retain_stats=True)(channel[None])[0])
    # MONAI answers with its own tensor class, which would follow the patch into the network and slow everything down
    return torch.stack([torch.as_tensor(channel).as_subclass(torch.Tensor) for channel in changed])
