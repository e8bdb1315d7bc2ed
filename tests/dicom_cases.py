"""Series as they come out of archives, even and uneven, and the readers that a table compares on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from scipy import ndimage

from medseg.geometry import LPS_FROM_RAS
from tests import dicom_series as ds

OBLIQUE = (np.cos(np.pi / 6), 0.5, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)
TURNED = (-1, 0, 0, 0, 1, 0)
FLIPPED = (1, 0, 0, 0, -1, 0)
PLACES = ds.places()
THICKENING = np.concatenate([PLACES[:10], PLACES[9] + np.arange(1, 11)[:, None] * [0, 0, 5.0]])
OUT_OF_LINE = PLACES + np.where(np.arange(20) == 7, 0.3, 0)[:, None] * [1, 0, 0]
SHUFFLED = [int(index) for index in np.random.default_rng(0).permutation(20)]

Build = Callable[..., list[Dataset]]
"""(what the pixels show, attributes of every slice) -> slices."""
Read = Callable[[Path], tuple[np.ndarray, np.ndarray]]
"""Folder -> (C, I, J, K) and its affine to RAS+ mm."""


@dataclass(frozen=True)
class Case:
    """A series, what medseg must make of it, and what was measured elsewhere of readers that are not installed.

    Attributes:
        build: of its slices.
        options: of medseg's reader; other readers are not asked again.
        expected: exact, repaired, or a pattern of the refusal.
        channels: how many medseg must find.
        facts: reader -> what it did.
    """

    name: str
    build: Build
    options: Mapping[str, object] = field(default_factory=dict)
    expected: str = "exact"
    channels: int = 1
    facts: Mapping[str, str] = field(default_factory=dict)


def even(**options: object) -> Build:
    """Twenty slices above one another, in the orientation given."""
    places = ds.places(orientation=options.get("orientation", ds.AXIAL))  # type: ignore[arg-type]
    return at(places, **options)


def at(places: np.ndarray, numbers: list[int | None] | None = None, **options: object) -> Build:
    """Slices at places, numbered from 1 or as given."""
    numbering = numbers or list(range(1, len(places) + 1))

    def build(values: ds.Values, **more: object) -> list[Dataset]:
        return [
            ds.slice_(place, number=number, values=values, **{**more, **options})  # type: ignore[arg-type]
            for place, number in zip(places, numbering, strict=True)
        ]

    return build


def together(*parts: Build) -> Build:
    return lambda values, **more: [dataset for part in parts for dataset in part(values, **more)]


def lean(degrees: float) -> Build:
    return at(ds.places(tilt=degrees))


OK = {"dicom2nifti": "ok", "MONAI ITKReader": "ok"}
TWO_SERIES = together(
    even(), at(PLACES + np.array([0, 0, 200]), series="1.2.99", SeriesNumber=12, SeriesDescription="abdomen")
)
LOCALISER = at(
    np.zeros((1, 3)), orientation=SAGITTAL, rows=16, columns=16, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
)
CASES = (
    Case("clean", even(), facts=OK),
    Case("oblique, 30 degrees", even(orientation=OBLIQUE), facts=OK),
    Case("sagittal", even(orientation=SAGITTAL), facts=OK),
    Case("row cosine -1", even(orientation=TURNED), facts=OK),
    Case("column cosine [0, -1, 0]", even(orientation=FLIPPED)),
    Case("InstanceNumber reversed", at(PLACES, list(range(20, 0, -1))), facts=OK),
    Case(
        "InstanceNumber shuffled",
        at(PLACES, [number + 1 for number in SHUFFLED]),
        facts={"dicom2nifti": "raises AttributeError", "MONAI ITKReader": "ok"},
    ),
    Case(
        "InstanceNumber absent",
        at(PLACES[SHUFFLED], [None] * 20),
        facts={"dicom2nifti": "raises IndexError", "MONAI ITKReader": "ok"},
    ),
    Case(
        "1 slice missing",
        at(np.delete(PLACES, 8, axis=0)),
        expected="repaired",
        facts={"dicom2nifti": "refuses", "MONAI ITKReader": "**1.5 mm**, with a warning"},
    ),
    Case(
        "5 slices missing",
        at(np.delete(PLACES, range(8, 13), axis=0)),
        expected=r"5 missing slices.*gap",
        facts={"dicom2nifti": "refuses", "MONAI ITKReader": "**7.5 mm**, with a warning"},
    ),
    Case(
        "5 slices missing, `gap_mm=20`",
        at(np.delete(PLACES, range(8, 13), axis=0)),
        options={"gap_mm": 20},
        expected="repaired",
    ),
    Case(
        "3 mm, then 5 mm apart",
        at(THICKENING),
        expected="repaired",
        facts={"dicom2nifti": "refuses", "MONAI ITKReader": "**9.5 mm**, with a warning"},
    ),
    Case(
        "two phases at the same positions",
        together(at(PLACES, AcquisitionNumber=1), at(PLACES, list(range(21, 41)), AcquisitionNumber=2)),
        channels=2,
        facts={"dicom2nifti": "drops the second, silently", "MONAI ITKReader": "**40 interleaved**, with a warning"},
    ),
    Case(
        "two series in one folder",
        TWO_SERIES,
        expected=r"2 series: series 7 'thorax'.*series 12 'abdomen'",
        facts={"dicom2nifti": "refuses", "MONAI ITKReader": "reads one, silently"},
    ),
    Case(
        "two series, `series=thorax`",
        TWO_SERIES,
        options={"series": "thorax"},
    ),
    Case(
        "localiser among the slices",
        together(even(), LOCALISER),
        facts={"dicom2nifti": "drops it, silently", "MONAI ITKReader": "ok"},
    ),
    Case(
        "gantry tilt 15 degrees",
        lean(15),
        expected="repaired",
        facts={"dicom2nifti": "refuses", "MONAI ITKReader": "**2.0 mm in z alone**, silently"},
    ),
    Case("gantry tilt -15 degrees", lean(-15), expected="repaired"),
    Case("gantry tilt 18.5 degrees", lean(18.5), expected="repaired"),
    Case("gantry tilt -18.5 degrees", lean(-18.5), expected="repaired"),
    Case(
        "one slice 0.3 mm out of line, sideways",
        at(OUT_OF_LINE),
        expected="repaired",
    ),
)


def by_simpleitk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T[None], LPS_FROM_RAS @ affine


def by_highdicom(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    import highdicom as hd
    import pydicom

    volume = hd.get_volume_from_series([pydicom.dcmread(file) for file in sorted(folder.iterdir())])
    return volume.array[None], LPS_FROM_RAS @ volume.affine


def by_monai(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    from monai.data import PydicomReader

    reader = PydicomReader()
    array, more = reader.get_data(reader.read(folder))
    return np.asarray(array)[None], np.asarray(more["affine"])


MEASURED: dict[str, Read] = {
    "SimpleITK": by_simpleitk,
    "highdicom": by_highdicom,
    "MONAI PydicomReader": by_monai,
}

EXACT_MM = 0.01
PER_MM, OFFSET_MM = 200, 100
"""A pixel shows (its coordinate + OFFSET_MM) * PER_MM: rounding moves it by 0.0025 mm, and it is never negative."""


def coordinate(axis: int) -> ds.Values:
    return lambda points: (points[..., axis] + OFFSET_MM) * PER_MM


@dataclass(frozen=True)
class Found:
    """A volume whose voxels know where they were taken.

    Attributes:
        affine: (4, 4), voxel -> RAS+ mm.
        places: (C, I, J, K, 3) LPS mm, as the voxels say.
        covered: (C, I, J, K), whether a voxel was taken anywhere; False for what pads a volume.
    """

    affine: np.ndarray
    places: np.ndarray
    covered: np.ndarray

    def errors(self) -> tuple[np.ndarray, np.ndarray]:
        """(C, I, J, K) for every voxel: how far it was taken from where the affine puts it, in mm, and in voxels along
        the axis that is worst; 0 where it is not covered."""
        off = (self.places - centres(self.affine, self.places.shape[1:4])) * self.covered[..., None]
        in_voxels = off * np.diag(LPS_FROM_RAS)[:3] @ np.linalg.inv(self.affine[:3, :3]).T
        return np.linalg.norm(off, axis=-1), np.abs(in_voxels).max(axis=-1)

    def inner(self) -> np.ndarray:
        """(C, I, J, K), whether a voxel and its neighbours within the plane are covered."""
        return ndimage.binary_erosion(self.covered, np.ones((1, 3, 3, 1)))


def centres(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(I, J, K, 3) LPS mm of the voxels of a grid, given its affine to RAS+ mm."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    return (index @ affine[:3, :3].T + affine[:3, 3]) * np.diag(LPS_FROM_RAS)[:3]


def locate(folder: Path, build: Build, read: Read) -> Found:
    """Write a series three times, showing x, y and z, and read each."""
    volumes = []
    for axis in range(3):
        written = folder / "xyz"[axis]
        if not written.exists():
            ds.write(written, build(coordinate(axis), PixelRepresentation=0))
        volumes.append(read(written))
    arrays = np.stack([array for array, _ in volumes], axis=-1).astype(float)
    return Found(volumes[0][1], arrays / PER_MM - OFFSET_MM, (arrays >= 0).all(axis=-1))


def told(folder: Path, build: Build, read: Read, heard: Callable[[], str]) -> str:
    """What a reader does with a series, in a few words; `heard` returns what was printed since it was last asked."""
    heard()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = locate(folder, build, read)
        except Exception as error:  # whatever a reader raises is its answer
            return f"refuses ({type(error).__name__})"
    worst = found.errors()[0].max()
    if worst <= EXACT_MM:
        return "ok"
    loud = "with a warning" if heard() or caught else "silently"
    count = found.places.shape[3]
    return f"**{worst:.1f} mm**, {loud}" + (f" ({count} slices)" if count > 20 else "")


@lru_cache(maxsize=1)
def _clouds() -> np.ndarray:
    """Blobs of some 9 mm, with a standard deviation of 100, on a grid of 1 mm from (-50, -50, 30) on."""
    noise = np.random.default_rng(5).normal(size=(100, 100, 120))
    smooth = ndimage.gaussian_filter(noise, 4, mode="wrap")
    return ndimage.spline_filter(smooth * 100 / smooth.std(), order=3, mode="nearest")


def clouds(points: np.ndarray) -> np.ndarray:
    """HU of a smooth random texture."""
    where = np.moveaxis(points - [-50, -50, 30], -1, 0)
    return ndimage.map_coordinates(_clouds(), where, order=3, mode="nearest", prefilter=False)


ELLIPSOIDS = (
    # HU added, centre, half axes in mm, after Shepp and Logan's head
    (900, (-14, -20, 84), (14, 18, 27)),
    (-860, (-14, -20, 84), (12.5, 16.5, 25)),
    (-120, (-10, -19, 84), (3, 6, 9)),
    (-120, (-18, -19, 84), (4, 8, 12)),
    (60, (-14, -12, 86), (5, 4, 8)),
    (90, (-14, -24, 78), (2, 2, 3)),
    (90, (-14, -28, 92), (3, 2, 4)),
)


def head(points: np.ndarray) -> np.ndarray:
    """HU of a head of ellipsoids with sharp borders, in water so that nothing is as low as what pads a volume."""
    total = np.zeros(points.shape[:-1])
    for value, centre, axes in ELLIPSOIDS:
        total += value * ((((points - centre) / np.array(axes)) ** 2).sum(axis=-1) <= 1)
    return total


def noisy(values: ds.Values, sigma: float) -> ds.Values:
    """The same with noise, another one for each slice."""
    generator = np.random.default_rng(9)
    return lambda points: values(points) + generator.normal(0, sigma, points.shape[:-1])
