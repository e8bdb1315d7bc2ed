"""One case from its files: image channels on one grid, and the label map on the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from medseg.case import Case
from medseg.dicom.objects import NOTE_OF_CHECK, NOTE_OF_OTHERS
from medseg.labels import LabelTable
from medseg.measurements import MODALITIES, VALUES
from medseg.plan import Plan
from medseg.refusal import Refusal
from medseg.transforms import photograph
from medseg.transforms.channels import combine, difference, distance_mm, reoriented, same_place
from medseg.volume import Volume

Read = Callable[[Path], Volume]
"""Path -> Volume; `medseg.readers.read`, or anything like it. Worker processes need it picklable."""
WHOLE = 1e-3
"""How far a label may be from a whole number: files that scale their values store 2 as 1.9999."""
HIGHEST_LABEL = 65535
BITS = (1, 2, 4)
"""What red, green and blue add to the number of a pixel where a label map is a colour picture."""
BRIGHT = 127
SEGMENTS = "segments"
"""Key in `Source.notes` of 3D Slicer's segmentations: the name of each number."""
RESAMPLED = "resampled"
"""Key in `Source.notes`: which grid a label map had before it was resampled, and which it was brought to."""
CHOICE = "series_choice"
"""Key in `Source.notes`: why rules took a DICOM series, by its reader."""
WRONG_CHANNELS = (
    "add what is missing; where a file holds several channels, as photographs do, name them in the data settings, such "
    "as dataset.files_hold=[red,green,blue]"
)
"""What to do about a case with another number of channels than its data set names."""


def load_case(
    case: Case,
    read: Read,
    *,
    policy: Literal["refuse", "resample", "register"] = "refuse",
    table: LabelTable | None = None,
    steps: Sequence[str] = (),
) -> tuple[Volume, Volume | None]:
    """Read a case.

    Args:
        case: paths.
        read: the reader.
        policy: for channels on different grids, see `transforms.channels.combine`.
        table: what the numbers mean; needed for a case with a mask of valid pixels.
        steps: of the plan; what they remove of a photograph is not known either.

    Returns:
        Image (C, I, J, K), its channels named as in the case; and label map (1, I, J, K) of uint8 or uint16 with
        exactly its shape and affine, or None when the case has none.

    Raises:
        Refusal: from the reader; channels or labels are not on one grid; labels are not whole numbers in range.
    """
    image = load_image(case, read, policy=policy)
    return image, load_truth(case, image, read, table, steps)


def load_scan(case: Case, read: Read, plan: Plan, *, readers: Mapping[str, Read] | None = None) -> Volume:
    """The channels of a case that a model is to see; see `load_image`.

    Raises:
        Refusal: as `load_image`; channels or a unit that the plan does not have.
    """
    scan = load_image(case, read, policy=plan.channels_on_other_grids, readers=readers)
    files = ", ".join(str(path) for path in case.images.values())
    if len(scan.array) != len(plan.channels):
        alone = len(case.images) == 1
        several = alone and bool(scan.channels) and bool(scan.source.instances)
        remedy = "name one file for each channel: --channel NAME=FILE, or <case>_<channel> files in a folder"
        if several:
            remedy = (
                "choose one of the volumes in the series by its number or name: --series /1, or "
                f"'/{scan.channels[0]}', and the number of the series before the slash where there are several"
            )
        elif alone and len(scan.array) > len(plan.channels):
            remedy = "the file holds several channels or time points: give a file with those that the model needs"
        raise Refusal(
            files,
            found=f"{len(scan.array)} channels" + (f" ({'; '.join(scan.channels)})" if several else ""),
            needed=f"{len(plan.channels)}: {', '.join(plan.channels)}",
            remedy=remedy,
            code="channels",
        )
    if plan.unit and scan.unit != plan.unit:
        words = {"mm": "an image with a size in millimetres", "px": "a photograph, without a size in millimetres"}
        raise Refusal(
            files,
            found=words[scan.unit],
            needed=words[plan.unit] + ", as the model was trained on",
            remedy="give the scan itself (DICOM, NIfTI), not a picture of it"
            if scan.unit == "px"
            else "give the photograph as PNG, JPEG or TIFF",
        )
    _refuse_other_modalities(scan, plan, files)
    return scan


def _refuse_other_modalities(scan: Volume, plan: Plan, files: str) -> None:
    """Numbers of a CT mean nothing to a model of MR, and it would draw something all the same."""
    for name, found, needed in zip(plan.channels, scan.source.notes[MODALITIES], plan.modalities, strict=False):
        if found and needed and found != needed:
            raise Refusal(
                files,
                found=f"{found} as channel {name}",
                needed=f"{needed}, as the model was trained on",
                remedy=f"give the {needed} series, or another model; an image that is like {needed} though its header "
                f"says {found} can be given as NIfTI (medseg convert)",
                code="channels",
            )


