"""Small CT studies as a scanner sends them, and a dozen that are broken, each in its own way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, MRImageStorage, SecondaryCaptureImageStorage

from tests import dicom_series as ds

SLICES, ROWS, COLUMNS = 12, 20, 24
SPACING_MM = (1.5, 1.5)
STEP_MM = 3.0
ROOT = "1.2.826.0.1.3680043.8.498.77"


def study_uid(number: int) -> str:
    return f"{ROOT}.{number}"


def balls(number: int) -> ds.Values:
    """Two balls in soft tissue, elsewhere in every study, with noise that belongs to the place."""
    draw = np.random.default_rng(number)
    centres = np.array([-30.0, -40.0, 55.0]) + np.array([12.0, 14.0, 16.0]) + draw.uniform(-3, 3, (2, 3))

    def values(points: np.ndarray) -> np.ndarray:
        image = 40 + 20 * np.sin(points.sum(-1) * 7.1 + number)
        for centre, height in zip(centres, (200, -300), strict=True):
            image[((points - centre) ** 2).sum(-1) < 64] += height
        return image

    return values


def series(number: int, *, places: np.ndarray | None = None, uid: str = "1", **more: object) -> list[Dataset]:
    """One series of study `number`: axial CT."""
    study = study_uid(number)
    about: dict[str, object] = {
        "StudyInstanceUID": study,
        "FrameOfReferenceUID": f"{study}.0",
        "PatientID": f"MS{number:04d}",
        "PatientName": f"Phantom^Number {number}",
        "AccessionNumber": f"A{number:06d}",
        "StudyDate": "20261105",
        "StudyDescription": "CT Abdomen" if number % 2 else "CT Thorax",
        "SeriesDescription": "Abdomen nativ 3.0",
        "SliceThickness": STEP_MM,
        **more,
    }
    shape = {"rows": ROWS, "columns": COLUMNS, "spacing": SPACING_MM, "values": balls(number)}
    made = []
    for n, place in enumerate(ds.places(SLICES, STEP_MM) if places is None else places, start=1):
        one = ds.slice_(place, series=f"{study}.{uid}", number=n, **shape, **about)  # type: ignore[arg-type]
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{study}.{uid}.{n}"
        made.append(one)
    return made


def _each(change: Callable[[Dataset], None]) -> Callable[[int], list[Dataset]]:
    """A good series after a change to all of its slices."""

    def build(number: int) -> list[Dataset]:
        made = series(number)
        for one in made:
            change(one)
        return made

    return build


def _without(*names: str) -> Callable[[int], list[Dataset]]:
    return _each(lambda one: [delattr(one, name) for name in names] and None)


def _cut(one: Dataset) -> None:
    one.PixelData = one.PixelData[: len(one.PixelData) // 2]


def _compressed_garbage(one: Dataset) -> None:
    one.PixelData = encapsulate([b"\xff\x4f\xff\x51 no codestream" * 20])
    one["PixelData"].VR, one["PixelData"].is_undefined_length = "OB", True
    one.file_meta.TransferSyntaxUID = JPEG2000Lossless


def _of_another_size(number: int) -> list[Dataset]:
    made = series(number)
    for one in made[6:]:
        one.Rows, one.PixelData = ROWS // 2, one.PixelData[: len(one.PixelData) // 2]
    return made


def _skewed(one: Dataset) -> None:
    one.ImageOrientationPatient = [1, 0, 0, 0.3, 1, 0]


def _capture(number: int) -> list[Dataset]:
    kind = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    made = series(number, ImageType=kind, SOPClassUID=SecondaryCaptureImageStorage)
    for one in made:
        one.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    return made


def _mr(number: int) -> list[Dataset]:
    made = series(number, Modality="MR", SOPClassUID=MRImageStorage)
    for one in made:
        one.file_meta.MediaStorageSOPClassUID = MRImageStorage
    return made


BROKEN: dict[str, Callable[[int], list[Dataset]]] = {
    "a gap of 27 mm": lambda number: [s for n, s in enumerate(series(number)) if n not in range(3, 11)],
    "slices of two sizes": _of_another_size,
    "two volumes in one": lambda number: series(number, places=np.repeat(ds.places(SLICES // 2, STEP_MM), 2, axis=0)),
    "no place": _without("ImagePositionPatient", "ImageOrientationPatient"),
    "skewed": _each(_skewed),
    "cut pixel data": _each(_cut),
    "no codestream": _each(_compressed_garbage),
    "no pixel data": _without("PixelData"),
    "MR": _mr,
    "localiser": lambda number: series(number, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "screen captures": _capture,
    "two series that fit": lambda number: series(number) + series(number, uid="2"),
}


def write(folder: Path, good: int, *, broken: bool = True) -> dict[int, str]:
    """`good` studies, numbers 1, 2, ..., and then the broken ones, each in `folder/<number>`; number -> what it is."""
    what = dict.fromkeys(range(1, good + 1), "good")
    what |= {good + n: name for n, name in enumerate(BROKEN, start=1)} if broken else {}
    for number, name in what.items():
        ds.write(folder / str(number), series(number) if name == "good" else BROKEN[name](number))
    return what
