"""From a scan to the array that a network sees, and back: canonical orientation, crop, normalise, resample.

The same scan stored in any of the 48 axis orders gives the same bits: axes are permuted and flipped exactly, sizes do
not hang on the last digits of an affine, and all sums are taken over the same canonical slabs. Downsampling does
not smooth first, as in nnU-Net, unless the plan says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from medseg import scratch
from medseg.geometry import AxisMap, axis_map
from medseg.labels import IGNORE, LabelTable
from medseg.plan import Plan, Sizes
from medseg.refusal import Refusal
from medseg.transforms import intensity, masks, photograph, slabs
from medseg.transforms.masks import Slices
from medseg.transforms.slabs import Box, nonzero_box, whole_box
from medseg.volume import Volume


@dataclass(frozen=True)
class Undo:
    """How a prepared array lies on the scan that it was made from.

    Attributes:
        shape: (I, J, K) of the scan as it is stored.
        affine: rows of the scan's 4 x 4 affine.
        permutation, flips: the axis change to canonical orientation, see `geometry.AxisMap`.
        crop: (start, stop) per canonical axis of what was kept.
        prepared: (i, j, k) of the prepared array.
    """

    shape: Sizes
    affine: tuple[tuple[float, float, float, float], ...]
    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    crop: Box
    prepared: Sizes

    @property
    def axes(self) -> AxisMap:
        return AxisMap(self.permutation, self.flips)

    @property
    def canonical(self) -> Sizes:
        """(I, J, K) of the whole scan in canonical orientation."""
        first, second, third = (self.shape[axis] for axis in self.permutation)
        return first, second, third

    @property
    def cropped(self) -> Sizes:
        """(I, J, K) of the crop box."""
        first, second, third = (stop - start for start, stop in self.crop)
        return first, second, third

    @property
    def kept(self) -> Slices:
        """The crop box as slices."""
        first, second, third = (slice(start, stop) for start, stop in self.crop)
        return first, second, third

    @property
    def prepared_affine(self) -> np.ndarray:
        """Prepared voxel index -> RAS+ mm."""
        canonical = self.axes.affine(np.array(self.affine), self.shape)
        step = np.array(self.cropped) / np.array(self.prepared)
        to_canonical = np.diag([*step, 1.0])
        to_canonical[:3, 3] = np.array([start for start, _ in self.crop]) + step / 2 - 0.5
        return canonical @ to_canonical

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Undo:
        return cls(**{name: _tuples(value) for name, value in data.items()})

    @classmethod
    def nothing(cls, shape: Sizes) -> Undo:
        """Of an array that is its own preparation."""
        first, second, third = ((0, size) for size in shape)
        rows = _tuples(np.eye(4).tolist())
        return cls(shape, rows, (0, 1, 2), (False, False, False), (first, second, third), shape)


def way_back(volume: Volume, plan: Plan) -> Undo:
    """How the prepared array of a scan would lie on it, without making it; nothing but the crop box looks at voxels.

    Raises:
        Refusal: the number of channels is not the plan's, or PET is not in SUV.
    """
    _refuse_other_channels(volume, plan)
    _refuse_other_units(volume, plan)
    axes = axis_map(volume.affine, plan.orientation)
    crop = crop_box(axes.apply(volume.array), plan.crop)
    prepared = _prepared(volume, plan, [stop - start for start, stop in crop])
    return Undo(volume.shape, _tuples(volume.affine.tolist()), axes.permutation, axes.flips, crop, prepared)


def image(
    volume: Volume,
    plan: Plan,
    *,
    valid: np.ndarray | None = None,
    square: bool = False,
    planes: tuple[float, ...] = (),
    slowest: int = 0,
    device: torch.device | None = None,
) -> tuple[np.ndarray, Undo]:
    """What the network sees of a scan.

    The scan is read, normalised and resampled slab after slab: what is in memory besides the scan and the result, which
    may both lie on disk, does not grow with the scan's length. The steps for photographs take the picture as a whole.

    Args:
        volume: any axis order, any real kind of numbers.
        plan: with one normalisation per channel of `volume`.
        valid: boolean (1, I, J, K) of the pixels that count, for the steps that ask for it; None: found in the image.
        square: fill up a picture that is cropped to its field of view to a square, so that nothing is stretched. There
            is no way back from it: for classifiers alone.
        planes: further channels, each of one number everywhere, behind the scan's.
        slowest: axis of the result that lies furthest apart in memory, see `scratch.zeros`.
        device: that resamples; None: the CPU.

    Returns:
        float32 (C, i, j, k) from `scratch.zeros`, the same bits wherever it lies, and the way back. The prepared grid
        keeps the scan's field of view (to within half a voxel): its sizes are the plan's, or the scan's extent over the
        plan's spacing, rounded.

    Raises:
        Refusal: the number of channels is not the plan's, PET is not in SUV, or the plan's numbers make no sense.
    """
    undo = way_back(volume, plan)
    canonical = undo.axes.apply(volume.array)
    if "fundus_enhance" in plan.steps:
        field = None if valid is None else np.ascontiguousarray(undo.axes.apply(valid)[0, ..., 0])
        canonical = photograph.enhanced(volume, canonical, field)
    cropped = canonical[(slice(None), *undo.kept)]
    if square and plan.crop == "field":
        cropped = photograph.square(canonical)
        undo = replace(undo, prepared=_prepared(volume, plan, cropped.shape[1:]))
    result = scratch.zeros((len(cropped) + len(planes), *undo.prepared), np.float32, slowest=slowest)
    for values, how, out in zip(cropped, plan.normalisation, result, strict=False):
        channel = slabs.Channel(values, slabs.axis_of(plan.orientation))
        numbers = intensity.scale(channel, how)
        if plan.antialias:
            smooth = _smoothed(channel, numbers, undo.prepared)
            channel, numbers = slabs.Channel(smooth, channel.axis), intensity.AS_IS
        slabs.fill(out, channel, numbers, order=plan.order, device=device or torch.device("cpu"))
    for value, out in zip(planes, result[len(cropped) :], strict=True):
        out[:] = value
    return result, undo


def target(volume: Volume, undo: Undo, table: LabelTable) -> np.ndarray:
    """Network target of a label map on the prepared grid.

    Each class is resampled linearly and the highest wins, the later class on a tie; each region is where its linear
    value reaches a half. Numbers that the table does not know are background.

    Args:
        volume: (1, I, J, K) whole numbers, already known to lie on the grid of the image that gave `undo`.
        undo: from `image`.
        table: what the numbers mean.

    Returns:
        Contiguous (1, i, j, k) class numbers or (R, i, j, k) of 0 and 1, as `LabelTable.encode` codes them.

    Raises:
        Refusal: the label map does not have the image's shape.
    """
    if volume.array.shape != (1, *undo.shape):
        raise Refusal(
            volume.source.path,
            found=f"a label map of shape {volume.array.shape}",
            needed=f"one channel of the image's shape {undo.shape}",
            remedy="resample the label map to its image's grid",
        )
    canonical = undo.axes.apply(volume.array)
    cropped = canonical[(slice(None), *undo.kept)]
    if table.unit == "slice":
        return _slices(volume, np.ascontiguousarray(canonical[0]), undo, table)
    encoded = table.encode(np.ascontiguousarray(cropped[0]))
    if undo.cropped == undo.prepared:
        return np.ascontiguousarray(encoded)
    if table.exclusive:
        return masks.classes(encoded[0], undo.prepared)[None]
    result = np.zeros((len(encoded), *undo.prepared), np.uint8)
    for region, out in zip(encoded, result, strict=True):
        for box in ndimage.find_objects((region == 1).astype(np.uint8)):
            values, place = masks.box(region == 1, box, undo.prepared)
            out[place] = np.maximum(out[place], values >= 0.5)
        if (region == IGNORE).any():
            values, place = masks.box(region == IGNORE, masks.everything(region.shape), undo.prepared)
            out[place][values >= 0.5] = IGNORE
    return result


def centre_code(centre: str, centres: tuple[str, ...]) -> tuple[float, ...]:
    """1 for the centre's own channel, 0 for the others; all 0 where the centre is not stated.

    Raises:
        Refusal: a centre that the plan does not name.
    """
    if centre and centre not in centres:
        raise Refusal(
            "centre", found=f"'{centre}'", needed=f"one of {', '.join(centres)}", remedy="correct it, or leave it empty"
        )
    return tuple(float(centre == one) for one in centres)


def with_planes(image: np.ndarray, values: tuple[float, ...]) -> np.ndarray:
    """(C, i, j, k) with a further channel for each of `values`, which it holds everywhere."""
    planes = np.broadcast_to(np.array(values, image.dtype).reshape(-1, 1, 1, 1), (len(values), *image.shape[1:]))
    return np.concatenate([image, planes])


def crop_box(canonical: np.ndarray, crop: str) -> Box:
    """Box (start, stop) per axis of what is kept of (C, I, J, K) under the plan's `crop`."""
    if crop == "field":
        return nonzero_box(photograph.lit(canonical))
    return nonzero_box(canonical) if crop == "nonzero" else whole_box(canonical)


