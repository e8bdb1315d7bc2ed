"""Every reader keeps the same promises: shape, type, affine, and refusals that name the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medseg import plugins, readers
from medseg.labels import LabelTable
from medseg.outputs import dicom_seg as dicom_seg_output
from medseg.outputs import rtstruct as rtstruct_output
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Volume
from tests import dicom_series as ds


def nifti(folder: Path) -> Path:
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([1, 2, 3, 1])), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def sitk_(folder: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 4, 3), np.int16)), str(folder / "a.nrrd"))
    return folder / "a.nrrd"


def picture(folder: Path) -> Path:
    Image.fromarray(np.zeros((4, 3), np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def dicom(folder: Path) -> Path:
    return ds.series(folder / "series", ds.places(4)) / "IM0000.dcm"


def dicom_seg(folder: Path) -> Path:
    scan = readers.read(dicom(folder).parent)
    target = np.zeros((1, *scan.shape), np.uint8)
    target[0, 2:5, 3:6, 1:3] = 1
    prediction = Prediction("c", LabelTable.of({"liver": 1}), scan.with_array(target))
    dicom_seg_output.write(prediction, folder / "seg.dcm", dicom_seg_output.Options())
    return folder / "seg.dcm"


def rtstruct(folder: Path) -> Path:
    scan = readers.read(dicom(folder).parent)
    target = np.zeros((1, *scan.shape), np.uint8)
    target[0, 2:5, 3:6, 1:3] = 1
    prediction = Prediction("c", LabelTable.of({"liver": 1}), scan.with_array(target))
    rtstruct_output.write(prediction, folder / "structures.dcm", rtstruct_output.Options())
    return folder / "structures.dcm"


EXAMPLES: dict[str, Callable[[Path], Path]] = {
    "nifti": nifti,
    "sitk": sitk_,
    "picture": picture,
    "dicom": dicom,
    "dicom_seg": dicom_seg,
    "rtstruct": rtstruct,
}


def test_the_list_equals_the_folder() -> None:
    assert set(EXAMPLES) == set(plugins.names("readers"))


@pytest.mark.parametrize("name", plugins.names("readers"))
def test_reader(name: str, tmp_path: Path) -> None:
    reader = plugins.find("readers", name)
    assert issubclass(reader.Options, Settings)
    assert plugins.summary("readers", name)
    path = EXAMPLES[name](tmp_path)
    before = path.read_bytes()
    assert [other for other in plugins.names("readers") if plugins.find("readers", other).matches(path)] == [name]

    volume = readers.read(path)
    assert isinstance(volume, Volume)
    assert volume.array.ndim == 4 and volume.array.dtype.kind in "iuf"
    assert volume.affine.shape == (4, 4) and volume.affine.dtype == np.float64
    assert volume.source.reader == name and path.parent in (volume.source.path, *volume.source.path.parents)
    assert path.read_bytes() == before
    np.testing.assert_array_equal(readers.read(path).array, volume.array)

    cut = path.with_name(f"cut-{path.name}")
    cut.write_bytes(before[: len(before) // 2])
    with pytest.raises(Refusal, match=cut.name if name != "dicom" else "cut-"):
        readers.read(cut)
    empty = path.with_name(f"empty-{path.name}")
    empty.write_bytes(b"")
    with pytest.raises(Refusal, match=rf"{empty.name}: found an empty file.* copy or download it again"):
        readers.read(empty)


def test_folders_of_scans_and_of_segmentations_are_told_apart(tmp_path: Path) -> None:
    path = dicom_seg(tmp_path)
    (tmp_path / "only").mkdir()
    path.rename(tmp_path / "only" / "seg.dcm")
    assert readers.read(tmp_path / "only").source.reader == "dicom_seg"
    assert readers.read(tmp_path).source.reader == "dicom"


def test_a_series_is_only_asked_of_dicom(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="series '3'"):
        readers.read(nifti(tmp_path), series="3")


def test_asking_who_reads_a_file_imports_no_library(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from medseg import readers, plugins; readers.find(pathlib.Path(sys.argv[1])); "
        "print([m for m in ('torch', 'monai', 'SimpleITK', 'pydicom', 'nibabel', 'PIL') if m in sys.modules])"
    )
    (tmp_path / "a.nii").write_bytes(b"\0")
    command = [sys.executable, "-c", code, str(tmp_path / "a.nii")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
