"""Structure sets: what they say, that validators and other readers agree, and that a wrong one gets no name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage
from skimage.draw import polygon2mask

from medseg import codes, originals, readers
from medseg.dicom import contours, objects, structures_file, structures_proof
from medseg.labels import LabelTable
from medseg.outputs import rtstruct
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import dicom_series as ds
from tests import dicom_sources, judges, reference

TABLE = LabelTable.of(
    {"liver": 5, "kidney_left": 9, "liver_tumour": 3, "right_kidney_tumour": 1, "Größe\\ of\nours": 300}
)
REGIONS = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, paint=[2, 1, 4])
OBLIQUE = np.array([0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997])


def scan(folder: Path, **options: object) -> Volume:
    return readers.read(ds.series(folder / "scan", ds.places(6), **options))


def noise(volume: Volume, table: LabelTable = TABLE, seed: int = 0) -> Prediction:
    """Every label in ragged pieces on every slice: holes, islands, single pixels, and pixels at the border."""
    generator = np.random.default_rng(seed)
    if table.exclusive:
        others = len(table.labels)
        target = generator.choice(others + 1, (1, *volume.shape), p=[0.3 / others, 0.7, *[0.3 / others] * (others - 1)])
    else:
        target = generator.random((len(table.labels), *volume.shape)) < 0.6
    known = {"model": "unit test", "weights sha256": "0123abcd", "seed": "7"}
    return Prediction("case-1", table, volume.with_array(target.astype(np.uint8)), known)


def written(prediction: Prediction, folder: Path) -> pydicom.Dataset:
    rtstruct.write(prediction, folder / "a.rtstruct.dcm", rtstruct.Options())
    return pydicom.dcmread(folder / "a.rtstruct.dcm")


def points(contour: pydicom.Dataset) -> np.ndarray:
    return np.array(contour.ContourData, float).reshape(-1, 3)


def test_what_it_says(tmp_path: Path) -> None:
    prediction = noise(scan(tmp_path))
    prediction = replace(prediction, target=prediction.target.with_array(np.minimum(prediction.target.array, 3)))
    found = written(prediction, tmp_path)
    assert (found.Modality, found.PatientID, found.StudyInstanceUID) == ("RTSTRUCT", "P1", ds.STUDY)
    assert (found.SOPInstanceUID, found.SeriesInstanceUID) == tuple(
        objects.uid(prediction, role) for role in ("RTSTRUCT", "RTSTRUCT series")
    )
    assert found.ApprovalStatus == "UNAPPROVED" and found.FrameOfReferenceUID == ds.FRAME_OF_REFERENCE
    named = [(item.ROINumber, item.ROIName, item.ROIGenerationAlgorithm) for item in found.StructureSetROISequence]
    assert named == [(1, "liver", "AUTOMATIC"), (2, "kidney_left", "AUTOMATIC"), (3, "liver_tumour", "AUTOMATIC")]
    assert [item.ROIDisplayColor for item in found.ROIContourSequence] == [list(one.colour) for one in TABLE.labels[:3]]
    liver, kidney, tumour = found.RTROIObservationsSequence
    assert liver.RTROIIdentificationCodeSequence[0].CodeValue == "10200004"
    assert kidney.RTROIIdentificationCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert tumour.AnatomicRegionSequence[0].CodeValue == "10200004"
    side = written(noise(scan(tmp_path / "sides")), tmp_path).RTROIObservationsSequence[3].AnatomicRegionSequence[0]
    assert (side.CodeValue, side.AnatomicRegionModifierSequence[0].CodeMeaning) == ("64033007", "Right")
    assert [item.RTROIInterpretedType for item in (liver, kidney, tumour)] == ["ORGAN", "ORGAN", ""]
    for text in ("unit test", "0123abcd", "seed: 7", "check of the series"):
        assert text in found.StructureSetDescription
        assert text in found.ContributingEquipmentSequence[0].ContributionDescription


def test_directions_that_were_rounded_move_no_contour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row direction a thousandth too long would put the last pixel half a millimetre aside."""
    volume = scan(tmp_path, orientation=(1.0009, 0, 0, 0, 1, 0), columns=700)
    labels = np.zeros((1, *volume.shape), np.uint8)
    labels[0, -3:, :, 2] = 1
    with caplog.at_level(logging.INFO):
        written(replace(noise(volume), target=volume.with_array(labels)), tmp_path)
    (said,) = [record.getMessage() for record in caplog.records if "largest distance" in record.getMessage()]
    assert float(said.split("largest distance ")[1].split()[0]) < 0.001


