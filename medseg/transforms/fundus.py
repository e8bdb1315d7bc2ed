"""Photographs of the retina: field of view, enhancement, padding, and the variations that RRWNet was trained with.

Pictures are (rows, columns, 3), masks (rows, columns). Source: Morano et al. 2024, "RRWNet", Expert Systems with
Applications, doi:10.1016/j.eswa.2024.124970; the enhancement is that of its original, number for number. Heavy imports
are inside the functions: recipes are checked without them.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import numpy as np

from medseg.refusal import Refusal

DARK = 0.1
"""Part of the highest brightness that a pixel needs to belong to the field of view."""
EROSION = 5
"""Radius in pixels by which the field of view is made smaller: cameras blur its rim."""
ENLARGED = 1.15
"""Of the copy that continues the retina beyond the field of view, so that subtracting the blur leaves no bright rim."""
BLUR_SD = 10.0
"""Of the Gaussian that is subtracted, in pixels."""
HIGHEST = 255


class Box(NamedTuple):
    """A square; it may reach beyond the picture."""

    row: int
    column: int
    side: int


def field_of_view(image: np.ndarray) -> np.ndarray:
    """Boolean mask of the lit disc: brighter than a tenth of the brightest pixel, the largest piece, holes filled.

    Raises:
        Refusal: the picture is all black.
    """
    from scipy import ndimage

    brightness = _coloured(image).mean(axis=2)
    if not brightness.max() > 0:
        raise Refusal(
            "photograph", found="black everywhere", needed="a lit field of view", remedy="leave the photograph out"
        )
    pieces, _ = ndimage.label(brightness > DARK * brightness.max())
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    filled: np.ndarray = ndimage.binary_fill_holes(pieces == sizes.argmax())
    return filled


def enhance(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Even out the light: what differs from the surroundings, scaled to 0..1 over the picture, 0 outside.

    Args:
        image: (rows, columns, 3) from 0 to 255. Rows are not columns here: the enlarged copy is rounded in between.
        mask: (rows, columns) field of view; True inside.

    Returns:
        The enhanced picture as float64, and the eroded mask, which is the field of view from now on.

    Raises:
        Refusal: the picture has less than three channels, or the mask another size.
    """
    from PIL import Image
    from scipy import ndimage

    values = _coloured(image) / HIGHEST
    rows, columns = values.shape[:2]
    if mask.shape != (rows, columns):
        raise Refusal(
            "field of view",
            found=f"a mask of {mask.shape}",
            needed=f"the size of its photograph, {(rows, columns)}",
            remedy="give the mask that belongs to the photograph",
        )
    height, width = int(ENLARGED * rows), int(ENLARGED * columns)
    copy = Image.fromarray((values * HIGHEST).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    beyond = np.asarray(copy)[top : top + rows, left : left + columns] / HIGHEST

    inside = eroded(mask)
    composed = np.where(inside[..., None], values, beyond)
    composed -= ndimage.gaussian_filter(composed, (BLUR_SD, BLUR_SD, 0))
    composed[~inside] = 0
    spread = composed.std()
    if spread > 0:
        composed /= spread
        composed = (composed - composed.min()) / (composed.max() - composed.min())
    composed[~inside] = 0
    return composed, inside


def eroded(mask: np.ndarray) -> np.ndarray:
    """A field of view (rows, columns) without its rim, nor the rim of the picture where the two meet."""
    from scipy import ndimage

    offsets = np.arange(-EROSION, EROSION + 1)
    disc = offsets[:, None] ** 2 + offsets**2 <= EROSION**2
    smaller: np.ndarray = ndimage.binary_erosion(mask.astype(bool), disc)
    return smaller


def enhance_uint8(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`enhance` from 0 to 255, cut off to whole numbers: the files that RRWNet was trained with."""
    enhanced, inside = enhance(image, mask)
    return (enhanced * HIGHEST).astype(np.uint8), inside


def padding(size: int, multiple: int) -> tuple[int, int]:
    """Pixels to add before and after an axis. The result is a multiple of `multiple`, and always larger than `size`: an
    axis that fits already gets a whole further `multiple`, as in RRWNet's original (16 in training, 32 in use)."""
    extra = multiple - size % multiple
    return extra // 2, extra - extra // 2


def square_box(mask: np.ndarray) -> Box:
    """The smallest square around a field of view, centred on it. Cameras often cut the disc off at top and bottom; the
    square then reaches beyond the picture.

    Raises:
        Refusal: the mask is empty.
    """
    if not mask.any():
        raise Refusal("field of view", found="an empty mask", needed="a lit disc", remedy="leave the photograph out")
    edges = []
    for axis in (0, 1):
        lit = np.flatnonzero(mask.any(axis=1 - axis))
        edges.append((int(lit[0]), int(lit[-1]) + 1))
    (top, bottom), (left, right) = edges
    side = max(bottom - top, right - left)
    return Box(top - (side - bottom + top) // 2, left - (side - right + left) // 2, side)


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """The part of a picture or mask inside a box, 0 where the box reaches beyond it."""
    result = np.zeros((box.side, box.side, *image.shape[2:]), image.dtype)
    rows, columns = image.shape[:2]
    top, left = max(box.row, 0), max(box.column, 0)
    part = image[top : min(box.row + box.side, rows), left : min(box.column + box.side, columns)]
    result[top - box.row :, left - box.column :][: part.shape[0], : part.shape[1]] = part
    return result


class Colour(NamedTuple):
    """How hue, saturation and value change: the hue turns by `hue` (1 is the whole circle), the others become
    `factor * (x + shift)`, kept from 0 to 1."""

    hue: float = 0.0
    saturation_shift: float = 0.0
    value_shift: float = 0.0
    saturation_factor: float = 1.0
    value_factor: float = 1.0


def draw_colour(
    generator: random.Random | np.random.Generator,
    *,
    hue: float = 0.02,
    saturation: float = 0.2,
    value: float = 0.2,
) -> Colour:
    """Shifts of up to plus or minus the given numbers, and factors as far from 1; the defaults are RRWNet's."""
    widths = Colour(hue, saturation, value, saturation, value)
    centres = Colour()
    drawn = (generator.uniform(centre - width, centre + width) for centre, width in zip(centres, widths, strict=True))
    return Colour(*map(float, drawn))


def recolour(image: np.ndarray, drawn: Colour) -> np.ndarray:
    """Red, green and blue in the last axis, from 0 to 1; what lies beyond is cut off first. Floating point."""
    image = image.clip(0, 1)
    value, delta = image.max(-1), np.ptp(image, axis=-1)
    red, green, blue = (image[..., channel] for channel in range(3))
    grey, safe = delta == 0, np.where(delta == 0, 1, delta)
    sixths = np.where(
        value == blue,
        4 + (red - green) / safe,
        np.where(value == green, 2 + (blue - red) / safe, (green - blue) / safe),
    )
    hue = (np.where(grey, 0, sixths) / 6 + drawn.hue) % 1
    saturation = delta / np.where(value == 0, 1, value)
    saturation = (drawn.saturation_factor * (saturation + drawn.saturation_shift)).clip(0, 1)
    value = (drawn.value_factor * (value + drawn.value_shift)).clip(0, 1)
    channels = []
    for offset in (5, 3, 1):
        place = (offset + 6 * hue) % 6
        channels.append(value - value * saturation * np.minimum(np.minimum(place, 4 - place), 1).clip(0))
    return np.stack(channels, axis=-1).astype(image.dtype)


class Affine(NamedTuple):
    """Turn, enlarge and slant a picture."""

    rotation_deg: float = 0.0
    zoom: float = 1.0
    shear_deg: float = 0.0


def draw_affine(generator: random.Random) -> Affine:
    """As RRWNet: any angle, zoom 0.7 to 1.3, shear up to 25 degrees."""
    return Affine(generator.uniform(-180, 180), generator.uniform(0.7, 1.3), generator.uniform(-25, 25))


def affine_matrix(drawn: Affine, shape: tuple[int, int], *, centred: bool = True) -> np.ndarray:
    """3 x 3 from new to old (x, y, 1), x along columns.

    Args:
        shape: (rows, columns).
        centred: turn about the picture's middle; False: about (rows / 2, columns / 2) taken as (x, y), as RRWNet's
            original does, which is not the middle unless the picture is square.
    """
    rows, columns = shape
    x, y = ((columns - 1) / 2, (rows - 1) / 2) if centred else (rows / 2, columns / 2)
    angle, slant = math.radians(drawn.rotation_deg), math.tan(math.radians(drawn.shear_deg))
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turned @ [[1, -slant], [0, 1]] / drawn.zoom
    matrix[:2, 2] = np.array([x, y]) - matrix[:2, :2] @ [x, y]
    return matrix


def warp(image: np.ndarray, matrix: np.ndarray, *, order: int) -> np.ndarray:
    """Read a picture (order 3, cubic; kept within its range) or a mask (order 0, nearest) at the places that
    `affine_matrix` says; 0 beyond its border. Same shape and type."""
    from skimage import transform

    moved: np.ndarray = transform.warp(image, matrix, order=order, mode="constant", cval=0, preserve_range=True)
    return moved.astype(image.dtype)


class Rectangle(NamedTuple):
    """A part of a picture, and what it is filled with."""

    row: int
    column: int
    height: int
    width: int
    fill: float


def draw_cutout(
    generator: random.Random,
    shape: tuple[int, int],
    *,
    count: int = 16,
    side: float = 0.04,
    fill: tuple[float, float] = (0.4, 0.6),
    p: float = 0.8,
) -> tuple[Rectangle, ...]:
    """Rectangles of a share of the picture's sides (at least one pixel), or none. The defaults are RRWNet's."""
    if generator.random() >= p:
        return ()
    rows, columns = shape
    height, width = max(1, int(side * rows)), max(1, int(side * columns))
    return tuple(
        Rectangle(
            generator.randint(0, rows - height),
            generator.randint(0, columns - width),
            height,
            width,
            generator.uniform(*fill),
        )
        for _ in range(count)
    )


def cut_out(image: np.ndarray, rectangles: tuple[Rectangle, ...]) -> np.ndarray:
    """A copy with all channels of each rectangle filled."""
    image = image.copy()
    for row, column, height, width, fill in rectangles:
        image[row : row + height, column : column + width] = fill
    return image


def _coloured(image: np.ndarray) -> np.ndarray:
    """The first three channels."""
    if image.ndim != 3 or image.shape[2] < 3:
        raise Refusal(
            "photograph",
            found=f"an array of shape {image.shape}",
            needed="(rows, columns, 3): red, green, blue",
            remedy="give a colour photograph",
        )
    return image[..., :3]
