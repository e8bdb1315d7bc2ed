"""Writing the frames of a segmentation object one after another, so that they are never in memory together."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.valuerep import format_number_as_ds

from medseg.dicom.frames import Frame
from medseg.dicom.seg_frames import Content
from medseg.refusal import Refusal
from medseg.volume import Instance

LARGEST = 2**32 - 2
"""Bytes that a value of stated length can have."""
EVEN = 1e-3
"""Part of their mean by which distances between slices may differ and count as even."""
SHAREABLE = ("PlaneOrientationSequence", "PixelMeasuresSequence")
"""Functional groups that stand once where they are equal on all slices."""
PER_FRAME, PIXELS, ITEM = (0x5200, 0x9230), (0x7FE0, 0x0010), (0xFFFE, 0xE000)


def save(path: Path, dataset: Dataset, content: Content, slices: Sequence[Frame]) -> None:
    """Write `dataset` (explicit VR, little endian) and after it what belongs to single frames.

    Args:
        dataset: without functional groups, and with no element after them.
        slices: where each slice lies and which instance it is; frames take over both.

    Raises:
        Refusal: more pixels than one uncompressed object can hold.
    """
    bits, count = int(dataset.BitsAllocated), len(content.places)
    size = -(-count * int(dataset.Rows) * int(dataset.Columns) * bits // 8)
    if size > LARGEST:
        raise Refusal(
            path,
            found=f"{count} frames, {size / 2**30:.1f} GiB of pixels",
            needed="at most 4 GiB, which is what an uncompressed DICOM object can hold",
            remedy="choose the type labelmap, or fewer labels",
        )
    groups = [_groups(slice_, spacing_mm(slices)) for slice_ in slices]
    same = [name for name in SHAREABLE if all(group[name] == groups[0][name] for group in groups)]
    dataset.SharedFunctionalGroupsSequence = [_dataset({name: [groups[0][name]] for name in same})]
    dataset.save_as(path, enforce_file_format=True)
    own = [{name: group[name] for name in group if name not in same} for group in groups]
    items = _items(content, slices, own)
    planes = content.planes()
    with path.open("ab") as handle:
        handle.write(_head(PER_FRAME, b"SQ", sum(map(len, items))))
        handle.writelines(items)
        handle.write(_head(PIXELS, b"OW" if bits > 8 else b"OB", size + size % 2))
        handle.writelines(_packed(planes) if bits == 1 else _whole(planes, bits))
        handle.write(b"\0" * (size % 2))


def spacing_mm(slices: Sequence[Frame]) -> float:
    """Distance of neighbouring slices along their normal if it is even to a thousandth of it; else 0."""
    normal = np.cross(slices[0].row, slices[0].column)
    steps = np.diff([np.dot(slice_.position, normal) for slice_ in slices])
    if not len(steps) or np.ptp(steps) > EVEN * abs(steps.mean()):
        return 0.0
    return abs(float(steps.mean()))


def _groups(slice_: Frame, spacing: float) -> dict[str, Dataset]:
    """Functional groups that say how a slice lies, as its header has it. The distance between slices is the measured
    one: headers often lack it, or have it wrong, or mean the gap; readers need it where empty frames are left out."""
    measures = {
        "PixelSpacing": slice_.spacing_mm,
        "SliceThickness": slice_.thickness_mm,
        "SpacingBetweenSlices": spacing,
    }
    return {
        "PlanePositionSequence": _dataset({"ImagePositionPatient": _decimals(slice_.position)}),
        "PlaneOrientationSequence": _dataset({"ImageOrientationPatient": _decimals((*slice_.row, *slice_.column))}),
        "PixelMeasuresSequence": _dataset({name: _decimals(value) for name, value in measures.items() if value}),
    }


def _items(content: Content, slices: Sequence[Frame], own: Sequence[dict[str, Dataset]]) -> list[bytes]:
    """The encoded functional groups of every frame, put together from parts that many frames have in common: encoding
    each anew would take most of the time of writing."""
    before = [_encoded({"DerivationImageSequence": [_derivation(slice_.instance)]}) for slice_ in slices]
    after = [_encoded({name: [group] for name, group in groups.items()}) for groups in own]
    whole = content.places[0][0] == 0
    sample = _dataset({"DimensionIndexValues": [1] if whole else [1, 1]})
    index = _encoded({"FrameContentSequence": [sample]})[: -4 if whole else -8]  # ends with the values
    items = []
    for number, n in content.places:
        values = struct.pack("<L", n + 1) if whole else struct.pack("<LL", number, n + 1)
        segment = b"" if whole else _segment(number)
        item = before[n] + index + values + after[n] + segment
        items.append(struct.pack("<HHL", *ITEM, len(item)) + item)
    return items


@cache
def _segment(number: int) -> bytes:
    return _encoded({"SegmentIdentificationSequence": [_dataset({"ReferencedSegmentNumber": number})]})


def _derivation(instance: Instance) -> Dataset:
    """Reference to the slice that a frame was made from."""
    source: dict[str, Any] = {
        "ReferencedSOPClassUID": instance.sop_class_uid,
        "ReferencedSOPInstanceUID": instance.sop_instance_uid,
        "SpatialLocationsPreserved": "YES",
        "PurposeOfReferenceCodeSequence": [_code("121322", "Source image for image processing operation")],
    }
    if instance.frame is not None:
        source["ReferencedFrameNumber"] = instance.frame
    return _dataset(
        {"SourceImageSequence": [_dataset(source)], "DerivationCodeSequence": [_code("113076", "Segmentation")]}
    )


def _code(value: str, meaning: str) -> Dataset:
    return _dataset({"CodeValue": value, "CodingSchemeDesignator": "DCM", "CodeMeaning": meaning})


def _dataset(attributes: Mapping[str, Any]) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def _encoded(attributes: Mapping[str, Any]) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, _dataset(attributes))
    return buffer.getvalue()


def _decimals(values: float | Sequence[float]) -> str | list[str]:
    if isinstance(values, float):
        return format_number_as_ds(values)
    return [format_number_as_ds(value) for value in values]


def _head(tag: tuple[int, int], kind: bytes, size: int) -> bytes:
    return struct.pack("<HH2s2xL", *tag, kind, size)


def _whole(planes: Iterator[np.ndarray], bits: int) -> Iterator[bytes]:
    for plane in planes:
        yield plane.astype(f"<u{bits // 8}").tobytes()


def _packed(planes: Iterator[np.ndarray]) -> Iterator[bytes]:
    """Eight pixels a byte, the first in the lowest bit, and no gap between frames: one may begin inside a byte."""
    rest = np.zeros(0, bool)
    for plane in planes:
        pixels = np.concatenate([rest, plane.ravel()]) if rest.size else plane.ravel()
        whole = pixels.size - pixels.size % 8
        rest = pixels[whole:]
        yield np.packbits(pixels[:whole], bitorder="little").tobytes()
    yield np.packbits(rest, bitorder="little").tobytes()
