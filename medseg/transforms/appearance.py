"""What augmentation does to the values of a patch, and not to places.

Numbers that were drawn stay plain numbers, and statistics stay where the patch is, so that a GPU is never waited for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from medseg.plan import Sizes
from medseg.refusal import Refusal
from medseg.transforms import fundus

if TYPE_CHECKING:
    from medseg.transforms.augment import Draw

BEYOND = 0.5
"""How far values may lie outside 0 to 1 for colours to have a meaning; interpolation overshoots by less."""


def change(draw: Draw, image: Tensor) -> Tensor:
    """Colours; noise, blur, brightness, contrast, low resolution, gamma, in nnU-Net's order; cut-out.

    Args:
        draw: from `augment.draw`.
        image: (C, i, j, k) floating point; it is not written into.

    Raises:
        Refusal: colours are to be changed of an image whose values do not run from 0 to 1.
    """
    if draw.colour is not None:
        image = _recolour(image, fundus.Colour(*draw.colour))
    if draw.noise is not None:
        image = _noisy(image, *draw.noise)
    steps = (
        (_blur, draw.blur),
        (torch.mul, draw.brightness),
        (_contrast, draw.contrast),
        (_coarse, draw.low_resolution),
        (_inverted_gamma, draw.inverted_gamma),
        (_gamma, draw.gamma),
    )
    for step, numbers in steps:
        if numbers is not None:
            changed = [one if by is None else step(one, by) for one, by in zip(image, numbers, strict=True)]
            image = torch.stack(changed) if len(changed) > 1 else changed[0][None]
    return image if draw.cutout is None else _cut_out(image, draw.cutout)


def _noisy(image: Tensor, seed: int, sd: float) -> Tensor:
    """Gaussian noise. A GPU has a generator of its own, so that it draws other numbers than the CPU from one seed."""
    device = image.device if image.device.type == "cuda" else torch.device("cpu")
    noise = torch.randn(image.shape, generator=torch.Generator(device).manual_seed(seed), device=device)
    return torch.add(image, noise.to(image), alpha=sd)


def _recolour(image: Tensor, colour: fundus.Colour) -> Tensor:
    """Hue, saturation and value of a picture with values from 0 to 1."""
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


def _cut_out(image: Tensor, boxes: tuple[tuple[Sizes, Sizes, float], ...]) -> Tensor:
    """A copy with all channels of each box filled."""
    image = image.clone()
    for start, size, fill in boxes:
        i, j, k = (slice(first, first + length) for first, length in zip(start, size, strict=True))
        image[:, i, j, k] = fill
    return image


def _blur(channel: Tensor, sd: float) -> Tensor:
    """Gaussian along each axis of (i, j, k), the border repeated. A product with a small matrix is several times
    faster than a convolution here, and MONAI's GaussianSmooth darkens the border, which it fills with 0."""
    i, j, k = (_smoothing(size, sd, channel) for size in channel.shape)
    channel = (i @ channel.reshape(len(i), -1)).view(channel.shape)
    return (j @ channel) @ k.T


def _smoothing(size: int, sd: float, like: Tensor) -> Tensor:
    """(size, size): new voxels from old ones along an axis."""
    reach = math.ceil(4 * sd)
    offsets = torch.arange(-reach, size + reach, device=like.device) - torch.arange(size, device=like.device)[:, None]
    weights = torch.exp(-0.5 * (offsets / sd) ** 2).masked_fill_(offsets.abs() > reach, 0)
    weights /= weights.sum(1, keepdim=True)
    matrix = weights[:, reach:-reach].clone()
    matrix[:, 0] += weights[:, :reach].sum(1)
    matrix[:, -1] += weights[:, -reach:].sum(1)
    return matrix.to(like.dtype)


def _contrast(channel: Tensor, factor: float) -> Tensor:
    """Further from the mean, or nearer; kept within the channel's range."""
    mean = channel.mean()
    changed = channel.sub(mean).mul_(factor).add_(mean)
    torch.maximum(changed, channel.amin(), out=changed)  # a third of the time that clamp takes with tensors
    return torch.minimum(changed, channel.amax(), out=changed)


def _coarse(channel: Tensor, factor: float) -> Tensor:
    """Fewer samples (nearest), then as many as before (linear)."""
    size = [max(1, round(length * factor)) for length in channel.shape]
    small = functional.interpolate(channel[None, None], size=size, mode="nearest-exact")
    return functional.interpolate(small, size=tuple(channel.shape), mode="trilinear", align_corners=False)[0, 0]


def _gamma(channel: Tensor, gamma: float) -> Tensor:
    """A power of the values, scaled to 0..1 for it; mean and standard deviation stay, and so does a constant.

    The formula is that of MONAI's AdjustContrast with retain_stats, small numbers included.
    """
    lowest, highest = torch.aminmax(channel)
    extent = highest - lowest
    mean, sd = _moments(channel)
    powers = channel.sub(lowest).div_(extent + 1e-7).pow_(gamma)
    power_mean, power_sd = _moments(powers)
    return powers.sub_(power_mean).mul_(extent * sd / (extent * power_sd + 1e-8)).add_(mean)


def _inverted_gamma(channel: Tensor, gamma: float) -> Tensor:
    """Gamma on the negative of the image."""
    return _gamma(channel.neg(), gamma).neg_()


def _moments(channel: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation; torch's own `std` takes several times as long on a CPU."""
    mean = channel.mean()
    return mean, torch.linalg.vector_norm(channel - mean) / math.sqrt(max(1, channel.numel() - 1))