def prepared_shape(
    shape: Sequence[int],
    spacing_mm: list[float],
    wanted: tuple[float, float, float] | str,
    size: Sizes | None = None,
) -> Sizes:
    """Size per axis that keeps the field of view at the wanted spacing, at least 1; `size` overrules it where not 0.

    Halves round up, and from a thousandth of a voxel below already: the same axis has spacings that differ in the last
    digits when an oblique scan is stored in another axis order, and round figures (5 voxels of 1 mm at 2 mm) must not
    fall to either side.
    """
    if isinstance(wanted, str):
        first, second, third = shape
    else:
        first, second, third = (
            max(1, math.floor(length * old / new + 0.501))
            for length, old, new in zip(shape, spacing_mm, wanted, strict=True)
        )
    fixed = size or (0, 0, 0)
    return fixed[0] or first, fixed[1] or second, fixed[2] or third


def _refuse_other_channels(volume: Volume, plan: Plan) -> None:
    if len(volume.array) != len(plan.normalisation):
        raise Refusal(
            volume.source.path,
            found=f"{len(volume.array)} channels",
            needed=f"{len(plan.normalisation)}: {', '.join(plan.channels) or 'one for each normalisation'}",
            remedy="give the images that the plan names, or prepare anew with these channels",
        )


def _refuse_other_units(volume: Volume, plan: Plan) -> None:
    """PET that the reader could not give as SUV would be normalised as if it were."""
    if "no_suv" in volume.source.notes and any(how.kind == "suv" for how in plan.normalisation):
        raise Refusal(
            volume.source.path,
            found=f"PET in {volume.source.notes['values']} ({volume.source.notes['no_suv']})",
            needed="SUV, or a header from which it can be worked out",
            remedy="export the series again with that attribute, or convert it to SUV",
            code="not-quantitative",
        )


