"""From the fingerprint and what the recipe leaves open to a plan; the rules follow nnU-Net's, simplified.

Spacing: the median of each axis. Where the coarsest axis is more than 3 times coarser than the others and also has
fewer than a third of their voxels, its 10th percentile, because thick slices hide what thin ones show.
Patch: a cube in millimetres, no longer than the median case on any axis, cut down along the axis that covers most of
its case until a step fits into memory. Batch: 2, or more where patches are small.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal, cast, get_args

import numpy as np

from medseg.engine.fingerprint import CaseFingerprint, Fingerprint
from medseg.engine.need import Need
from medseg.plan import Modality, Normalisation, Plan, PrepareSettings, Sizes, Triple
from medseg.refusal import Refusal
from medseg.transforms.prepare import prepared_shape

ANISOTROPIC = 3
CROP_SAVES = 0.75
"""Crop to nonzero when the median case keeps no more than this part of its voxels."""
LARGEST_PATCH = 128**3
"""Voxels that `patch: auto` never exceeds; beyond, steps get slow and rarely better."""
BATCH = 2
DATA_SHARE = 0.05
"""A batch should not cover more than this part of all voxels of the data set."""
LARGEST_BATCH = 32
SUV = Normalisation(kind="suv", lower=0.0, mean=0.0, sd=5.0)
"""PET uptake in units of 5 SUV: most lesions lie near 1."""
COLOURS = ("RED", "GREEN", "BLUE")
PHOTOGRAPH = Normalisation(kind="window", lower=0, upper=255)
"""Colours to 0..1, where colour augmentation works; published weights may want `fixed` numbers instead."""
MODALITY_OF_NAME = {
    "CT": "CT",
    "CTA": "CT",
    "CBCT": "CT",
    "PT": "PT",
    "PET": "PT",
    "SUV": "PT",
    "MR": "MR",
    "MRI": "MR",
    **dict.fromkeys(("T1", "T1W", "T1C", "T1CE", "T1GD", "T2", "T2W", "FLAIR", "DWI", "ADC"), "MR"),
    **dict.fromkeys(COLOURS, "colour"),
}
"""What a channel's name says when neither recipe nor file does (NIfTI has no field for the modality)."""
SCANNERS = tuple(filter(None, get_args(Modality)))
"""Modalities of which none can stand for another. Photographs have many names, which mean one thing."""


def make_plan(
    fingerprint: Fingerprint,
    settings: PrepareSettings,
    *,
    divisor: Sizes,
    channels: tuple[str, ...],
    need: Need,
    memory_gib: float,
    context: int | None = None,
    whole: bool = False,
    by_image: bool = False,
) -> Plan:
    """Fill in every 'auto'.

    Args:
        fingerprint: of the training cases, in the orientation that the network shall see.
        settings: what the recipe says.
        divisor: of the network; sides of the patch are multiples of it.
        channels: names, in network order.
        need: memory that a training step takes, by the voxels of the batch.
        memory_gib: what it may take.
        context: of a 2-D network, the slices that it sees on each side; its patches are single slices.
        whole: the network answers for a whole image (or slice) and must see all of it.
        by_image: it answers once for all slices.

    Raises:
        Refusal: a setting does not fit the data, the network or the memory.
    """
    crop = _crop(fingerprint) if settings.crop == "auto" else settings.crop
    spacing = _spacing(fingerprint) if settings.spacing_mm == "auto" else settings.spacing_mm
    shapes = np.array(
        [
            prepared_shape(_kept(case, crop), list(case.spacing_mm), spacing, settings.size)
            for case in fingerprint.cases.values()
        ]
    )
    in_mm = np.median([case.spacing_mm for case in fingerprint.cases.values()], axis=0)
    step = in_mm if spacing == "native" else np.array(spacing)
    if context is not None:
        if whole and by_image and shapes[:, 2].max() > 1:
            raise Refusal(
                "model",
                found=f"a 2-D classifier for images of {int(shapes[:, 2].max())} slices",
                needed="a 3-D one, because there is one class for all slices",
                remedy="use video_resnet, or labels of unit slice",
            )
        divisor = divisor[0], divisor[1], 1
        shapes[:, 2] = 1
    if whole:
        patch = _whole_patch(shapes.max(axis=0), settings.patch, divisor)
    elif settings.patch == "auto":
        patch = _fitting_patch(shapes, step, divisor, settings.batch, need, memory_gib)
    else:
        patch = _checked_patch(settings.patch, divisor)
    batch = settings.batch
    if batch == "auto":
        batch = _batch(patch, shapes, _room(need, memory_gib), pinned=settings.patch != "auto", whole=whole)
    return Plan(
        orientation=fingerprint.orientation,
        spacing_mm=spacing,
        size=settings.size,
        antialias=settings.antialias,
        steps=settings.steps,
        patch=patch,
        batch=batch,
        context=context or 0,
        normalisation=_normalisation(fingerprint, settings, channels, crop),
        crop=crop,
        order=settings.order,
        channels=channels,
        modalities=_modalities(fingerprint, settings, channels),
        unit=_unit(fingerprint),
        centres=settings.centres,
        channels_on_other_grids=settings.channels_on_other_grids,
    )


