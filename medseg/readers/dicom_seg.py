"""A DICOM segmentation object, as a label map of segment numbers or, where segments overlap, one channel each."""

from __future__ import annotations

from pathlib import Path

from medseg.dicom import archive, signature
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Source, Volume


class Options(Settings):
    """Nothing to choose."""


def matches(path: Path) -> bool:
    """A file of a segmentation SOP class, or a folder, zip or DICOMDIR whose DICOM files are all of them."""
    if archive.holds_several(path):
        if next(archive.files(path), None) is None:
            return False
        from medseg.dicom import seg

        return seg.only_segmentation(path) is not None
    if not signature.is_dicom(path):
        return False
    from medseg.dicom import headers

    return headers.sop_class(path) in headers.SEGMENTATION_CLASSES


def read(path: Path, options: Options) -> Volume:
    """Read (1, I, J, K) segment numbers, or (S, I, J, K) if segments overlap or are fractions of 0 to 1.

    `source.notes["segments"]` maps the segment number to its label. The grid ends at the outermost stored frames.

    Raises:
        Refusal: several segmentations in a folder; or damaged, or not on an even grid in patient space.
    """
    from medseg.dicom import seg

    if archive.holds_several(path):
        files = list(archive.files(path))
        if len(files) > 1:
            raise Refusal(
                path,
                found=f"{len(files)} segmentation files",
                needed="one",
                remedy="name the file: " + ", ".join(file.name for file in files[:5]),
            )
        path = files[0]
    found = seg.read(path)
    source = Source(
        path,
        reader="dicom_seg",
        modality="SEG",
        patient_id=found.patient_id,
        notes={"segments": {segment.number: segment.label for segment in found.segments}},
    )
    overlapping = len(found.array) > 1 or found.array.dtype.kind == "f"
    channels = tuple(segment.label for segment in found.segments) if overlapping else ()
    return Volume(found.array, found.affine, source, channels=channels)
