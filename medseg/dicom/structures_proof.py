"""The proof before release: a written structure set is read again and held against the scan's headers and the labels.

pydicom parses the file, the headers of the scan place its contours on their slices, and what they enclose is found by
counting crossings, which has nothing in common with tracing an outline. It must be exactly the pixels of the label.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg import codes, originals
from medseg.dicom import contours, objects, structures
from medseg.dicom.frames import Frame
from medseg.prediction import Prediction
from medseg.refusal import Refusal

log = logging.getLogger(__name__)


def prove(written: Path, path: Path, prediction: Prediction, regions: Sequence[int], slices: Sequence[Frame]) -> float:
    """Return if the file holds the result; log and return how far (mm) a contour is from its label's outline at most.

    Args:
        written: the file.
        path: the name that it is to get.
        regions: positions in the label table, in the order of the file.
        slices: the original slices by their headers, in the order of `Source.instances`.

    Raises:
        Refusal: what is there differs; the text says in what.
    """
    table, laid, pixels = prediction.table, originals.lay(prediction.target), objects.pixels(prediction)
    rois = [roi for roi in structures.read(written).rois if roi.contours]
    if [roi.name for roi in rois] != [codes.name_of(table.labels[position]) for position in regions]:
        raise _differs(path, f"contours of {[roi.name for roi in rois]}", "a region for each label that was found")
    known = {(frame.instance.sop_instance_uid, frame.instance.frame) for frame in slices}
    if any(contour.image not in known for roi in rois for contour in roi.contours):
        raise _differs(path, "contours on images that are not of this scan", "contours on its slices")
    largest_mm = 0.0
    for roi, position in zip(rois, regions, strict=True):
        enclosed = 0
        for n, shapes in structures.by_slice(path, roi, slices).items():
            low, mask = _around(prediction, laid[..., n], position, shapes)
            if not np.array_equal(contours.fill([shape[:, :2] - low for shape in shapes], mask.shape), mask):
                raise _differs(path, f"other pixels of '{roi.name}' on slice {n + 1}", "those of its label")
            largest_mm = max(largest_mm, _distance_mm(shapes, low, mask, slices[n]))
            enclosed += int(np.count_nonzero(mask))
        if enclosed != pixels[position]:
            raise _differs(path, f"{enclosed} pixels of '{roi.name}'", f"all {pixels[position]}, on every slice")
    half_mm = min(min(frame.spacing_mm) for frame in slices) / 2
    if not largest_mm < half_mm:
        needed = f"less than half a pixel ({half_mm:.4g} mm)"
        raise _differs(path, f"a contour {largest_mm:.4g} mm beside its label", needed)
    log.info("%s: largest distance %.4f mm, half a pixel is %.4g mm", path, largest_mm, half_mm)
    return largest_mm


def _around(
    prediction: Prediction, slice_: np.ndarray, position: int, shapes: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A label's mask in the box around contours and a pixel more, with no pixel of it beyond the slice; and the column
    and row of the mask's first pixel."""
    corners = np.concatenate(shapes)[:, :2]
    low, high = np.floor(corners.min(axis=0)).astype(int), np.floor(corners.max(axis=0)).astype(int) + 1
    start, stop = np.maximum(low, 0), np.minimum(high + 1, slice_.shape[1:])
    mask = np.zeros(high - low + 1, dtype=bool)
    part = prediction.table.mask(slice_[:, start[0] : stop[0], start[1] : stop[1]], position)
    mask[start[0] - low[0] : stop[0] - low[0], start[1] - low[1] : stop[1] - low[1]] = part
    return low, mask


def _distance_mm(shapes: Sequence[np.ndarray], low: np.ndarray, mask: np.ndarray, frame: Frame) -> float:
    """Largest distance of the contours' corners from the nearest corners of a mask's outline, infinite where a corner
    has no pixel of the outline around it. Both run straight from corner to corner, so it holds for their whole length.
    """
    corners = np.concatenate(shapes)
    nearest = np.floor(corners[:, :2]) + 0.5
    columns, rows = (nearest - low - 0.5).astype(int).T
    around = np.stack([mask[columns + i, rows + j] for i in (0, 1) for j in (0, 1)])
    if (around == around[0]).all(axis=0).any():
        return float("inf")
    off_mm = (corners[:, :2] - nearest) * np.array(frame.spacing_mm)[::-1]
    return float(np.linalg.norm(np.column_stack([off_mm, corners[:, 2]]), axis=1).max())


def _differs(path: Path, found: str, needed: str) -> Refusal:
    remedy = "choose the nifti or nrrd output, and report this series"
    return Refusal(path, found=f"{found}, after reading it back", needed=needed, remedy=remedy)