def test_every_contour_names_the_slice_that_it_lies_on(tmp_path: Path) -> None:
    volume = scan(tmp_path)
    found = written(noise(volume), tmp_path)
    place = found.ReferencedFrameOfReferenceSequence[0]
    study = place.RTReferencedStudySequence[0]
    images = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert (place.FrameOfReferenceUID, study.ReferencedSOPInstanceUID) == (ds.FRAME_OF_REFERENCE, ds.STUDY)
    heights = {
        one.SOPInstanceUID: one.ImagePositionPatient[2] for one in map(pydicom.dcmread, (tmp_path / "scan").iterdir())
    }
    assert {image.ReferencedSOPInstanceUID for image in images} == set(heights)
    for region in found.ROIContourSequence:
        for contour in region.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR" and contour.NumberOfContourPoints >= 4
            (image,) = contour.ContourImageSequence
            np.testing.assert_allclose(points(contour)[:, 2], heights[image.ReferencedSOPInstanceUID], atol=0.0005)


@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["labels", "regions"])
@pytest.mark.parametrize("orientation", [ds.AXIAL, (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, -1, 0), tuple(OBLIQUE)])
def test_filled_by_another_library_the_contours_are_the_labels(
    tmp_path: Path, orientation: tuple[float, ...], table: LabelTable
) -> None:
    """The file alone, the headers alone, scikit-image: nothing of ours in between."""
    volume = readers.read(ds.series(tmp_path / "scan", ds.places(6, orientation=orientation), orientation=orientation))
    prediction = noise(volume, table)
    slices = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, (tmp_path / "scan").iterdir())}
    order = [instance.sop_instance_uid for instance in volume.source.instances]
    for position, region in enumerate(written(prediction, tmp_path).ROIContourSequence):
        mask = np.zeros(volume.shape, int)
        for contour in region.ContourSequence:
            head = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            cosines = np.array(head.ImageOrientationPatient).reshape(2, 3)
            columns_rows = (points(contour) - head.ImagePositionPatient) @ cosines.T / head.PixelSpacing[::-1]
            mask[..., order.index(head.SOPInstanceUID)] += polygon2mask(volume.shape[:2], columns_rows)
        np.testing.assert_array_equal(mask, prediction.mask(position))