def _unit(fingerprint: Fingerprint) -> Literal["mm", "px"]:
    units = {name: [key for key, case in fingerprint.cases.items() if case.unit == name] for name in ("mm", "px")}
    if units["mm"] and units["px"]:
        raise Refusal(
            "data set",
            found=f"photographs ({units['px'][0]}, ...) beside volumes with a size in mm ({units['mm'][0]}, ...)",
            needed="one or the other",
            remedy="make a data set of each",
        )
    return "mm" if units["mm"] else "px"


def _kept(case: CaseFingerprint, crop: str) -> Sizes:
    if crop == "field":  # at most a square as large as the picture's longer side
        side = max(case.shape[:2])
        return side, side, case.shape[2]
    return case.cropped if crop == "nonzero" else case.shape


def _whole_patch(largest: np.ndarray, wanted: Sizes | str, divisor: Sizes) -> Sizes:
    """Sides that hold the largest image of the training set."""
    first, second, third = (-(-int(size) // unit) * unit for size, unit in zip(largest, divisor, strict=True))
    if not isinstance(wanted, str):
        if any(size < needed for size, needed in zip(wanted, largest, strict=True)):
            raise Refusal(
                "prepare.patch",
                found=f"{list(wanted)}",
                needed=f"at least {[first, second, third]}: a classifier sees the whole image at once",
                remedy="leave prepare.patch out, and set prepare.size to make the images smaller",
            )
        return _checked_patch(wanted, divisor)
    return first, second, third


def _spacing(fingerprint: Fingerprint) -> Triple:
    spacings = np.array([case.spacing_mm for case in fingerprint.cases.values()])
    sizes = np.median([case.shape for case in fingerprint.cases.values()], axis=0)
    wanted = np.median(spacings, axis=0)
    coarse = int(wanted.argmax())
    others = [axis for axis in range(3) if axis != coarse]
    if wanted[coarse] > ANISOTROPIC * wanted[others].max() and sizes[coarse] * ANISOTROPIC < sizes[others].min():
        wanted[coarse] = max(np.percentile(spacings[:, coarse], 10), wanted[others].max())
    first, second, third = (round(float(value), 6) for value in wanted)
    return first, second, third


def _crop(fingerprint: Fingerprint) -> Literal["none", "nonzero"]:
    kept = [math.prod(case.cropped) / math.prod(case.shape) for case in fingerprint.cases.values()]
    return "nonzero" if np.median(kept) <= CROP_SAVES else "none"


def _patch(median: np.ndarray, step_mm: np.ndarray, divisor: Sizes, voxels: float) -> Sizes:
    """Start with a cube in mm of at most the median case, then shorten the axis that covers most of its case."""
    limit = min(voxels, LARGEST_PATCH)
    unit = np.array(divisor)
    # a cube of 256^3 voxels in mm before it is held against the case, so that long cases keep their length longest
    cube = (256**3 * step_mm.prod()) ** (1 / 3) / step_mm
    patch = np.ceil(np.minimum(cube, median) / unit).astype(int) * unit
    while patch.prod() > limit and (patch > unit).any():
        covered = np.where(patch > unit, patch / median, -1)
        axis = int(covered.argmax())
        patch[axis] -= unit[axis]
    return int(patch[0]), int(patch[1]), int(patch[2])


def _room(need: Need, memory_gib: float) -> float:
    """Voxels of a batch that fit into memory."""
    return (memory_gib * 2**30 - need.fixed) / need.per_voxel if need.per_voxel else math.inf


def _fitting_patch(
    shapes: np.ndarray,
    step_mm: np.ndarray,
    divisor: Sizes,
    batch: int | Literal["auto"],
    need: Need,
    memory_gib: float,
) -> Sizes:
    """The largest patch of which a batch fits into memory, or of which a single one does where the batch is open."""
    room, wanted = _room(need, memory_gib), BATCH if batch == "auto" else batch
    patch = _patch(np.median(shapes, axis=0), step_mm, divisor, room / wanted)
    least = 1 if batch == "auto" else batch
    if math.prod(patch) * least > room:
        raise Refusal(
            "prepare.memory_gib",
            found=f"{memory_gib:.3g} GiB",
            needed=f"{need.of(patch, least) / 2**30:.3g} GiB for the smallest patch {patch} with batch {least}",
            remedy="choose a smaller model or batch, or a machine with more memory",
        )
    return patch


def _batch(patch: Sizes, shapes: np.ndarray, room: float, *, pinned: bool, whole: bool) -> int:
    """As many as fit, but no large part of the data set; two at least, or one where two do not fit or the patch is
    given."""
    size = math.prod(patch)
    if not pinned and not whole and size * BATCH > room:
        return 1
    by_data = DATA_SHARE * float(shapes.prod(axis=1).sum())
    return min(max(1 if pinned else BATCH, int(min(room, by_data) // size)), LARGEST_BATCH)


def _checked_patch(patch: Sizes, divisor: Sizes) -> Sizes:
    if any(size < 1 or size % unit for size, unit in zip(patch, divisor, strict=True)):
        nearest = tuple(max(unit, round(size / unit) * unit) for size, unit in zip(patch, divisor, strict=True))
        raise Refusal(
            "prepare.patch",
            found=f"{list(patch)}",
            needed=f"multiples of {list(divisor)}, by which the model shrinks its input",
            remedy=f"for example {list(nearest)}",
        )
    return patch


def _normalisation(
    fingerprint: Fingerprint, settings: PrepareSettings, channels: tuple[str, ...], crop: str
) -> tuple[Normalisation, ...]:
    if settings.normalisation != "auto":
        _one_each("prepare.normalisation", len(settings.normalisation), channels)
        return settings.normalisation
    result = []
    for number, known in enumerate(_known(fingerprint, settings, channels)):
        match known[0]:
            case "CT":
                seen = fingerprint.intensities[number]
                spread = seen.sd if seen.sd > 0 else 1.0
                result.append(
                    Normalisation(
                        kind="ct",
                        lower=seen.percentile_00_5,
                        upper=max(seen.percentile_99_5, seen.percentile_00_5 + 1),
                        mean=seen.mean,
                        sd=spread,
                    )
                )
            case "PT":
                result.append(SUV)
            case "colour":
                result.append(PHOTOGRAPH)
            case _:
                result.append(Normalisation(kind="zscore_nonzero" if crop == "nonzero" else "zscore"))
    return tuple(result)


def _modalities(fingerprint: Fingerprint, settings: PrepareSettings, channels: tuple[str, ...]) -> tuple[Modality, ...]:
    """Of each channel; empty where it is not known, or not one."""
    return tuple(
        cast(Modality, known[0]) if len(known) == 1 and known[0] in SCANNERS else ""
        for known in _known(fingerprint, settings, channels)
    )


def _known(fingerprint: Fingerprint, settings: PrepareSettings, channels: tuple[str, ...]) -> list[list[str]]:
    """What each channel is: as the recipe says, or its files (the most frequent first), or else its name."""
    if settings.modalities:
        _one_each("prepare.modalities", len(settings.modalities), channels)
    known = []
    for number, name in enumerate(channels):
        said = [settings.modalities[number]] if any(settings.modalities[number : number + 1]) else []
        own = [case.modalities[number] for case in fingerprint.cases.values() if case.modalities[number]]
        found = Counter(said or own or [name]).most_common()
        known.append([MODALITY_OF_NAME.get(word.upper(), word) for word, _ in found])
    return known


def _one_each(where: str, given: int, channels: tuple[str, ...]) -> None:
    if given != len(channels):
        raise Refusal(
            where,
            found=f"{given} entries",
            needed=f"one for each of the {len(channels)} channels: {', '.join(channels)}",
            remedy="list them in this order",
        )
