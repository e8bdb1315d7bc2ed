"""Every output writes the exact grid of the scan: read back, every voxel lies where it was predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import plugins, readers, scratch
from medseg.labels import LabelTable
from medseg.prediction import Classification, Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Volume
from tests import dicom_series as ds

NEEDS_DICOM = {"dicom_seg", "rtstruct"}
FOR_LABELS = [name for name in plugins.names("outputs") if plugins.find("outputs", name).WRITES == "labels"]
SHAPES = {"stl", "ply", "glb"}
WITH_VOXELS = [name for name in FOR_LABELS if plugins.find("outputs", name).READ_BACK_BY]
ABOUT_LABELS = {"statistics_csv", "statistics_json", "dicom_sr", "dicom_page", "dicom_overlay"}
"""What is said of labels, without the voxels themselves; each has a test of its own that reads it back."""
LABELS = LabelTable.of({"liver": 5, "spleen": 1, "kidney_left": 9})
REGIONS = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4])
OBLIQUE = np.array([0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997])


def scan(folder: Path) -> Volume:
    """7 x 11 x 5 voxels of 0.6 x 0.8 x 3 mm, oblique, as a DICOM series."""
    places = ds.places(5, orientation=OBLIQUE)
    return readers.read(ds.series(folder / "scan", places, orientation=OBLIQUE, rows=11, columns=7))


def prediction(volume: Volume, table: LabelTable) -> Prediction:
    """Blobs without any symmetry; the last label is absent, the outermost slices are empty."""
    target = np.zeros((1 if table.exclusive else 3, *volume.shape), np.uint8)
    target[0, 1:4, 2:9, 1:3] = 1
    target[0 if table.exclusive else 1, 2:4, 2:5, 2:4] = 2 if table.exclusive else 1
    return Prediction("case-1", table, volume.with_array(target), {"model": "unit test"}, scan=volume)


def points(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Patient coordinates (n, 3) of the true voxels, in mm to 4 digits, sorted."""
    where = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return where[np.lexsort(where.round(2).T)]


def test_the_list_equals_the_folder() -> None:
    listed = {
        "nifti",
        "nrrd",
        "seg_nrrd",
        *NEEDS_DICOM,
        *SHAPES,
        "scores",
        "maps",
        "probabilities",
        "entropy",
        "disagreement",
    }
    assert set(plugins.names("outputs")) == listed | ABOUT_LABELS
    assert set(FOR_LABELS) - set(WITH_VOXELS) == ABOUT_LABELS | SHAPES
    assert {plugins.find("outputs", name).WRITES for name in plugins.names("outputs")} == {"labels", "maps", "classes"}


@pytest.mark.parametrize("name", WITH_VOXELS)
def test_output(name: str, tmp_path: Path) -> None:
    output = plugins.find("outputs", name)
    assert issubclass(output.Options, Settings)
    assert plugins.summary("outputs", name)
    assert output.READ_BACK_BY in plugins.names("readers")
    expected = prediction(scan(tmp_path), LABELS)
    path = tmp_path / "new" / f"result{output.SUFFIX}"
    output.write(expected, path, output.Options())
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half-written left behind
    back = readers.read(path)
    assert back.source.reader == output.READ_BACK_BY
    if name not in NEEDS_DICOM:
        np.testing.assert_array_equal(back.array, expected.painted().array)
        np.testing.assert_allclose(back.affine, expected.target.affine, atol=1e-4)
    segments = back.source.notes.get("segments", {label.index: label.name for label in LABELS.labels})
    for position, label in enumerate(LABELS.labels):
        numbers = [number for number, named in segments.items() if named == label.name]
        found = np.isin(back.array[0], numbers)
        wanted = points(expected.mask(position), expected.target.affine)
        np.testing.assert_allclose(points(found, back.affine), wanted, atol=1e-4)


@pytest.mark.parametrize("name", WITH_VOXELS)
@pytest.mark.parametrize("table", [LABELS, REGIONS], ids=["labels", "regions"])
def test_nothing_segmented_is_a_result(name: str, table: LabelTable, tmp_path: Path) -> None:
    output = plugins.find("outputs", name)
    empty = prediction(scan(tmp_path), table)
    empty = replace(empty, target=empty.target.with_array(np.zeros_like(empty.target.array)))
    output.write(empty, tmp_path / f"result{output.SUFFIX}", output.Options())
    if output.READ_BACK_BY:
        assert not readers.read(tmp_path / f"result{output.SUFFIX}").array.any()


def test_what_an_output_refers_to_is_another_output() -> None:
    for name in plugins.names("outputs"):
        for needed in getattr(plugins.find("outputs", name), "NEEDS", ()):
            assert needed in plugins.names("outputs") and not getattr(plugins.find("outputs", needed), "NEEDS", ())


