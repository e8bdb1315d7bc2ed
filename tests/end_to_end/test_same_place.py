"""One scan in several axis orders and formats gets one result, in the same place of the patient."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medseg
from medseg.geometry import LPS_FROM_RAS
from tests import dicom_series as ds
from tests import reference, tiny

SAMPLE = tiny.ROOT / "sample_data" / "ct_dicom"
ORDERS = ("AIL", "ASR", "IPL", "LAS", "LIA", "LPS", "PSR", "RAS", "RPI", "RSA", "SAL", "SPR")


def canonical(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine in RAS order, by nibabel."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asanyarray(image.dataobj), image.affine


def assert_one_result(files: list[Path], run: Path, out: Path) -> None:
    said = tiny.medseg_command("predict", run, *files, out, "--threads", 1)
    assert said.code == 0, said.err
    written = [out / file.name if file.is_file() else out / f"{file.name}.nii.gz" for file in files]
    results = [canonical(file) for file in written]
    voxels, affine = results[0]
    assert len(np.unique(voxels)) == 3  # with one class everywhere nothing would be compared
    for file, result, (array, place) in zip(files, written, results, strict=True):
        assert nib.load(result).shape == (nib.load(file) if file.is_file() else medseg.read(file)).shape
        assert np.array_equal(array, voxels), file.name
        np.testing.assert_allclose(place, affine, atol=1e-4)


def test_twelve_axis_orders(untrained, tmp_path):
    image, _ = tiny.phantom(11, (21, 17, 25))
    affine = np.array([[1.4, 0.1, 0, -10], [-0.1, 1.6, 0.2, 4], [0, -0.2, 2.3, 77], [0, 0, 0, 1]])
    stored = nib.Nifti1Image(image, affine)
    files = []
    for order in ORDERS:
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(order)))
        files.append(tmp_path / f"{order}.nii.gz")
        nib.save(stored.as_reoriented(turn), files[-1])
        assert "".join(nib.aff2axcodes(nib.load(files[-1]).affine)) == order
    assert_one_result(files, untrained, tmp_path / "out")


@pytest.mark.parametrize("orientation", ["LPS", "SAR"])
def test_whatever_order_the_network_sees(tmp_path, orientation):
    image, _ = tiny.phantom(12)
    run = tiny.untrained_run(tmp_path / "run", spacing=(2, 2, 2))
    run.write("plan.json", {**run.read("plan.json"), "orientation": orientation})
    files = []
    for flips in itertools.product((1, -1), repeat=3):
        turn = np.array([[axis, flip] for axis, flip in enumerate(flips)])
        files.append(tmp_path / f"{'_'.join(map(str, flips))}.nii.gz")
        nib.save(nib.Nifti1Image(image, tiny.AFFINE).as_reoriented(turn), files[-1])
    assert_one_result(files, run.folder, tmp_path / "out")


@pytest.mark.reference_data
@pytest.mark.skipif(not reference.ROOT.is_dir(), reason="MEDSEG_REFERENCE_DATA names no folder of reference scans")
def test_a_real_scan_in_twelve_axis_orders(tmp_path):
    files = reference.files("nifti/orientations", (".gz",))
    assert sorted(file.name[:3] for file in files) == list(ORDERS)
    run = tiny.untrained_run(tmp_path / "run", spacing=(4, 4, 4))
    assert_one_result(files, run.folder, tmp_path / "out")


@pytest.fixture(scope="module")
def dicom(untrained, tmp_path_factory) -> Path:
    """Labels of the sample DICOM series as NIfTI and as DICOM SEG, and those of the same scan in NIfTI."""
    out = tmp_path_factory.mktemp("dicom")
    formats = ("--output", "nifti", "--output", "dicom_seg", "--threads", 1)
    for words in ([SAMPLE / "p08_a", out, *formats], [SAMPLE / "p08_a_image.nii.gz", out, "--threads", 1]):
        said = tiny.medseg_command("predict", untrained, *words, "--set", "overlap=0")
        assert said.code == 0, said.err
    return out


def test_a_dicom_series_gets_the_labels_of_the_same_scan_in_nifti(dicom):
    series, copy = canonical(dicom / "p08_a.nii.gz"), canonical(dicom / "p08_a_image.nii.gz")
    assert len(np.unique(series[0])) == 3 and np.array_equal(series[0], copy[0])
    np.testing.assert_allclose(series[1], copy[1], atol=1e-4)


def test_the_dicom_seg_holds_the_same_labels(dicom):
    """Read by highdicom: each of its voxels is looked up in the NIfTI file by its place in the patient."""
    import highdicom as hd

    written = hd.seg.segread(dicom / "p08_a.seg.dcm")
    assert [part.segment_label for part in written.SegmentSequence] == ["left", "right"]
    found = written.get_volume(combine_segments=True)
    nifti = nib.load(dicom / "p08_a.nii.gz")
    index = np.stack(np.meshgrid(*(np.arange(size) for size in found.array.shape), [1], indexing="ij"))
    to_nifti = np.linalg.inv(nifti.affine) @ LPS_FROM_RAS @ found.affine
    place = np.tensordot(to_nifti, index[..., 0], axes=1)[:3]
    whole = np.rint(place).astype(int)
    assert np.abs(place - whole).max() < 0.01
    expected = np.asarray(nifti.dataobj)
    assert np.array_equal(found.array, expected[tuple(whole)])
    assert np.count_nonzero(found.array) == np.count_nonzero(expected)  # no slice with labels was left out


def test_medseg_reads_its_own_dicom_seg(dicom):
    found = medseg.read(dicom / "p08_a.seg.dcm")
    assert found.source.reader == "dicom_seg"
    assert np.count_nonzero(found.array) == np.count_nonzero(np.asarray(nib.load(dicom / "p08_a.nii.gz").dataobj))


def balls(points: np.ndarray) -> np.ndarray:
    """Two of them, in HU, with a texture."""
    inside = [np.linalg.norm(points - centre, axis=-1) < 7 for centre in ((-21, -30, 70), (-24, -24, 90))]
    return 300 * inside[0] - 200 * inside[1] + 30 * np.sin(points.sum(axis=-1))


@pytest.mark.parametrize(
    "places", [ds.places(16, tilt=15), np.delete(ds.places(16), [4, 9], axis=0)], ids=["leaning", "missing"]
)
def test_an_uneven_series_gets_labels_where_it_lies(untrained, tmp_path, places):
    """Those of its repaired copy in NIfTI; and the copy itself, read by nibabel, lies where the pixels say."""
    size = {"rows": 24, "columns": 30}
    series = ds.series(tmp_path / "series", places, values=balls, **size)
    placed = ds.series(tmp_path / "placed", places, **size)
    for folder in (series, placed):
        assert tiny.medseg_command("convert", folder, tmp_path / f"{folder.name}_copy.nii.gz").code == 0
    copy = nib.load(tmp_path / "placed_copy.nii.gz")
    voxels = np.asarray(copy.dataobj)
    i, j, k = np.nonzero(voxels > -1024)
    off = (copy.affine @ [i, j, k, np.ones_like(i)])[2] - voxels[i, j, k] / ds.Z_PER_MM
    assert np.abs(off).max() <= 0.03  # whole numbers of a twentieth of a millimetre
    assert_one_result([series, tmp_path / "series_copy.nii.gz"], untrained, tmp_path / "out")


def test_a_model_of_one_channel_is_told_which_phases_there_are(untrained, tmp_path):
    size = {"rows": 24, "columns": 30}
    ds.write(
        tmp_path / "study",
        [ds.slice_(place, AcquisitionNumber=n, values=balls, **size) for n in (1, 2) for place in ds.places(8)],
    )
    said = tiny.medseg_command("predict", untrained, tmp_path / "study", tmp_path / "out", "--threads", 1)
    assert said.code == 1 and "2 channels (acquisition 1; acquisition 2)" in said.err and "--series /1" in said.err
    chosen = tiny.medseg_command(
        "predict", untrained, tmp_path / "study", tmp_path / "out", "--threads", 1, "--series", "/2"
    )
    assert chosen.code == 0, chosen.err
    assert canonical(tmp_path / "out" / "study.nii.gz")[0].shape == (30, 24, 8)
