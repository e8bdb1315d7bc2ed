"""A DICOM series: a folder, or one of its files; single-frame and enhanced multi-frame, compressed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg.dicom import signature
from medseg.dicom.settings import DicomSettings
from medseg.refusal import Refusal
from medseg.volume import Source, Volume


class Options(DicomSettings):
    """Which series, and what may be done to it."""

    series: str | None = None
    """Series UID, series number, or part of the series description, when a folder holds several."""


def matches(path: Path) -> bool:
    """A file with DICOM's signature or suffix, or a folder with such a file in it, unless it is all segmentations; no
    structure set by itself."""
    if path.is_dir():
        if next(signature.files(path), None) is None:
            return False
        from medseg.dicom import seg

        return seg.only_segmentation(path) is None
    if not signature.claims_dicom(path):
        return False
    from medseg.dicom import headers

    return headers.sop_class(path) not in (*headers.SEGMENTATION_CLASSES, headers.STRUCTURE_SET_CLASS)


def read(path: Path, options: Options) -> Volume:
    """Read a series as (1, columns, rows, slices), slices along the normal (row x column) of the slices.

    Slices are sorted by position, never by InstanceNumber. Values are stored * slope + intercept of each slice; PET
    comes as SUVbw (g/ml) where the header allows (`notes["values"]`). MONOCHROME1 is not inverted, because it says how
    to show values, not what they are (`notes["photometric"]`).
    A single file stands for its whole series, gathered from its own folder.

    Raises:
        Refusal: no series or several; or slices that one affine cannot place to within `tolerance_mm` (missing,
            doubled or unevenly spaced slices, gantry tilt, mixed planes); or pixels that cannot be decoded.
    """
    from medseg.boundary import refuse_not_finite
    from medseg.dicom import geometry, pixels, policy, series

    chosen = series.choose(path, options.series)
    frames, head = chosen.frames, chosen.headers[0]
    facts = geometry.measure(frames)
    policy.refuse_irregular(path, facts, frames, options.tolerance_mm)
    ordered = [frames[index] for index in facts.order]
    array = pixels.load(ordered)[None]
    notes: dict[str, Any] = {}
    if head.modality == "PT":
        array, notes = _uptake(array, [frame.instance.path for frame in ordered])
    refuse_not_finite(array, path)
    source = Source(
        path,
        reader="dicom",
        modality=head.modality,
        patient_id=head.patient_id,
        instances=tuple(frame.instance for frame in ordered),
        notes={
            "study_uid": head.study_uid,
            "series_uid": head.series_uid,
            "series_number": head.series_number,
            "series_description": head.description,
            "frame_of_reference_uid": head.frame_of_reference_uid,
            "photometric": head.photometric,
            "off_grid_mm": facts.off_grid_mm,
            **notes,
        },
    )
    return Volume(array, facts.affine, source)


def _uptake(array: np.ndarray, paths: list[Path]) -> tuple[np.ndarray, dict[str, Any]]:
    """PET values as SUVbw; where the header does not allow that, as they are, with the reason in the notes: what wants
    SUV then refuses them."""
    import pydicom

    from medseg.dicom import suv

    headers = [
        pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(suv.TAGS)) for path in dict.fromkeys(paths)
    ]
    try:
        factor = suv.factor([suv.facts(header) for header in headers])
    except Refusal as refusal:
        return array, {"values": str(headers[0].get("Units", "not stated")), "no_suv": refusal.found}
    return (array * np.float32(factor)).astype(np.float32), {"values": "SUVbw"}