@pytest.mark.parametrize("name", FOR_LABELS)
def test_an_existing_file_survives_a_failure(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = plugins.find("outputs", name)
    path = tmp_path / f"result{output.SUFFIX}"
    path.write_bytes(b"older result")
    expected = prediction(scan(tmp_path), LABELS)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("medseg.atomic.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        output.write(expected, path, output.Options())
    assert path.read_bytes() == b"older result"
    assert not list(tmp_path.glob(".partial*"))


def test_probabilities_of_slices_are_a_row_each(tmp_path: Path) -> None:
    table = LabelTable.classes({"tumour": 1, "node": 2}, exclusive=False, unit="slice")
    found = np.array([[0.1, 0.9, 0.8], [0.2, 0.3, 0.7]], np.float32)
    scores = plugins.find("outputs", "scores")
    scores.write(Classification("c", table, found, np.array([-3.0, 0, 3])), tmp_path / "c.csv", scores.Options())
    assert (tmp_path / "c.csv").read_text().splitlines() == [
        "case,slice,position_mm,probability tumour,probability node,decision,entropy",
        "c,0,-3.000,0.100000,0.200000,,0.825485",  # of two questions: 0.325083 + 0.500402
        "c,1,0.000,0.900000,0.300000,tumour,0.935947",
        "c,2,3.000,0.800000,0.700000,tumour + node,1.111267",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["c.csv"]


def test_the_class_of_an_image_is_one_row(tmp_path: Path) -> None:
    table = LabelTable.classes({"no": 0, "yes": 1})
    scores = plugins.find("outputs", "scores")
    spread = np.array([[0.125], [0.125]], np.float32)
    found = Classification("c", table, np.array([[0.4], [0.6]], np.float32), np.zeros(0), spread=spread)
    scores.write(found, tmp_path / "c.csv", scores.Options())
    assert (tmp_path / "c.csv").read_text().splitlines() == [
        "case,probability no,probability yes,decision,entropy,spread no,spread yes",
        "c,0.400000,0.600000,yes,0.673012,0.125000,0.125000",
    ]


VESSELS = LabelTable.of({"artery": [5, 7], "vein": [6, 7], "vessel": [4, 5, 6, 7]}, paint=[5, 6, 4])


def test_maps_are_a_colour_picture_in_the_place_of_the_photograph(tmp_path: Path) -> None:
    maps = plugins.find("outputs", "maps")
    photograph = Volume(np.zeros((3, 4, 5, 1), np.uint8), np.diag([-1.0, -1, 1, 1]), unit="px")
    chances = np.random.default_rng(0).random((3, 4, 5, 1)).astype(np.float32)
    target = photograph.with_array((chances > 0.5).astype(np.uint8))
    maps.write(Prediction("a", VESSELS, target, probabilities=chances), tmp_path / "a.png", maps.Options())
    back = readers.read(tmp_path / "a.png")
    assert back.source.reader == maps.READ_BACK_BY and np.array_equal(back.affine, photograph.affine)
    np.testing.assert_allclose(back.array / 255, chances, atol=0.501 / 255)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(("bits", "step"), [(8, 1 / 255), (16, 1 / 65535)])
@pytest.mark.parametrize("table", [LABELS, LabelTable.of({"liver": 1})], ids=["three labels", "one label"])
def test_probabilities_come_back_to_within_half_a_step(
    table: LabelTable, bits: int, step: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.nifti.SLAB", 200)  # two planes of 7 x 11
    output = plugins.find("outputs", "probabilities")
    options, volume = output.Options(bits=bits), scan(tmp_path)
    assert output.keeps(options) == ("probabilities",)
    with scratch.on_disk(tmp_path / "scratch", above=0):
        chances = scratch.zeros((len(table.labels), *volume.shape), np.float32)
    chances[:] = np.random.default_rng(0).random(chances.shape)
    chances[0, 0, 0, :2] = 0, 1
    made = Prediction("a", table, volume.with_array(np.zeros((1, *volume.shape), np.uint8)), probabilities=chances)
    path = tmp_path / "new" / f"a{output.SUFFIX}"
    output.write(made, path, options)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    back, image = readers.read(path), nib.load(path)
    assert back.source.reader == output.READ_BACK_BY
    np.testing.assert_allclose(back.array, chances, atol=step * 0.5001)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-4)
    assert back.array[0, 0, 0, 0] == 0 and back.array[0, 0, 0, 1] == 1
    assert image.get_data_dtype() == f"uint{bits}" and image.dataobj.slope == np.float32(step)
    assert image.header.extensions[0].get_content().rstrip(b"\0").decode() == "; ".join(table.names)


def test_probabilities_that_were_not_kept_are_refused(tmp_path: Path) -> None:
    output, expected = plugins.find("outputs", "probabilities"), prediction(scan(tmp_path), REGIONS)
    with pytest.raises(Refusal, match="labels alone"):
        output.write(expected, tmp_path / "a.nii.gz", output.Options())


@pytest.mark.parametrize(("unit", "said"), [("mm", "mm"), ("px", "unknown")])
def test_a_photograph_gets_no_millimetres_from_nifti(unit: str, said: str, tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 4, 5, 1), np.uint8), np.diag([-1.0, -1, 1, 1]), unit=unit)  # type: ignore[arg-type]
    nifti = plugins.find("outputs", "nifti")
    nifti.write(Prediction("a", LABELS, volume), tmp_path / "a.nii.gz", nifti.Options())
    assert nib.load(tmp_path / "a.nii.gz").header.get_xyzt_units()[0] == said


def test_maps_of_a_volume_are_refused(tmp_path: Path) -> None:
    maps, expected = plugins.find("outputs", "maps"), prediction(scan(tmp_path), REGIONS)
    with pytest.raises(Refusal, match="a picture with three labels"):
        maps.write(expected, tmp_path / "a.png", maps.Options())
    assert not (tmp_path / "a.png").exists()
