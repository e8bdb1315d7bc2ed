"""Pictures with labels drawn in: the right pixels at the right place, marked for what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg import readers
from medseg.labels import LabelTable
from medseg.outputs import dicom_overlay
from medseg.outputs.dicom_overlay import Options
from medseg.prediction import Prediction, Quality
from medseg.refusal import Refusal
from medseg.report import burned
from tests import dicom_series as ds
from tests import judges

OBLIQUE = np.array([0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997])
TABLE = LabelTable.of({"liver": 5, "Läsion <b>": 1})
ROWS, COLUMNS = 20, 16
ZOOM = 32


def prediction(folder: Path, *, count: int = 8, orientation: np.ndarray = OBLIQUE, **more: object) -> Prediction:
    """Blobs without any symmetry on a grey scan, on slices 3 and 4 of those numbered from 0; nothing is CT here."""
    places = ds.places(count, orientation=orientation, tilt=more.pop("tilt", 0))  # type: ignore[arg-type]
    kind = {"rows": ROWS, "columns": COLUMNS, "Modality": "MR", **more}
    scan = readers.read(ds.series(folder / "scan", places, orientation=orientation, **kind))
    target = np.zeros((1, *scan.shape), np.uint8)
    target[0, 2:7, 3:12, 3:5], target[0, 10:12, 5:8, 4] = 1, 2
    quality = Quality("look", 0.4, ("smaller than any",))
    return Prediction("a", TABLE, scan.with_array(target), {"model": "liver 1.2"}, scan=scan, quality=quality)


def written(made: Prediction, folder: Path, **options: object) -> pydicom.Dataset:
    path = folder / "a.overlay.dcm"
    dicom_overlay.write(made, path, Options(**options))  # type: ignore[arg-type]
    assert [file.name for file in folder.glob("*.dcm")] == [path.name]
    return pydicom.dcmread(path)


def corner(found: pydicom.Dataset, frame: int, row: float, column: float) -> np.ndarray:
    """Patient coordinates (LPS, mm) of a pixel of a frame (DICOM PS3.3 C.7.6.2.1.1)."""
    shared = found.SharedFunctionalGroupsSequence[0]
    place = found.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    return np.array(place, float) + cosines[:3] * column * spacing[1] + cosines[3:] * row * spacing[0]


def test_it_says_what_it_is(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    found = written(made, tmp_path, series_number=77)
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7.4" and found.ImageType == ["DERIVED", "SECONDARY"]
    assert (found.Modality, found.PatientID, found.SeriesNumber, found.ConversionType) == ("OT", "P1", 77, "WSD")
    for text in (found.ImageComments, found.DerivationDescription):
        assert "AI-made, not for primary diagnosis" in text and "look (score 0.40): smaller than any" in text
    assert found.BurnedInAnnotation == "NO"
    assert "model: liver 1.2" in found.ContributingEquipmentSequence[0].ContributionDescription
    assert found.FrameOfReferenceUID == ds.FRAME_OF_REFERENCE and found.StudyInstanceUID == ds.STUDY


def test_text_that_the_scan_has_burnt_in_is_not_denied(tmp_path: Path) -> None:
    assert written(prediction(tmp_path, BurnedInAnnotation="YES"), tmp_path).BurnedInAnnotation == "YES"


@pytest.mark.parametrize("tilt", [0, 12], ids=["straight", "tilted"])
def test_every_picture_lies_where_its_slice_does_and_names_it(tilt: float, tmp_path: Path) -> None:
    """On the original slices, also where the scan was straightened before it was segmented."""
    made = prediction(tmp_path, orientation=np.array(ds.AXIAL, float), tilt=tilt)
    assert (made.target.source.slices is not None) == bool(tilt)
    found = written(made, tmp_path, slices="all")
    originals = {}
    for path in (tmp_path / "scan").iterdir():
        one = pydicom.dcmread(path)
        originals[one.SOPInstanceUID] = one
    assert found.NumberOfFrames == len(originals)
    for number, frame in enumerate(found.PerFrameFunctionalGroupsSequence):
        [source] = frame.DerivationImageSequence[0].SourceImageSequence
        original = originals.pop(source.ReferencedSOPInstanceUID)
        centre = (ZOOM - 1) / 2  # of the pixels that stand for the slice's first
        wanted = np.array(original.ImagePositionPatient, float)
        np.testing.assert_allclose(corner(found, number, centre, centre), wanted, atol=1e-4)
        far = wanted + np.array([0.6 * (COLUMNS - 1), 0.8 * (ROWS - 1), 0])
        last = corner(found, number, centre + ZOOM * (ROWS - 1), centre + ZOOM * (COLUMNS - 1))
        np.testing.assert_allclose(last, far, atol=1e-3)
    assert not originals and len(found.SourceImageSequence) == len(found.PerFrameFunctionalGroupsSequence)
    assert list(found.SliceLocationVector) == sorted(found.SliceLocationVector)


def test_labels_are_drawn_where_they_are_and_nowhere_else(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    found = written(made, tmp_path, slices="all").pixel_array
    shown = found[:, : ROWS * ZOOM]
    coloured = (shown.max(axis=-1).astype(int) - shown.min(axis=-1)) > 0
    expected = np.repeat(np.repeat(made.target.array[0].T > 0, ZOOM, 1), ZOOM, 2)
    np.testing.assert_array_equal(coloured, expected)
    [liver, lesion] = [label.colour for label in TABLE.labels]
    assert tuple(shown[3, 3 * ZOOM, 2 * ZOOM]) == liver and tuple(shown[4, 5 * ZOOM, 10 * ZOOM]) == lesion
    assert tuple(shown[3, 5 * ZOOM, 4 * ZOOM]) != liver  # the inside is only tinted
    below = found[:, ROWS * ZOOM :]
    assert (below[3] == liver).all(axis=-1).any() and not (below[3] == lesion).all(axis=-1).any()
    assert (below[4] == lesion).all(axis=-1).any() and not (below[0] == liver).all(axis=-1).any()
    assert all((frame == burned.WARNING).all(axis=-1).any() for frame in below)


@pytest.mark.parametrize(
    ("options", "slices"),
    [({}, range(1, 7)), ({"margin": 0}, range(3, 5)), ({"margin": 99}, range(8)), ({"slices": "all"}, range(8))],
)
def test_which_slices_are_shown(options: dict, slices: range, tmp_path: Path) -> None:
    found = written(prediction(tmp_path), tmp_path, **options)
    labels = [frame.FrameContentSequence[0].FrameLabel for frame in found.PerFrameFunctionalGroupsSequence]
    assert labels == [f"slice {n + 1} of 8" for n in slices]


def test_nothing_found_is_one_picture_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prediction(tmp_path)
    empty = replace(made, target=made.target.with_array(np.zeros_like(made.target.array)), quality=None)
    styles, style = [], burned.Burned

    def seen(*words: object) -> burned.Burned:
        styles.append(style(*words))  # type: ignore[arg-type]
        return styles[-1]

    monkeypatch.setattr(burned, "Burned", seen)
    assert written(empty, tmp_path).NumberOfFrames == 1
    assert styles[0].lines[1:] == ("Quality control: not judged", "Looked for and not found: liver, Läsion <b>")


def test_many_labels_and_long_names_stay_within_the_picture() -> None:
    table = LabelTable.of({f"structure number {n} with a name": n for n in range(1, 41)})
    lines = burned.legend_lines(40)
    style = burned.Burned(table, (0, 1), (300, 600), ("a warning " * 50, "b"), lines)
    masks = [np.zeros((300, 600), bool) for _ in range(40)]
    for n, mask in enumerate(masks):
        mask[n, n] = True
    made = style.picture(np.zeros((300, 600), np.float32), masks)
    assert made.shape == (*style.shape, 3) and style.zoom == 1 and lines == burned.MOST_LINES
    assert not made[300:, -2:].any()  # no letter is cut by the edge
    drawn = {tuple(colour) for colour in made[300:].reshape(-1, 3)}
    assert [label.colour in drawn for label in table.labels] == [True] * 11 + [False] * 29


def test_a_scan_that_was_not_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="not kept"):
        written(replace(prediction(tmp_path), scan=None), tmp_path)


def test_what_reads_back_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, honest = prediction(tmp_path), dicom_overlay.capture.build

    def damaged(*given: object, **named: object) -> pydicom.Dataset:
        found = honest(*given, **named)  # type: ignore[arg-type]
        found.PixelData = bytes([found.PixelData[0] ^ 1]) + found.PixelData[1:]
        return found

    monkeypatch.setattr(dicom_overlay.capture, "build", damaged)
    with pytest.raises(Refusal, match="other pictures"):
        written(made, tmp_path)
    assert not list(tmp_path.glob("*.dcm"))


class TestJudges:
    @pytest.mark.parametrize("empty", [False, True], ids=["several frames", "one frame"])
    @pytest.mark.parametrize("_", [pytest.param("", marks=judges.needs("dciodvfy"))])
    def test_dciodvfy_finds_no_error(self, _: str, empty: bool, tmp_path: Path) -> None:
        made = prediction(tmp_path)
        nothing = made.target.with_array(np.zeros_like(made.target.array))
        written(replace(made, target=nothing) if empty else made, tmp_path)
        assert judges.dciodvfy(tmp_path / "a.overlay.dcm") == []

    @pytest.mark.parametrize("_", [pytest.param("", marks=judges.needs("Orthanc", "storescu"))])
    def test_orthanc_stores_it_and_shows_the_same_pictures(self, _: str, tmp_path: Path) -> None:
        import io

        from PIL import Image

        made = written(prediction(tmp_path), tmp_path)
        with judges.orthanc(tmp_path) as archive:
            stored = archive.store(tmp_path / "a.overlay.dcm")
            shown = Image.open(io.BytesIO(archive.get(f"/instances/{stored}/frames/2/preview")))
        np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), made.pixel_array[2])
