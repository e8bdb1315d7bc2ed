"""Augmentation in two steps: `draw` chance as plain numbers, then `apply` them, which is pure and can be repeated.

Everything is done on one patch in voxel coordinates. What rotation or zoom brings in from beyond the patch repeats its
border, in image and target alike, so that the two stay in step and no label appears that was not there. Probabilities
and ranges are those of nnU-Net; what nnU-Net does not have (shear, colours, cut-out) is off unless asked for. Heavy
imports are inside the functions: recipes are checked without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from medseg.plan import Sizes
from medseg.settings import Settings
from medseg.transforms import fundus

if TYPE_CHECKING:
    import torch

PatientAxis = Literal["left-right", "anterior-posterior", "inferior-superior"]
LETTERS: dict[str, str] = {"left-right": "LR", "anterior-posterior": "AP", "inferior-superior": "IS"}
Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
Range = tuple[float, float]
THIN = 3
"""A patch axis this many times shorter than the longest has thick slices: no rotation or zoom mixes them."""
PER_CHANNEL = 0.5
"""Part of the channels that blur and low resolution touch when they happen."""
COLOURS = 3
"""Channels of a picture with colours."""


class Options(Settings):
    """How patches are varied during training; a probability of 0 switches a step off."""

    rotate_deg: float = Field(default=30, ge=0, le=180)
    """Largest angle about each axis."""
    rotate_p: float = Field(default=0.2, ge=0, le=1)
    scale: Range = (0.7, 1.4)
    """Zoom factors; above 1 structures grow."""
    scale_p: float = Field(default=0.2, ge=0, le=1)
    elastic_voxels: float = Field(default=4, ge=0)
    """Standard deviation of the control points' displacement."""
    elastic_p: float = Field(default=0, ge=0, le=1)
    mirror: tuple[PatientAxis, ...] = ()
    """Axes of the patient along which patches are flipped half of the time. Empty by default, because many label
    tables tell left from right."""
    noise_variance: Range = (0, 0.1)
    noise_p: float = Field(default=0.1, ge=0, le=1)
    blur_voxels: Range = (0.5, 1)
    """Standard deviation of the Gaussian."""
    blur_p: float = Field(default=0.2, ge=0, le=1)
    brightness: Range = (0.75, 1.25)
    brightness_p: float = Field(default=0.15, ge=0, le=1)
    contrast: Range = (0.75, 1.25)
    """Factors on the distance from the channel's mean; the channel's range is kept."""
    contrast_p: float = Field(default=0.15, ge=0, le=1)
    low_resolution: Range = (0.5, 1)
    """Factors on the number of samples along each axis."""
    low_resolution_p: float = Field(default=0.25, ge=0, le=1)
    gamma: Range = (0.7, 1.5)
    gamma_p: float = Field(default=0.3, ge=0, le=1)
    inverted_gamma_p: float = Field(default=0.1, ge=0, le=1)
    """Gamma on the negative of the image."""
    shear_deg: float = Field(default=0, ge=0, lt=90)
    """Largest angle by which patches are slanted; RRWNet has 25."""
    shear_p: float = Field(default=1, ge=0, le=1)
    hue: float = Field(default=0, ge=0, le=0.5)
    """Largest turn of the hue, 1 being the whole circle; RRWNet has 0.02. This and the next two are for colour
    pictures (3 channels) with values from 0 to 1, and do nothing to others."""
    saturation: float = Field(default=0, ge=0, le=1)
    """Largest shift of the saturation, and of its factor from 1; RRWNet has 0.2."""
    value: float = Field(default=0, ge=0, le=1)
    """Likewise for the value, which is the strongest channel; RRWNet has 0.2."""
    colour_p: float = Field(default=1, ge=0, le=1)
    """Of hue, saturation and value together."""
    cutout: int = Field(default=0, ge=0)
    """Boxes that are filled with one number each, in the image only; RRWNet has 16."""
    cutout_side: float = Field(default=0.04, gt=0, le=1)
    """Share of the patch's side; along thick slices a box reaches through all of them."""
    cutout_fill: Range = (0.4, 0.6)
    """Numbers that boxes are filled with, as the normalised image has them."""
    cutout_p: float = Field(default=0.8, ge=0, le=1)


