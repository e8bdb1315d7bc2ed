"""DICOM segmentation object (.seg.dcm) that refers to the original slices, read back and compared before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medseg.atomic import replacing
from medseg.prediction import Prediction
from medseg.settings import Settings
from medseg.volume import Volume

SUFFIX = ".seg.dcm"
WRITES = "labels"
READ_BACK_BY = "dicom_seg"


class Options(Settings):
    """How labels are stored, and what the object says about its series."""

    type: Literal["binary", "labelmap", "fractional"] = "binary"
    """binary: a bit a pixel for each label, which every PACS and viewer takes. labelmap: one number a pixel, small and
    fast, but newer (2024) than many archives. fractional: shares from 0 to 1, in steps of 1/255."""
    of: Literal["probabilities", "entropy", "disagreement"] = "probabilities"
    """What a fractional object holds: probabilities of each label, or one segment for the whole scan: their entropy, or
    how far folds and mirrored passes disagree."""
    series_number: int = 300
    """Number of the new series in the study."""
    series_description: str = "medseg segmentation"
    """Shown in the list of series."""


def keeps(options: Options) -> tuple[str, ...]:
    """Which maps of the prediction must be kept for this output."""
    return (options.of,) if options.type == "fractional" else ()


def check(scan: Volume, path: Path) -> None:
    """Refuse, before anything is predicted, a scan of which nothing could be written."""
    from medseg.dicom import objects

    objects.refuse_unfit(scan, placed=True)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write one segmentation with a segment for every label that has pixels on the original slices; regions may
    overlap.

    Every frame lies where its original slice lies and refers to it, so slices may be tilted or unevenly spaced. Binary
    and fractional objects leave empty frames out, as viewers expect. When nothing at all was segmented, every label
    becomes a segment with one empty frame: "looked for and not found" is a result. The file gets its name after
    `dicom.seg_proof` has read it again and found every pixel.

    Raises:
        Refusal: the scan was not DICOM or has no frame of reference, its files are gone, labels overlap in a label map,
            probabilities were not kept, or what was written did not come back the same.
    """
    from medseg.dicom import objects, seg_file, seg_frames, seg_header, seg_proof

    if options.type == "fractional":
        prediction = seg_frames.shown(prediction, options.of)
    files = objects.sources(prediction.target, placed=True)
    slices = objects.slices(prediction.target.source, files)
    content = seg_frames.of(prediction, options.type)
    dataset = seg_header.build(
        prediction, content, options.type, files, options.series_number, options.series_description
    )
    with replacing(path) as temporary:
        seg_file.save(temporary, dataset, content, slices)
        seg_proof.prove(temporary, path, prediction, options.type, slices)
