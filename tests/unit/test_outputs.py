"""What single outputs promise beyond the contract: bytes, header codes, DICOM attributes."""

from __future__ import annotations

import gzip
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medseg import readers
from medseg.engine.convert import convert
from medseg.labels import LabelTable
from medseg.nifti import image_of
from medseg.outputs import dicom_seg, nifti, nrrd
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import dicom_series as ds
from tests.contracts.test_outputs import LABELS, REGIONS, points, prediction, scan


def test_nifti_affine_and_bytes(tmp_path: Path) -> None:
    affine = np.array([[0.4, 0.42, 0, -12.3], [-0.3, 0.56, 0, 4.5], [0, 0, 2.5, 7.8], [0, 0, 0, 1]], np.float32)
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine), tmp_path / "scan.nii.gz")
    volume = readers.read(tmp_path / "scan.nii.gz")
    made = Prediction("c", LABELS, volume.with_array(np.ones((1, 4, 5, 6), np.uint8)))
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write(made, tmp_path / name, nifti.Options())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.affine.tobytes() == volume.affine.tobytes()
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.get_data_dtype() == np.uint8
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("table", [LABELS, REGIONS, LabelTable.of({"a": 7, "b": 300, "c": 2})])
def test_slabs_make_the_file_that_nibabel_makes_of_the_whole(
    table: LabelTable, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.prediction.SLAB", 100)  # two planes of 6 x 7
    target = np.random.default_rng(0).integers(0, 4 if table.exclusive else 2, (1 if table.exclusive else 3, 6, 7, 9))
    affine = np.array([[0, 0, 2.0, 10], [-0.5, 0, 0, 20], [0, 1.5, 0, 30], [0, 0, 0, 1]])
    made = Prediction("c", table, Volume(np.asarray(target, np.uint8, order=order), affine))
    painted = made.painted()
    np.testing.assert_array_equal(np.concatenate(list(made.slabs()), axis=2), painted.array[0])
    nifti.write(made, tmp_path / "a.nii.gz", nifti.Options())
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes()) == image_of(painted, tmp_path / "a.nii.gz").to_bytes()


def test_a_sheared_nifti_says_nothing_in_the_qform(tmp_path: Path) -> None:
    """ITK would believe it, and put the labels elsewhere; without it, it refuses the file."""
    affine = np.array([[1, 0.3, 0, -12], [0, 1, 0.2, 4], [0, 0, 2, 7], [0, 0, 0, 1]])
    made = Prediction("c", LABELS, Volume(np.ones((1, 40, 50, 60), np.uint8), affine))
    nifti.write(made, tmp_path / "a.nii.gz", nifti.Options())
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(readers.read(tmp_path / "a.nii.gz").affine, affine, atol=1e-6)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(tmp_path / "a.nii.gz"))


def test_nifti_has_no_axis_beyond_32767(tmp_path: Path) -> None:
    wide = Volume(np.ones((1, 32768, 1, 1), np.uint8), np.eye(4))
    with pytest.raises(Refusal, match="axes of at most 32767 voxels"):
        convert(wide, tmp_path / "a.nii")
    assert not list(tmp_path.iterdir())


def test_label_numbers_above_255_need_16_bits(tmp_path: Path) -> None:
    volume = Volume(np.ones((1, 2, 3, 4), np.uint8), np.eye(4))
    for output, path in ((nifti, tmp_path / "a.nii.gz"), (nrrd, tmp_path / "a.nrrd")):
        output.write(Prediction("c", LabelTable.of({"x": 1000}), volume), path, output.Options())
        assert readers.read(path).array.dtype == np.uint16
        assert (readers.read(path).array == 1000).all()


def test_nrrd_lies_where_itk_expects_it(tmp_path: Path) -> None:
    expected = prediction(scan(tmp_path), LABELS)
    nrrd.write(expected, tmp_path / "a.nrrd", nrrd.Options())
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    x, y, z = image.TransformIndexToPhysicalPoint((2, 3, 4))
    np.testing.assert_allclose((expected.target.affine @ [2, 3, 4, 1])[:3], [-x, -y, z], atol=1e-6)


