"""The DICOM reader on series whose voxels store their own patient z: it is right to 0.01 mm, or it refuses in mm."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import pytest
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from medseg import readers
from medseg.dicom.settings import DicomSettings
from medseg.geometry import LPS_FROM_RAS
from medseg.readers import dicom
from medseg.refusal import Refusal
from tests import dicom_series as ds

SAGITTAL = (0, 1, 0, 0, 0, -1)
OBLIQUE = (np.cos(np.pi / 6), 0.5, 0, 0, 0, -1)
DOUBLY_OBLIQUE = (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997)
UPSIDE_DOWN = (1, 0, 0, 0, -1, 0)
TURNED = (-1, 0, 0, 0, 1, 0)


@pytest.mark.parametrize(
    "orientation", [ds.AXIAL, SAGITTAL, OBLIQUE, DOUBLY_OBLIQUE, UPSIDE_DOWN, TURNED], ids=lambda o: str(np.round(o, 1))
)
def test_every_voxel_lies_where_its_own_header_puts_it(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    volume = readers.read(ds.series(tmp_path, ds.places(orientation=orientation), orientation=orientation))
    assert volume.array.shape == (1, 10, 12, 20)
    assert volume.array.dtype == np.int16
    assert ds.z_error_mm(volume.array, volume.affine) <= 0.01
    np.testing.assert_allclose(volume.spacing_mm, [0.6, 0.8, 3.0], atol=1e-6)
    # all three coordinates of a corner, from the header of the slice that the volume says it came from
    header = pydicom.dcmread(volume.source.instances[4].path)
    row, column = np.array(header.ImageOrientationPatient[:3]), np.array(header.ImageOrientationPatient[3:])
    corner = np.array(header.ImagePositionPatient) + row * 9 * 0.6 + column * 11 * 0.8
    np.testing.assert_allclose((LPS_FROM_RAS @ volume.affine @ [9, 11, 4, 1])[:3], corner, atol=1e-4)
    stored = header.pixel_array.astype(int) - 1024
    np.testing.assert_array_equal(volume.array[0, :, :, 4].T, stored)


def test_instance_numbers_are_never_trusted(tmp_path: Path) -> None:
    positions = ds.places()
    expected = readers.read(ds.series(tmp_path / "clean", positions))
    shuffled = np.random.default_rng(0).permutation(20)
    for name, numbers in (("reversed", range(20, 0, -1)), ("shuffled", shuffled + 1), ("absent", [None] * 20)):
        slices = [ds.slice_(positions[index], number=numbers[index] and int(numbers[index])) for index in shuffled]  # type: ignore[index]
        volume = readers.read(ds.write(tmp_path / name, slices))
        np.testing.assert_array_equal(volume.array, expected.array)
        np.testing.assert_array_equal(volume.affine, expected.affine)


def irregular(folder: Path) -> dict[str, tuple[Path, str]]:
    """Series that no affine fits, and what the refusal must say."""
    places = ds.places()
    thick = np.concatenate([places[:10], places[9] + np.arange(1, 11)[:, None] * [0, 0, 5.0]])
    localiser = [ds.slice_(place) for place in places] + [
        ds.slice_((0, 0, 0), orientation=SAGITTAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    ]
    jitter = places + np.where(np.arange(20) == 7, 0.3, 0)[:, None] * [0, 0, 1]
    sideways = places + np.where(np.arange(20) == 7, 0.3, 0)[:, None] * [1, 0, 0]
    return {
        "one missing": (ds.series(folder / "a", np.delete(places, 8, axis=0)), "1 missing slice of 3 mm.*1.67 mm"),
        "3 to 5 mm": (ds.series(folder / "c", thick), "3 to 5 mm apart.*9.47 mm"),
        "two phases": (ds.series(folder / "d", np.concatenate([places, places])), "2 volumes in one series"),
        "tilt": (ds.series(folder / "e", ds.places(tilt=15)), r"leans by 15.00 degrees.*15.27 mm"),
        "localiser": (ds.write(folder / "f", localiser), "1 image left out: localiser .IM0020"),
        "jitter": (ds.series(folder / "g", jitter), "2.7 to 3.3 mm apart.*0.30 mm"),
        "sideways": (ds.series(folder / "h", sideways), "misplace voxels by up to 0.30 mm"),
    }


def test_what_no_affine_fits_is_refused_in_mm_or_repaired_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, (folder, text) in irregular(tmp_path).items():
        with pytest.raises(Refusal, match=text) as refused:
            dicom.read(folder, dicom.Options(repair="refuse"))
        assert "repair=fix" in refused.value.remedy and "would" not in refused.value.remedy
        with pytest.raises(Refusal, match=text) as reported:
            dicom.read(folder, dicom.Options(repair="report"))
        assert "repair=fix (it would do this: " in reported.value.remedy, name
        assert not caplog.text
        volume = readers.read(folder)
        assert re.search(text, volume.source.notes["preflight"])
        assert f"{folder}: {volume.source.notes['preflight']}" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("policy", ["refuse", "report", "fix"])
def test_a_wide_gap_is_filled_only_by_choice(tmp_path: Path, policy: Literal["refuse", "report", "fix"]) -> None:
    folder = ds.series(tmp_path, np.delete(ds.places(), range(8, 13), axis=0))
    with pytest.raises(Refusal, match=r"5 missing slices.*18 mm.*gap_mm=18"):
        dicom.read(folder, dicom.Options(repair=policy))
    assert dicom.read(folder, dicom.Options(gap_mm=18)).shape == (10, 12, 20)


def test_an_even_series_is_good_and_its_slices_are_its_planes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = readers.read(ds.series(tmp_path, ds.places())).source
    assert source.notes["preflight"] == "good" and source.slices is None and not caplog.text


def test_a_repaired_series_remembers_its_slices(tmp_path: Path) -> None:
    places = np.delete(ds.places(6, tilt=15), 2, axis=0)
    volume = readers.read(ds.series(tmp_path, places[::-1]))
    slices, instances = volume.source.slices, volume.source.instances
    assert slices is not None and slices.size == (10, 12) and volume.array.shape[3] == 6
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-0.6, -0.8, 3]), atol=1e-9)
    assert [instance.path.name for instance in instances] == [f"IM{n:04d}.dcm" for n in (4, 3, 2, 1, 0)]
    for instance, affine in zip(instances, slices.affines, strict=True):
        header = pydicom.dcmread(instance.path)
        np.testing.assert_allclose((LPS_FROM_RAS @ affine)[:3, 3], header.ImagePositionPatient)
        np.testing.assert_allclose(affine[:3, :2], np.diag([-0.6, -0.8, 1])[:, :2], atol=1e-9)


def test_headers_that_ask_for_an_absurd_grid_are_refused(tmp_path: Path) -> None:
    places = ds.places(5)
    places[3, 0] += 20_000
    with pytest.raises(Refusal, match="times as many as were scanned"):
        readers.read(ds.series(tmp_path, places))


def phases(folder: Path, second: np.ndarray) -> Path:
    """Series 7, with a second acquisition that shows 100 HU more."""
    ds.write(folder / "one", [ds.slice_(place, AcquisitionNumber=1) for place in ds.places(5)])
    brighter = [
        ds.slice_(place, AcquisitionNumber=2, values=lambda points: points[..., 2] * ds.Z_PER_MM + 100)
        for place in second
    ]
    ds.write(folder / "two", brighter)
    return folder


def test_volumes_at_the_same_places_are_channels(tmp_path: Path) -> None:
    volume = readers.read(phases(tmp_path, ds.places(5)[::-1]))
    assert volume.channels == ("acquisition 1", "acquisition 2")
    np.testing.assert_array_equal(volume.array[1], volume.array[0] + 100)
    assert ds.z_error_mm(volume.array[:1], volume.affine) <= 0.01
    assert [instance.path.parent.name for instance in volume.source.instances] == ["one"] * 5
    assert "read as 2 channels" in volume.source.notes["preflight"]


def test_uneven_volumes_are_repaired_alike(tmp_path: Path) -> None:
    leaning = ds.places(5, tilt=15)
    slices = [
        ds.slice_(place, AcquisitionNumber=n, values=lambda points, n=n: 100.0 * n + 0 * points[..., 0])
        for n in (1, 2)
        for place in leaning
    ]
    volume = readers.read(ds.write(tmp_path, slices))
    assert [sorted(np.unique(channel)) for channel in volume.array] == [[-1024, 100], [-1024, 200]]
    assert volume.source.slices is not None and len(volume.source.slices.affines) == 5


@pytest.mark.parametrize("choice", ["7/2", "thorax/2", "/2", "7/acquisition 2"])
def test_one_of_several_volumes_can_be_chosen(tmp_path: Path, choice: str) -> None:
    folder = phases(tmp_path, ds.places(4))
    with pytest.raises(
        Refusal, match=r"2 volumes at different places.*1: acquisition 1 \(5 slices\); 2:.*--series 7/1"
    ):
        readers.read(folder)
    volume = readers.read(folder, series=choice)
    assert volume.shape == (10, 12, 4) and volume.channels == ()
    assert "acquisition 2 alone is read" in volume.source.notes["preflight"]
    assert volume.source.instances[0].path.parent.name == "two"


def test_a_volume_that_was_chosen_needs_no_repair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """To take a series apart is a repair, unless one of its volumes was asked for."""
    folder = phases(tmp_path, ds.places(4))
    with pytest.raises(Refusal, match="2 volumes in one series"):
        dicom.read(folder, dicom.Options(repair="refuse"))
    volume = dicom.read(folder, dicom.Options(repair="refuse", series="7/2"))
    assert volume.shape == (10, 12, 4)
    assert all(record.levelno < logging.WARNING for record in caplog.records)
    assert re.match("good; 2 volumes in one series.*acquisition 2 alone is read", volume.source.notes["preflight"])


def test_descriptions_have_slashes_too(tmp_path: Path) -> None:
    for number, description in enumerate(("T1 w/o contrast", "T2 w/ fs", "7/2"), start=7):
        series = {"series": f"1.2.{number}", "SeriesNumber": number, "SeriesDescription": description}
        ds.series(tmp_path / str(number), ds.places(number), **series)
    for choice, count in (
        *(("w/o contrast", 7), ("T1 W/O contrast", 7), ("w/ fs", 8), ("7/1", 7), ("1.2.8/1", 8), ("t2 w/ fs/1", 8)),
        ("contrast/1", 7),
    ):
        assert readers.read(tmp_path, series=choice).shape == (10, 12, count)
    with pytest.raises(Refusal, match="'2' fits 0 of 1 volumes of series 7"):
        readers.read(tmp_path, series="7/2")  # a number comes first


@pytest.mark.parametrize("policy", ["refuse", "report"])
def test_a_volume_that_was_named_needs_no_repair(tmp_path: Path, policy: Literal["refuse", "report"]) -> None:
    folder = phases(tmp_path, ds.places(5))
    with pytest.raises(Refusal, match="2 volumes in one series"):
        readers.read(folder, dicom=DicomSettings(repair=policy))
    alone = readers.read(folder, series="7/2", dicom=DicomSettings(repair=policy))
    np.testing.assert_array_equal(alone.array, readers.read(folder).array[1:])
    leaning = phases(tmp_path / "leaning", ds.places(5, tilt=15))
    with pytest.raises(Refusal, match="found a stack that leans by 15"):
        readers.read(leaning, series="7/2", dicom=DicomSettings(repair=policy))


@pytest.mark.parametrize(
    ("choice", "count"), [("Abd/Pel", 6), ("abd/pelvis 3.0", 6), ("T1/2", 4), ("T1/2 map/1", 4), ("7/1", 6)]
)
def test_a_slash_may_be_part_of_the_description(tmp_path: Path, choice: str, count: int) -> None:
    ds.series(tmp_path / "a", ds.places(6), series="1.2.8", SeriesDescription="Abd/Pelvis 3.0")
    ds.series(tmp_path / "b", ds.places(4), series="1.2.9", SeriesNumber=8, SeriesDescription="T1/2 map")
    assert readers.read(tmp_path, series=choice).shape == (10, 12, count)


def test_a_choice_that_fits_no_volume_lists_them(tmp_path: Path) -> None:
    folder = phases(tmp_path, ds.places(5))
    for choice, count in (("7/3", 0), ("7/acquisition", 2)):
        with pytest.raises(Refusal, match=rf"fits {count} of 2 volumes.*2: acquisition 2 \(5 slices\)"):
            readers.read(folder, series=choice)


def test_tolerance_is_the_users(tmp_path: Path) -> None:
    places = ds.places() + np.where(np.arange(20) == 7, 0.05, 0)[:, None] * [0, 0, 1]
    folder = ds.series(tmp_path, places)
    with pytest.raises(Refusal, match=r"up to 0\.05 mm"):
        dicom.read(folder, dicom.Options(repair="refuse"))
    volume = dicom.read(folder, dicom.Options(repair="refuse", tolerance_mm=0.1))
    assert volume.source.notes["off_grid_mm"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": 14}, "different sizes"),
        ({"spacing": (0.9, 0.6)}, "pixel spacings from 0.6 to 0.9 mm"),
        ({"FrameOfReferenceUID": "1.2.9"}, "2 frames of reference"),
        ({"PatientID": "P2"}, "2 patients"),
        ({"orientation": (1, 0, 0, 0, 0.9, 0)}, "not perpendicular unit vectors"),
        ({"spacing": (0.0, 0.6)}, "pixel spacing of 0.0 mm"),
        ({"SamplesPerPixel": 3}, "colour pixels"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
    ],
)
def test_a_slice_that_differs_is_refused(tmp_path: Path, change: dict, text: str) -> None:
    slices = [ds.slice_(place) for place in ds.places(4)]
    slices.append(ds.slice_(ds.places(5)[4], **change))
    with pytest.raises(Refusal, match=text):
        readers.read(ds.write(tmp_path, slices))


def test_two_series_are_listed_and_one_can_be_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ds.series(tmp_path / "one", ds.places(5))
    ds.series(tmp_path / "two", ds.places(6), series="1.2.99", SeriesNumber=12, SeriesDescription="Abdomen 3.0 B30f")
    with pytest.raises(Refusal, match=r"2 series: series 7 'thorax' \(CT, 5 slices, 1.2.3.4\); series 12 'Abdomen"):
        readers.read(tmp_path)
    with caplog.at_level(logging.INFO):
        for choice in ("1.2.99", "12", "abdomen"):
            assert readers.read(tmp_path, series=choice).shape == (10, 12, 6)
    assert "chosen by 'abdomen'" in caplog.text
    with pytest.raises(Refusal, match="fits 0 of 2 series"):
        readers.read(tmp_path, series="pelvis")
    with pytest.raises(Refusal, match="fits 2 of 2 series"):
        readers.read(tmp_path, series="o")


def test_other_objects_and_files_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    ds.series(tmp_path, ds.places(5))
    structures = ds.slice_((0, 0, 0), series="1.9", SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(structures, name)
    segmentation = ds.slice_((0, 0, 0), series="1.8", SOPClassUID=SegmentationStorage, Modality="SEG")
    screenshot = ds.slice_((0, 0, 0), series="1.7", Modality="OT")
    del screenshot.ImagePositionPatient
    ds.write(tmp_path / "more", [structures, segmentation, screenshot])
    (tmp_path / "README.txt").write_text("not DICOM")
    assert readers.read(tmp_path).shape == (10, 12, 5)


def test_a_file_stands_for_its_series(tmp_path: Path) -> None:
    ds.series(tmp_path, ds.places(5))
    ds.write(tmp_path, [ds.slice_((0, 0, 0), series="1.2.99")], prefix="other")
    assert readers.read(tmp_path / "IM0003.dcm").shape == (10, 12, 5)
    assert readers.read(tmp_path / "other0000.dcm").shape == (10, 12, 1)


def test_single_slice_takes_its_extent_from_the_thickness(tmp_path: Path) -> None:
    volume = readers.read(ds.series(tmp_path / "a", ds.places(1)))
    np.testing.assert_allclose(volume.spacing_mm, [0.6, 0.8, 3.0])
    with pytest.raises(Refusal, match="without SliceThickness"):
        readers.read(ds.series(tmp_path / "b", ds.places(1), SliceThickness=None))


def test_values_are_rescaled_slice_by_slice(tmp_path: Path) -> None:
    positions = ds.places(3)
    slices = [ds.slice_(place, RescaleSlope=0.5 * (n + 1), RescaleIntercept=n) for n, place in enumerate(positions)]
    volume = readers.read(ds.write(tmp_path, slices))
    assert volume.array.dtype == np.float32
    for k, dataset in enumerate(slices):
        expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        np.testing.assert_allclose(volume.array[0, :, :, k].T, expected)


def test_unsigned_16_bit_values_keep_their_range(tmp_path: Path) -> None:
    pixels = np.full((12, 10), 65535, np.uint16).tobytes()
    folder = ds.series(tmp_path, ds.places(2), PixelRepresentation=0, PixelData=pixels, RescaleIntercept=0)
    volume = readers.read(folder)
    assert volume.array.dtype == np.int32
    assert (volume.array == 65535).all()


def test_source_tells_what_outputs_need(tmp_path: Path) -> None:
    source = readers.read(ds.series(tmp_path, ds.places(3)[::-1])).source
    assert (source.reader, source.modality, source.patient_id) == ("dicom", "CT", "P1")
    assert [instance.path.name for instance in source.instances] == ["IM0002.dcm", "IM0001.dcm", "IM0000.dcm"]
    assert source.notes["frame_of_reference_uid"] == ds.FRAME_OF_REFERENCE
    assert source.notes["photometric"] == "MONOCHROME2"


def test_enhanced_multi_frame_equals_the_single_frames(tmp_path: Path) -> None:
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    places = ds.places(6, orientation=OBLIQUE)
    slices = [ds.slice_(place, orientation=OBLIQUE, number=n) for n, place in enumerate(places, start=1)]
    for dataset in slices:
        for name in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"):
            setattr(dataset, name, "")
        dataset.StudyTime, dataset.Manufacturer, dataset.AcquisitionNumber = "", "", 1
        dataset.PatientPosition = "HFS"
    single = readers.read(ds.write(tmp_path / "single", slices))
    enhanced = LegacyConvertedEnhancedCTImage(slices[::-1], "1.2.77", 3, "1.2.78", 1)
    enhanced.save_as(tmp_path / "enhanced.dcm")
    volume = readers.read(tmp_path / "enhanced.dcm")
    np.testing.assert_array_equal(volume.array, single.array)
    np.testing.assert_allclose(volume.affine, single.affine, atol=1e-6)
    frames = [instance.frame for instance in volume.source.instances]
    assert sorted(frame or 0 for frame in frames) == [1, 2, 3, 4, 5, 6]


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    folder = ds.series(tmp_path, ds.places(5))
    damaged = folder / "IM0002.dcm"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-50])
    with pytest.raises(Refusal, match="IM0002"):
        readers.read(folder)
    damaged.write_bytes(b"")
    with pytest.raises(Refusal, match=r"IM0002.*0 bytes"):
        readers.read(folder)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="nothing there"):
        readers.read(tmp_path / "absent")
    with pytest.raises(Refusal, match="empty folder"):
        readers.read(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Refusal, match="1 files, none of them DICOM"):
        readers.read(tmp_path)
    with pytest.raises(Refusal, match="no reader knows"):
        readers.read(tmp_path / "notes.txt")
