"""DICOM structure set (.rtstruct.dcm): contours on the original slices, read back and compared before it is kept."""

from __future__ import annotations

from pathlib import Path

from medseg.atomic import replacing
from medseg.prediction import Prediction
from medseg.settings import Settings
from medseg.volume import Volume

SUFFIX = ".rtstruct.dcm"
WRITES = "labels"
READ_BACK_BY = "rtstruct"


class Options(Settings):
    """What the object says about its series."""

    series_number: int = 303
    """Number of the new series in the study."""
    series_description: str = "medseg structures"
    """Shown in the list of series."""


def check(scan: Volume, path: Path) -> None:
    """Refuse, before anything is predicted, a scan of which nothing could be written."""
    from medseg.dicom import objects

    objects.refuse_unfit(scan, placed=True)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write a region of interest for every label that has pixels on the original slices; regions may overlap.

    Contours run along the edges of pixels, holes joined to the contour around them; see `medseg.dicom.contours`. Slices
    may be tilted or unevenly spaced. When nothing was segmented, every label becomes a region without contours:
    "looked for and not found" is a result. The file gets its name after `dicom.structures_proof` has read it again and
    found exactly the pixels of every label inside its contours; how far those are from the labels' outlines is logged.

    Raises:
        Refusal: the scan was not DICOM, has no frame of reference, its files are gone, or what was written did not come
            back the same.
    """
    from medseg.dicom import objects, structures_file, structures_header, structures_proof

    files = objects.sources(prediction.target, placed=True)
    slices = objects.slices(prediction.target.source, files)
    regions = objects.segments(prediction)
    dataset = structures_header.build(prediction, regions, files, options.series_number, options.series_description)
    with replacing(path) as temporary:
        structures_file.save(temporary, dataset, prediction, regions)
        structures_proof.prove(temporary, path, prediction, regions, slices)
