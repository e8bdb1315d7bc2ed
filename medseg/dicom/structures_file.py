"""Writing the contours of a structure set, encoded as they are traced: as pydicom's decimal objects, one for each of
millions of coordinates, they would take gigabytes and minutes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from medseg import originals
from medseg.dicom import contours
from medseg.dicom.structures_header import item
from medseg.geometry import LPS_FROM_RAS
from medseg.prediction import Prediction
from medseg.volume import Instance

COORDINATE = "%.3f\\"
"""In mm, with the separator: off by at most 0.0005 mm, and within the 16 characters that DICOM allows."""
CONTOURS, OF_REGION, ITEM = (0x3006, 0x0039), (0x3006, 0x0040), (0xFFFE, 0xE000)
POINTS, NUMBER, DATA = (0x3006, 0x0046), (0x3006, 0x0048), (0x3006, 0x0050)


def save(path: Path, dataset: FileDataset, prediction: Prediction, regions: Sequence[int]) -> None:
    """Write `dataset`, and in it the contours of its regions.

    Args:
        dataset: from `structures_header.build`.
        regions: positions in the label table of the labels that have pixels; region n is the n-th of them.
    """
    after = Dataset()
    for tag in [tag for tag in dataset.keys() if tag > CONTOURS]:  # noqa: SIM118 - keys are tags, iterating gives elements
        after[tag] = dataset.pop(tag)
    images = [_head(instance) for instance in prediction.target.source.instances]
    planes = LPS_FROM_RAS @ originals.affines(prediction.target)
    laid = originals.lay(prediction.target)
    drawn = [
        b"".join(_contours(*_block(prediction, laid, position, box), planes, images))
        for position, box in prediction.table.boxes(laid).items()
    ]
    labels = [prediction.table.labels[position] for position in regions] or prediction.table.labels
    items = []
    for number, label in enumerate(labels, start=1):
        shown = _element(OF_REGION, drawn[number - 1]) if drawn else b""  # may be absent, but not empty
        colour, of = _encoded(item(ROIDisplayColor=list(label.colour))), _encoded(item(ReferencedROINumber=number))
        items.append(_element(ITEM, colour + shown + of))
    dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=True)
    with path.open("ab") as handle:
        handle.write(_element(CONTOURS, b"".join(items)))
        handle.write(_encoded(after))


def _block(
    prediction: Prediction, laid: np.ndarray, position: int, box: tuple[slice, slice, slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Mask (slices, columns, rows) of a label in its box, and (column, row, slice) of its first pixel."""
    mask = prediction.table.mask(laid[:, *box], position)
    return np.ascontiguousarray(mask.transpose(2, 0, 1)), np.array([side.start for side in box])


def _contours(block: np.ndarray, first: np.ndarray, planes: np.ndarray, images: Sequence[bytes]) -> Iterator[bytes]:
    """The encoded contours of one label."""
    number = 0
    for n, mask in enumerate(block, start=first[2]):
        for contour in contours.trace(mask):
            number += 1
            places = (contour + first[:2]) @ planes[n, :3, :2].T + planes[n, :3, 3]
            text = COORDINATE * places.size % tuple(places.ravel().tolist())
            yield _element(
                ITEM,
                images[n]
                + _element(POINTS, b"%d" % len(places))
                + _element(NUMBER, b"%d" % number)
                + _element(DATA, text[:-1].encode("ascii")),
            )


def _head(instance: Instance) -> bytes:
    """What all contours on a slice begin with."""
    image = item(ReferencedSOPClassUID=instance.sop_class_uid, ReferencedSOPInstanceUID=instance.sop_instance_uid)
    if instance.frame is not None:
        image.ReferencedFrameNumber = instance.frame
    return _encoded(item(ContourImageSequence=[image], ContourGeometricType="CLOSED_PLANAR"))


def _encoded(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = buffer.is_implicit_VR = True
    write_dataset(buffer, dataset, "utf8")
    return buffer.getvalue()


def _element(tag: tuple[int, int], value: bytes) -> bytes:
    """In implicit VR, little endian; text is padded to an even length by a space."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HHL", *tag, len(value)) + value