def _prepared(volume: Volume, plan: Plan, cropped: Sequence[int]) -> Sizes:
    """(i, j, k) of what becomes of a canonical crop of this size."""
    axes = axis_map(volume.affine, plan.orientation)
    spacing = [float(volume.spacing_mm[axis]) for axis in axes.permutation]
    return prepared_shape(cropped, spacing, plan.spacing_mm, plan.size)


def _smoothed(channel: slabs.Channel, numbers: intensity.Scale, shape: Sizes) -> np.ndarray:
    """The whole normalised channel under a Gaussian with sd (factor - 1) / 2 along every axis that gets shorter, as
    scikit-image's `resize` does."""
    values = np.array(channel.array, np.float32, order="C")
    intensity.normalise(torch.from_numpy(values), numbers)
    sd = [max(0.0, (old / new - 1) / 2) for old, new in zip(values.shape, shape, strict=True)]
    return ndimage.gaussian_filter(values, sd, mode="nearest")


def _slices(volume: Volume, canonical: np.ndarray, undo: Undo, table: LabelTable) -> np.ndarray:
    """(R, 1, 1, k): which classes' structures appear in each slice, crop or no crop."""
    (start, stop), prepared = undo.crop[2], undo.prepared[2]
    if stop - start != prepared:
        raise Refusal(
            volume.source.path,
            found=f"{stop - start} slices that become {prepared}",
            needed="every slice kept as it is, because each has its own label",
            remedy="set prepare.spacing_mm to native, and prepare.size (if any) to [.., .., 0]",
        )
    return table.encode_slices(canonical[:, :, start:stop])


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as tuples all the way down."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value