@dataclass(frozen=True)
class Draw:
    """What chance decided for one patch: plain numbers, None where a step is left out. `Draw()` changes nothing.

    Attributes:
        flips: per patch axis.
        matrix: rows of the 3 x 3 matrix from new to old voxel coordinates about the patch's centre.
        elastic: (seed, standard deviation in voxels, what it is multiplied by on each axis; 0: nothing moves along it).
        noise: (seed, standard deviation).
        blur, brightness, contrast, low_resolution, inverted_gamma, gamma: one number (or None) per channel.
        colour: hue, saturation, value.
        cutout: for each box its first voxel and its size along i, j, k, and what it is filled with.
    """

    flips: tuple[bool, bool, bool] = (False, False, False)
    matrix: Matrix | None = None
    elastic: tuple[int, float, tuple[float, float, float]] | None = None
    noise: tuple[int, float] | None = None
    blur: tuple[float | None, ...] | None = None
    brightness: tuple[float, ...] | None = None
    contrast: tuple[float, ...] | None = None
    low_resolution: tuple[float | None, ...] | None = None
    inverted_gamma: tuple[float, ...] | None = None
    gamma: tuple[float, ...] | None = None
    colour: fundus.Colour | None = None
    cutout: tuple[tuple[Sizes, Sizes, float], ...] | None = None


def draw(
    generator: np.random.Generator, options: Options, *, patch: Sizes, channels: int, orientation: str = "RAS"
) -> Draw:
    """Decide how one patch is varied.

    Args:
        generator: of this sample; the same state gives the same Draw.
        options: probabilities and ranges.
        patch: (i, j, k) voxels.
        channels: of the image.
        orientation: of the plan; it says which patch axis `mirror: left-right` means.
    """

    def happens(probability: float) -> bool:
        return bool(generator.random() < probability)

    def each(bounds: Range) -> tuple[float, ...]:
        return tuple(float(value) for value in generator.uniform(*bounds, channels))

    def some(bounds: Range) -> tuple[float | None, ...]:
        return tuple(value if happens(PER_CHANNEL) else None for value in each(bounds))

    mirrored = [any(orientation[axis] in LETTERS[name] for name in options.mirror) for axis in range(3)]
    flips = tuple(bool(generator.random() < 0.5) and wanted for wanted in mirrored)
    thick = tuple(int(size * THIN <= max(patch)) for size in patch)
    elastic = None
    if happens(options.elastic_p):
        moving = tuple(1 - thin for thin in thick)
        elastic = (_seed(generator), options.elastic_voxels, moving)
    drawn = Draw(
        flips=flips,  # type: ignore[arg-type]
        matrix=_draw_matrix(generator, options, thick),
        elastic=elastic,  # type: ignore[arg-type]
        noise=(_seed(generator), math.sqrt(generator.uniform(*options.noise_variance)))
        if happens(options.noise_p)
        else None,
        blur=some(options.blur_voxels) if happens(options.blur_p) else None,
        brightness=each(options.brightness) if happens(options.brightness_p) else None,
        contrast=each(options.contrast) if happens(options.contrast_p) else None,
        low_resolution=some(options.low_resolution) if happens(options.low_resolution_p) else None,
        inverted_gamma=each(options.gamma) if happens(options.inverted_gamma_p) else None,
        gamma=each(options.gamma) if happens(options.gamma_p) else None,
    )
    return _draw_more(generator, options, drawn, patch=patch, channels=channels, thick=thick)