def test_dicom_seg_attributes(tmp_path: Path) -> None:
    expected = prediction(scan(tmp_path), LABELS)
    dicom_seg.write(expected, tmp_path / "seg.dcm", dicom_seg.Options(series_number=77))
    dataset = hd.seg.segread(tmp_path / "seg.dcm")
    assert (dataset.Modality, dataset.PatientID, dataset.SeriesNumber) == ("SEG", "P1", 77)
    assert (dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) == (ds.STUDY, ds.FRAME_OF_REFERENCE)
    assert dataset.SegmentationType == "BINARY"
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == ["liver", "spleen"]  # the third has no voxels
    liver = dataset.SegmentSequence[0]
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "unit test"
    assert len(liver.RecommendedDisplayCIELabValue) == 3
    referenced = {
        item.ReferencedSOPInstanceUID for item in dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced == {instance.sop_instance_uid for instance in expected.target.source.instances}
    # each frame names the slice it lies on
    for group in dataset.PerFrameFunctionalGroupsSequence:
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = group.PlanePositionSequence[0].ImagePositionPatient
        path = next(i.path for i in expected.target.source.instances if i.sop_instance_uid == uid)
        np.testing.assert_allclose(position, pydicom.dcmread(path).ImagePositionPatient, atol=1e-4)


def test_side_is_a_modifier(tmp_path: Path) -> None:
    volume = scan(tmp_path)
    made = Prediction("c", LabelTable.of({"kidney_left": 1}), volume.with_array(np.ones((1, *volume.shape), np.uint8)))
    dicom_seg.write(made, tmp_path / "seg.dcm", dicom_seg.Options())
    kind = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"


def test_overlapping_regions(tmp_path: Path) -> None:
    expected = prediction(scan(tmp_path), REGIONS)
    dicom_seg.write(expected, tmp_path / "seg.dcm", dicom_seg.Options())
    back = readers.read(tmp_path / "seg.dcm")
    assert back.channels == ("WT", "TC")
    for position in range(2):
        wanted = points(expected.mask(position), expected.target.affine)
        np.testing.assert_allclose(points(back.array[position] > 0, back.affine), wanted, atol=1e-4)


@pytest.mark.parametrize("orientation", [ds.AXIAL, (1, 0, 0, 0, -1, 0), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, 0, -1)])
def test_highdicom_itself_finds_the_voxels_where_they_were(tmp_path: Path, orientation: tuple[int, ...]) -> None:
    volume = readers.read(
        ds.series(tmp_path / "s", ds.places(6, orientation=orientation)[::-1], orientation=orientation)
    )
    expected = prediction(volume, LABELS)
    dicom_seg.write(expected, tmp_path / "seg.dcm", dicom_seg.Options())
    found = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    to_ras = np.diag([-1, -1, 1, 1]) @ found.affine
    for number, position in ((1, 0), (2, 1)):
        wanted = points(expected.mask(position), volume.affine)
        np.testing.assert_allclose(points(found.array == number, to_ras), wanted, atol=1e-4)


def test_a_wrong_spacing_tag_in_the_source_is_not_copied(tmp_path: Path) -> None:
    volume = readers.read(ds.series(tmp_path / "s", ds.places(6), SpacingBetweenSlices=1.0))
    target = np.zeros((1, *volume.shape), np.uint8)
    target[0, 2:4, 2:4, [1, 4]] = 1
    dicom_seg.write(Prediction("c", LABELS, volume.with_array(target)), tmp_path / "seg.dcm", dicom_seg.Options())
    for affine in (readers.read(tmp_path / "seg.dcm").affine, hd.seg.segread(tmp_path / "seg.dcm").get_volume().affine):
        assert sorted(np.linalg.norm(affine[:3, :3], axis=0)) == pytest.approx([0.6, 0.8, 3.0])


def test_enhanced_source_with_frames_in_another_order(tmp_path: Path) -> None:
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    slices = [ds.slice_(place, number=n) for n, place in enumerate(ds.places(6)[[3, 0, 5, 1, 4, 2]], start=1)]
    for dataset in slices:
        for name in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"):
            setattr(dataset, name, "")
        dataset.StudyTime, dataset.Manufacturer, dataset.AcquisitionNumber = "", "", 1
        dataset.PatientPosition = "HFS"
    LegacyConvertedEnhancedCTImage(slices, "1.2.77", 3, "1.2.78", 1).save_as(tmp_path / "enhanced.dcm")
    volume = readers.read(tmp_path / "enhanced.dcm")
    for table in (LABELS, REGIONS):
        expected = prediction(volume, table)
        dicom_seg.write(expected, tmp_path / "seg.dcm", dicom_seg.Options())  # compares by itself
        empty = Prediction("c", table, volume.with_array(np.zeros_like(expected.target.array)))
        dicom_seg.write(empty, tmp_path / "empty.dcm", dicom_seg.Options())


def test_other_sources_are_refused(tmp_path: Path) -> None:
    made = Prediction("c", LABELS, Volume(np.ones((1, 2, 3, 4), np.uint8), np.eye(4)))
    with pytest.raises(Refusal, match="without DICOM instances"):
        dicom_seg.write(made, tmp_path / "seg.dcm", dicom_seg.Options())
    expected = prediction(scan(tmp_path), LABELS)
    expected.target.source.instances[2].path.unlink()
    with pytest.raises(Refusal, match="put the files back"):
        dicom_seg.write(expected, tmp_path / "seg.dcm", dicom_seg.Options())
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))