@pytest.mark.parametrize("tilt", [0, 15])
def test_contours_of_a_repaired_scan_lie_on_its_own_slices(
    tmp_path: Path, tilt: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Tilted slices, and some missing: the labels are on a straight, even grid, the contours must not be."""
    places = ds.places(9, tilt=tilt)[[0, 1, 2, 4, 5, 7, 8]]
    volume = readers.read(ds.series(tmp_path / "scan", places))
    assert volume.source.slices is not None and volume.shape[2] != len(places)
    prediction = noise(volume)
    with caplog.at_level(logging.INFO):
        found = written(prediction, tmp_path)
    assert f"largest distance 0.000{4 if tilt else 0} mm, half a pixel is 0.3 mm" in caplog.text
    order = [instance.sop_instance_uid for instance in volume.source.instances]
    laid = originals.lay(prediction.target)
    for region, position in zip(found.ROIContourSequence, objects.segments(prediction), strict=True):
        mask = np.zeros(laid.shape[1:], int)
        for contour in region.ContourSequence:
            n = order.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
            mask[..., n] += polygon2mask((10, 12), (points(contour) - places[n])[:, :2] / (0.6, 0.8))
            np.testing.assert_allclose(points(contour)[:, 2], places[n, 2], atol=0.0005)
        np.testing.assert_array_equal(mask, laid[0] == position + 1)


def test_coordinates_far_away_keep_their_digits(tmp_path: Path) -> None:
    """Of 0.1 mm pixels a table's length from the origin, every corner to 0.001 mm and in 16 characters."""
    places = ds.places(3, orientation=OBLIQUE) + np.array([-1234.56789, 987.654321, -2345.678912])
    volume = readers.read(ds.series(tmp_path / "scan", places, orientation=OBLIQUE, spacing=(0.1, 0.1)))
    prediction = noise(volume)
    found = written(prediction, tmp_path)
    for region, position in zip(found.ROIContourSequence, range(5), strict=True):
        entries = iter(region.ContourSequence)
        for k in range(3):
            for contour in contours.trace(prediction.mask(position)[..., k]):
                entry = next(entries)
                exact = (volume.affine @ np.column_stack([contour, np.full(len(contour), k), np.ones(len(contour))]).T)[
                    :3
                ]
                assert np.abs(points(entry) - exact.T * (-1, -1, 1)).max() < 0.001
                assert max(len(str(value)) for value in entry.ContourData) <= 16


def test_nothing_segmented_is_a_region_without_contours(tmp_path: Path) -> None:
    prediction = noise(scan(tmp_path))
    empty = replace(prediction, target=prediction.target.with_array(np.zeros_like(prediction.target.array)))
    found = written(empty, tmp_path)
    assert [item.ROIName for item in found.StructureSetROISequence] == [codes.name_of(label) for label in TABLE.labels]
    assert not any("ContourSequence" in item for item in found.ROIContourSequence)


@pytest.mark.parametrize("kind", dicom_sources.MAKERS)
@pytest.mark.parametrize("marks", [pytest.param(None, marks=judges.needs("dciodvfy"))])
def test_the_validator_finds_no_error(tmp_path: Path, kind: str, marks: None) -> None:
    prediction = noise(readers.read(dicom_sources.MAKERS[kind](tmp_path / "scan")))
    found = written(prediction, tmp_path)
    assert judges.dciodvfy(tmp_path / "a.rtstruct.dcm") == []
    frames = {
        contour.ContourImageSequence[0].get("ReferencedFrameNumber")
        for region in found.ROIContourSequence
        for contour in region.ContourSequence
    }
    assert frames == (set(range(1, 7)) if kind.startswith("enhanced") else {None})
    back = readers.read(tmp_path / "a.rtstruct.dcm")
    np.testing.assert_array_equal(back.array, prediction.target.array)
    empty = replace(prediction, target=prediction.target.with_array(np.zeros_like(prediction.target.array)))
    written(empty, tmp_path)
    assert judges.dciodvfy(tmp_path / "a.rtstruct.dcm") == []


@pytest.mark.parametrize("marks", [pytest.param(None, marks=judges.needs("Orthanc", "storescu"))])
def test_an_archive_stores_it_and_gives_it_back(tmp_path: Path, marks: None) -> None:
    found = written(noise(scan(tmp_path)), tmp_path)
    (tmp_path / "pacs").mkdir()
    with judges.orthanc(tmp_path / "pacs") as archive:
        back = archive.fetch(archive.store(tmp_path / "a.rtstruct.dcm"), tmp_path / "scan" / "back.dcm")
    assert pydicom.dcmread(back) == found
    np.testing.assert_array_equal(readers.read(back).array, noise(scan(tmp_path / "again")).target.array)


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}


def wrong(change: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    WRONG[change.__name__] = change
    return change


def traced(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], list[np.ndarray]]) -> None:
    monkeypatch.setattr(structures_file.contours, "trace", change)


@wrong
def mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = structures_file.originals.lay
    monkeypatch.setattr(
        structures_file,
        "originals",
        type("Mirrored", (), {"lay": lambda v: honest(v)[..., ::-1], "affines": originals.affines}),
    )