def apply(draw: Draw, image: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what was drawn. Neither input is written into; the outputs may be the inputs where nothing was drawn.

    Args:
        draw: from `draw`, or made by hand.
        image: (C, i, j, k) floating point; it is interpolated linearly.
        target: (1 or R, i, j, k) whole numbers; the nearest is taken. A target of another size than the image (classes
            of the whole image, or of a slice) has no places to move, and stays as it is.

    Raises:
        Refusal: colours are to be changed of an image whose values do not run from 0 to 1.
    """
    from medseg.transforms import appearance, places

    in_step = target.shape[1:] == image.shape[1:]
    if draw.matrix is not None or draw.elastic is not None:
        image, moved = places.warp(draw, image, target if in_step else None)
        target = target if moved is None else moved
    axes = [1 + axis for axis, flip in enumerate(draw.flips) if flip]
    if axes:
        image, target = image.flip(axes), target.flip(axes) if in_step else target
    return appearance.change(draw, image), target


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**31))


def _draw_matrix(generator: np.random.Generator, options: Options, thick: tuple[int, ...]) -> Matrix | None:
    """Rotation times zoom. Thick slices are only turned in their plane and never zoomed across it."""
    rotate, zoom = generator.random() < options.rotate_p, generator.random() < options.scale_p
    if not rotate and not zoom:
        return None
    matrix = np.eye(3)
    if rotate:
        for axis in range(3):
            first, second = (other for other in range(3) if other != axis)
            angle = math.radians(generator.uniform(-options.rotate_deg, options.rotate_deg))
            if thick[first] or thick[second]:
                continue
            turn = np.eye(3)
            turn[[first, second], [first, second]] = math.cos(angle)
            turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
            matrix = matrix @ turn
    if zoom:
        low, high = options.scale
        # half of the zooms shrink and half enlarge, however far the range is from being even about 1
        bounds = (low, min(1.0, high)) if generator.random() < 0.5 and low < 1 else (max(low, 1.0), max(high, 1.0))
        factor = generator.uniform(*bounds)
        matrix = matrix / np.array([1.0 if thin else factor for thin in thick])
    rows = tuple((float(row[0]), float(row[1]), float(row[2])) for row in matrix)
    return rows[0], rows[1], rows[2]


def _draw_more(
    generator: np.random.Generator,
    options: Options,
    drawn: Draw,
    *,
    patch: Sizes,
    channels: int,
    thick: tuple[int, ...],
) -> Draw:
    """Shear, colours and cut-out. Chance is used only for what is switched on, and last, so that all other draws are
    the same with and without."""
    if options.shear_deg > 0 and generator.random() < options.shear_p:
        matrix = np.array(drawn.matrix or np.eye(3)) @ _draw_shear(generator, options.shear_deg, thick)
        rows = tuple((float(row[0]), float(row[1]), float(row[2])) for row in matrix)
        drawn = replace(drawn, matrix=(rows[0], rows[1], rows[2]))
    ranges = {"hue": options.hue, "saturation": options.saturation, "value": options.value}
    if channels == COLOURS and any(ranges.values()) and generator.random() < options.colour_p:
        drawn = replace(drawn, colour=fundus.draw_colour(generator, **ranges))
    if options.cutout > 0 and generator.random() < options.cutout_p:
        sizes = [
            side if thin else max(1, int(options.cutout_side * side)) for side, thin in zip(patch, thick, strict=True)
        ]
        boxes = []
        for _ in range(options.cutout):
            starts = [int(generator.integers(side - size + 1)) for side, size in zip(patch, sizes, strict=True)]
            fill = float(generator.uniform(*options.cutout_fill))
            boxes.append(((starts[0], starts[1], starts[2]), (sizes[0], sizes[1], sizes[2]), fill))
        drawn = replace(drawn, cutout=tuple(boxes))
    return drawn


def _draw_shear(generator: np.random.Generator, largest_deg: float, thick: tuple[int, ...]) -> np.ndarray:
    """Slant in every plane that has no thick axis."""
    matrix = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        if not thick[first] and not thick[second]:
            matrix[first, second] = math.tan(math.radians(generator.uniform(-largest_deg, largest_deg)))
    return matrix