def load_image(
    case: Case,
    read: Read,
    *,
    policy: Literal["refuse", "resample", "register"] = "refuse",
    readers: Mapping[str, Read] | None = None,
) -> Volume:
    """The channels of a case, stacked; see `load_case`. `source.notes` has each channel's modality and
    values, and what the check of each series said.

    `readers`: for channels that are read in a way of their own.
    """
    if not case.images:
        raise Refusal(
            f"case {case.id}", found="no image", needed="at least one", remedy="correct the data set's folder or table"
        )
    volumes = []
    for name, path in case.images.items():
        volume = (readers or {}).get(name, read)(path)
        volumes.append(volume.with_array(volume.array, (name,)) if len(volume.array) == 1 else volume)
    _refuse_twice(dict(zip(case.images, volumes, strict=True)))
    image = combine(volumes, policy=policy)
    notes = {**image.source.notes, **_notes(list(case.images), volumes)}
    return replace(image, source=replace(image.source, notes=notes))


def _refuse_twice(channels: Mapping[str, Volume]) -> None:
    """Refuse one DICOM series as two channels: rules may be too wide, or the study may lack a series."""
    for (one, first), (other, second) in combinations(channels.items(), 2):
        if set(first.source.instances) & set(second.source.instances):
            raise Refusal(
                first.source.path,
                found=f"the same images as channel {one} and as channel {other}",
                needed="a series for each channel",
                remedy="let dicom.channels tell them apart, or name a file for each: --channel NAME=FILE",
                code="channels",
            )


def _notes(names: Sequence[str], volumes: Sequence[Volume]) -> dict[str, Any]:
    """What outputs want to know of every file of a case; all else that is noted is of the first one."""
    own = [volume.source.notes for volume in volumes]
    notes: dict[str, Any] = {
        MODALITIES: tuple(volume.source.modality for volume in volumes for _ in volume.array),
        VALUES: tuple(str(volume.source.notes.get("values", "")) for volume in volumes for _ in volume.array),
    }
    for one in own:
        if "no_suv" in one:
            notes |= {key: one[key] for key in ("values", "no_suv")}
    for key in (CHOICE, NOTE_OF_CHECK):
        said = [(name, one[key]) for name, one in zip(names, own, strict=True) if one.get(key)]
        if said:
            notes[key] = "; ".join(text if len(volumes) == 1 else f"{name}: {text}" for name, text in said)
    further = [
        f"{name}: series {volume.source.notes['series_uid']} ({len(volume.source.instances)} images)"
        for name, volume in list(zip(names, volumes, strict=True))[1:]
        if volume.source.instances
    ]
    return notes | ({NOTE_OF_OTHERS: "; ".join(further)} if further else {})


def load_truth(
    case: Case, image: Volume, read: Read, table: LabelTable | None, steps: Sequence[str] = ()
) -> Volume | None:
    """The label map of a case on the grid of `image`, the table's number for "not known" outside its valid pixels, and
    where the plan's steps make a photograph black; None if it has none."""
    if case.target is None:
        return None
    labels = load_target(case.target, image, read)
    valid = load_valid(case, image, read)
    if valid is None:
        return labels
    if table is None or table.ignore is None:
        raise Refusal(
            case.valid or case.id,
            found="a mask of valid pixels",
            needed="a number in the label table that says 'not known'",
            remedy="give `ignore` in the label table, or leave the mask out",
        )
    if "fundus_enhance" in steps:
        valid = photograph.enhanced_part(valid)
    return labels.with_array(np.where(valid, labels.array, labels.array.dtype.type(table.ignore)))


def load_valid(case: Case, image: Volume, read: Read) -> np.ndarray | None:
    """Boolean (1, I, J, K) of the pixels that count; None where the case does not say."""
    if case.valid is None:
        return None
    mask = read(case.valid)
    bright = mask.array.max(axis=0, keepdims=True)
    mask = mask.with_array((bright > (BRIGHT if bright.max() > 1 else 0)).astype(np.uint8))
    return load_target(case.valid, image, lambda path: mask).array > 0