@wrong
def one_contour_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = contours.trace
    traced(monkeypatch, lambda mask: honest(mask)[1:])


@wrong
def holes_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = contours.trace
    traced(monkeypatch, lambda mask: honest(ndimage.binary_fill_holes(mask)))


@wrong
def a_slice_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = contours.trace, count()
    traced(monkeypatch, lambda mask: honest(mask) if next(calls) else [])


@wrong
def moved_by_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = contours.trace
    traced(monkeypatch, lambda mask: [one + 1 for one in honest(mask)])


@wrong
def on_the_wrong_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = originals.affines
    shifted = type("Shifted", (), {"lay": originals.lay, "affines": lambda v: np.roll(honest(v), 1, axis=0)})
    monkeypatch.setattr(structures_file, "originals", shifted)


@wrong
def naming_no_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = structures_file._head
    monkeypatch.setattr(structures_file, "_head", lambda one: honest(replace(one, sop_instance_uid="1.2.3")))


@wrong
def rounded_to_millimetres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures_file, "COORDINATE", "%.0f\\")


@wrong
def a_label_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = structures_file._block
    monkeypatch.setattr(structures_file, "_block", lambda one, laid, place, box: honest(one, laid, 0, box))


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_one_gets_no_name(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction = noise(scan(tmp_path))
    WRONG[change](monkeypatch)
    with pytest.raises(Refusal):
        written(prediction, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan"]


def test_how_far_contours_are_from_labels_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = scan(tmp_path)
    prediction = noise(volume)
    files = objects.sources(volume)
    slices = objects.slices(volume.source, files)
    honest = originals.affines
    by_mm = {}
    for off_mm in (0.0, 0.1, 0.25):

        def moved(volume: Volume, off_mm: float = off_mm) -> np.ndarray:
            planes = honest(volume).copy()
            planes[:, 0, 3] += off_mm
            return planes

        shifted = type("Shifted", (), {"lay": originals.lay, "affines": moved})
        monkeypatch.setattr(structures_file, "originals", shifted)
        written(prediction, tmp_path)
        path = tmp_path / "a.rtstruct.dcm"
        by_mm[off_mm] = structures_proof.prove(path, path, prediction, objects.segments(prediction), slices)
    assert by_mm == {off_mm: pytest.approx(off_mm, abs=0.001) for off_mm in by_mm}


def test_scans_that_it_cannot_refer_to_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="a scan without DICOM instances"):
        written(noise(Volume(np.zeros((1, 3, 4, 5)), np.eye(4))), tmp_path)
    with pytest.raises(Refusal, match="no FrameOfReferenceUID"):
        written(noise(scan(tmp_path / "a", FrameOfReferenceUID="")), tmp_path)
    gone = noise(scan(tmp_path / "b"))
    gone.target.source.instances[2].path.unlink()
    with pytest.raises(Refusal, match="put the files back"):
        written(gone, tmp_path)
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize("place", ["scan", ".", "structures"])
def test_the_scan_is_found_where_exports_put_it(tmp_path: Path, place: str) -> None:
    prediction = noise(scan(tmp_path), REGIONS)
    ds.series(tmp_path / "another", ds.places(4))
    written(prediction, tmp_path)
    (tmp_path / place).mkdir(exist_ok=True)
    file = (tmp_path / "a.rtstruct.dcm").rename(tmp_path / place / "b.dcm")
    back = readers.read(file)
    assert (back.channels, back.source.notes["segments"]) == (("WT", "TC", "ET"), {1: "WT", 2: "TC", 3: "ET"})
    np.testing.assert_array_equal(back.array, prediction.target.array)
    np.testing.assert_allclose(back.affine, prediction.target.affine, atol=1e-9)


def test_a_structure_set_without_its_slices_is_refused(tmp_path: Path) -> None:
    prediction = noise(scan(tmp_path))
    written(prediction, tmp_path)
    prediction.target.source.instances[5].path.unlink()
    with pytest.raises(Refusal, match=r"mm away from its slice"):
        readers.read(tmp_path / "a.rtstruct.dcm")
    prediction.target.source.instances[2].path.unlink()
    with pytest.raises(Refusal, match="off an even grid"):
        readers.read(tmp_path / "a.rtstruct.dcm")
    for instance in prediction.target.source.instances:
        instance.path.unlink(missing_ok=True)
    with pytest.raises(Refusal, match="none of which is here"):
        readers.read(tmp_path / "a.rtstruct.dcm")


def changed(path: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def test_contours_of_other_makers(tmp_path: Path) -> None:
    """Without a slice's name, with points and open lines among them, with regions that have no name or no contour."""
    prediction = noise(scan(tmp_path))
    written(prediction, tmp_path)

    def foreign(dataset: pydicom.Dataset) -> None:
        for region in dataset.ROIContourSequence:
            for contour in region.ContourSequence:
                del contour.ContourImageSequence
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            contour.ContourGeometricType = "OPEN_PLANAR"
        del dataset.ROIContourSequence[1]
        dataset.StructureSetROISequence[1].ROIName = ""

    back = readers.read(changed(tmp_path / "a.rtstruct.dcm", foreign))
    assert back.source.notes["segments"][2] == "ROI 2"
    np.testing.assert_array_equal(back.array, np.where(prediction.target.array > 2, prediction.target.array, 0))


def few_points(dataset: pydicom.Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = [1, 2, 3]


def no_numbers(dataset: pydicom.Dataset) -> None:
    del dataset.StructureSetROISequence


@pytest.mark.parametrize("change", [few_points, no_numbers])
def test_damaged_structure_sets_are_refused(tmp_path: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    written(noise(scan(tmp_path)), tmp_path)
    with pytest.raises(Refusal, match=r"a readable DICOM structure set"):
        readers.read(changed(tmp_path / "a.rtstruct.dcm", change))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9, 0.97])
def test_structure_sets_that_were_cut_are_refused(tmp_path: Path, share: float) -> None:
    written(noise(scan(tmp_path)), tmp_path)
    content = (tmp_path / "a.rtstruct.dcm").read_bytes()
    (tmp_path / "a.rtstruct.dcm").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(Refusal, match=r"a\.rtstruct\.dcm"):
        readers.read(tmp_path / "a.rtstruct.dcm")


@pytest.mark.parametrize("marks", [pytest.param(None, marks=reference.needed)])
def test_real_structure_sets(marks: None) -> None:
    """Read, or refused with the reason: of most, the scan is not there."""
    folder = reference.ROOT / "dicom"
    found = readers.read(folder / "rt_utils" / "mock_data" / "rt.dcm")
    assert found.source.notes["segments"] == {1: "ROI-1"}
    pixel_mm2 = found.spacing_mm[0] * found.spacing_mm[1]
    edges_mm = 4 * (24 + 15)  # of a square with a hole, written as two contours
    area_mm2 = np.count_nonzero(found.array) * pixel_mm2
    assert area_mm2 == pytest.approx(24 * 24 - 15 * 15, abs=edges_mm * found.spacing_mm[0] / 2)
    for name, reason in {
        "rt_utils/mock_data/non_existent_reference_rt.dcm": "5 mm away from its slice",  # of three, two are there
        "rt_utils/mock_data/invalid_reference_rt.dcm": "5 mm away from its slice",
        "lctsc_rtstruct/RT.dcm": "mm away from its slice",
        "pydicom/rtstruct.dcm": "no DICOM signature",
    }.items():
        with pytest.raises(Refusal, match=reason):
            readers.read(folder / name)


def test_names_that_dicom_could_not_hold_are_made_to_fit(tmp_path: Path) -> None:
    found = written(noise(scan(tmp_path)), tmp_path)
    assert found.StructureSetROISequence[4].ROIName == "Größe/ of ours"
    assert readers.read(tmp_path / "a.rtstruct.dcm").source.notes["segments"][5] == "Größe/ of ours"
