"""A DICOM structure set (RTSTRUCT) with its scan beside it, as a label map on the scan's grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.dicom import signature
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Source, Volume

if TYPE_CHECKING:
    from medseg.dicom.geometry import Geometry

GRID_MM = 0.05
"""One affine may put a pixel this far from where its slice's header puts it."""


class Options(Settings):
    """Nothing to choose."""


def matches(path: Path) -> bool:
    """A file of the SOP class."""
    if not path.is_file() or not signature.is_dicom(path):
        return False
    from medseg.dicom import headers

    return headers.sop_class(path) == headers.STRUCTURE_SET_CLASS


def read(path: Path, options: Options) -> Volume:
    """Read (1, I, J, K) numbers of regions, counted from 1 in the file's order; or (R, I, J, K) of 0 and 1, one channel
    per region, if regions overlap. `source.notes["segments"]` maps the number to the region's name.

    A pixel belongs to a region if its centre lies inside an odd number of the region's contours on its slice. Points
    and open lines enclose nothing. The scan's own files say where its pixels are: they are looked for in the file's
    folder, the folders in there and those beside it.

    Raises:
        Refusal: damaged, without its scan, or with slices that lie on no even grid or contours that lie on no slice.
    """
    from medseg.dicom import contours, geometry, structures

    found = structures.read(path)
    frames = structures.scan(path, found)
    facts = geometry.measure(frames)
    _refuse_uneven(path, facts)
    rank = np.argsort(facts.order)
    rows, columns = frames[0].size
    masks = (
        (n, int(rank[number]), contours.fill([shape[:, :2] for shape in shapes], (columns, rows)))
        for n, roi in enumerate(found.rois)
        for number, shapes in structures.by_slice(path, roi, frames).items()
    )
    array = _stack(masks, len(found.rois), (columns, rows, len(frames)))
    source = Source(
        path,
        reader="rtstruct",
        modality="RTSTRUCT",
        patient_id=found.patient_id,
        notes={"segments": {n: roi.name for n, roi in enumerate(found.rois, start=1)}},
    )
    return Volume(array, facts.affine, source, channels=tuple(roi.name for roi in found.rois) if len(array) > 1 else ())


def _refuse_uneven(path: Path, facts: Geometry) -> None:
    if facts.off_grid_mm <= GRID_MM and not facts.repeated and len(facts.sizes) == 1 and facts.affine[:3, 2].any():
        return
    raise Refusal(
        path,
        found=f"a scan whose slices lie up to {facts.off_grid_mm:.4g} mm off an even grid ({facts.repeated} repeated, "
        f"{len(facts.sizes)} sizes)",
        needed=f"parallel slices of one size on an even grid, to within {GRID_MM} mm",
        remedy="put the files of one complete series beside the structure set, and of no other that it refers to",
    )


def _stack(masks: Iterable[tuple[int, int, np.ndarray]], count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(1, I, J, K) of region numbers from (region, k, mask), or (R, I, J, K) from the first overlap on."""
    array = np.zeros((1, *shape), dtype=np.uint8 if count < 256 else np.uint16)
    for region, k, mask in masks:
        if len(array) == 1 and array[0, :, :, k][mask].any():
            array = (array == np.arange(1, count + 1)[:, None, None, None]).astype(np.uint8)
        if len(array) == 1:
            array[0, :, :, k][mask] = region + 1
        else:
            array[region, :, :, k] = mask
    return array