def load_target(path: Path, image: Volume, read: Read, *, resample: bool = False) -> Volume:
    """A label map on the grid of `image`; see `load_case`. It may be stored in another axis order; a
    segmentation of DICOM or 3D Slicer may cover only a part of the image's voxels, and the rest is background. In a
    colour picture, red, green and blue add 1, 2 and 4 to a pixel's number.

    Args:
        resample: take the nearest number where the grid is another one; `source.notes` then says so under `RESAMPLED`.
    """
    labels = as_numbers(read(path))
    if len(labels.array) != 1:
        raise Refusal(
            path,
            found=f"{len(labels.array)} channels",
            needed="a label map with one number for each voxel",
            remedy="merge the channels; where structures overlap, give each combination a number and list it in the "
            "label table's regions",
        )
    values = _whole_numbers(path, labels.array)
    turned = reoriented(labels.with_array(values), image)
    if not same_place(turned, image):
        whole = pasted(turned, image)
        if whole is None and resample and {turned.unit, image.unit} == {"mm"}:
            whole = _resampled(turned, image)
            note = f"{_grid(turned)}, not {_grid(image)}"
            labels = replace(labels, source=replace(labels.source, notes={**labels.source.notes, RESAMPLED: note}))
        if whole is None:
            raise Refusal(
                path,
                found=f"a label grid {difference(turned, image)} from that of {image.source.path} "
                f"({_grid(turned)}, not {_grid(image)})",
                needed="labels on the grid of their image",
                remedy="correct whichever geometry is wrong, or resample the labels onto the image (nearest neighbour) "
                "as `medseg evaluate --resample` does where there are millimetres",
            )
        turned = whole
    return Volume(turned.array, image.affine, labels.source, image.unit)


def _grid(volume: Volume) -> str:
    sizes, steps = (" x ".join(f"{one:.4g}" for one in side) for side in (volume.shape, volume.spacing_mm))
    first = ", ".join(f"{one:.4g}" for one in volume.affine[:3, 3])
    return f"{sizes} voxels of {steps} {volume.unit} from ({first})"


def _resampled(labels: Volume, image: Volume) -> Volume:
    """The number at the voxel nearest to each voxel of `image`; 0 outside the label map."""
    step = np.linalg.solve(labels.affine, image.affine)
    values = ndimage.affine_transform(
        labels.array[0], step[:3, :3], step[:3, 3], image.shape, order=0, mode="grid-constant", cval=0
    )
    return Volume(values[None], image.affine, labels.source, image.unit)


def as_numbers(labels: Volume) -> Volume:
    """A label map stored as a colour picture with a number for each colour; any other as it is."""
    if len(labels.array) != 3 or labels.source.reader != "picture":
        return labels
    bits = sum((channel > BRIGHT) * np.uint8(bit) for channel, bit in zip(labels.array, BITS, strict=True))
    return labels.with_array(np.asarray(bits, np.uint8)[None])


def _whole_numbers(path: Path, array: np.ndarray) -> np.ndarray:
    """The same as uint8 or uint16."""
    lowest, highest = float(array.min()), float(array.max())
    values = np.rint(array) if array.dtype.kind == "f" and math.isfinite(lowest) and math.isfinite(highest) else array
    if values is not array and np.abs(values - array).max() > WHOLE:
        odd = float(array[np.abs(values - array) > WHOLE].flat[0])
        found = f"the value {odd:g}"
    elif not (lowest >= -WHOLE and highest <= HIGHEST_LABEL + WHOLE):  # NaN fails both
        found = f"values from {lowest:g} to {highest:g}"
    else:
        return values.astype(np.uint8 if highest < 255.5 else np.uint16, copy=False)
    raise Refusal(
        path,
        found=found,
        needed=f"whole numbers from 0 to {HIGHEST_LABEL}",
        remedy="give a label map here, not an image or probabilities; renumber labels that are negative",
    )


def pasted(labels: Volume, image: Volume) -> Volume | None:
    """A segmentation of DICOM or of 3D Slicer, (C, I, J, K) in the image's orientation, whose grid is a box of the
    image's voxels, filled up with background; None if it is none. Other formats store whole grids, so that a smaller
    one there is a mistake."""
    if labels.source.reader != "dicom_seg" and SEGMENTS not in labels.source.notes:
        return None
    step = np.linalg.solve(image.affine[:3, :3], labels.affine[:3, 3] - image.affine[:3, 3])
    start = np.rint(step).astype(int)
    stop = start + np.array(labels.shape)
    if (start < 0).any() or (stop > np.array(image.shape)).any():
        return None
    expected = image.affine.copy()
    expected[:3, 3] += image.affine[:3, :3] @ start
    box = Volume(labels.array, expected, labels.source, labels.unit)
    if distance_mm(labels, box) > 0.1 * min(1.0, float(image.spacing_mm.min())):
        return None
    whole = np.zeros((len(labels.array), *image.shape), labels.array.dtype)
    place = tuple(slice(int(first), int(last)) for first, last in zip(start, stop, strict=True))
    whole[(slice(None), *place)] = labels.array
    return Volume(whole, image.affine, labels.source, image.unit)
