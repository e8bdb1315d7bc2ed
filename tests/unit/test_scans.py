"""What may be named as the input of a prediction: files, folders, channels by suffix and by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from medseg import catalogue
from medseg.engine import scans
from medseg.refusal import Refusal
from tests import dicom_series, tiny

VOXELS = np.zeros((2, 2, 2), np.int16)


def files(folder: Path, *names: str) -> Path:
    for name in names:
        tiny.nifti(folder / name, VOXELS)
    return folder


def found(paths: list[Path], channels: tuple[str, ...] = ("CT",), **named: Path) -> dict[str, dict[str, str]]:
    return {
        case.id: {channel: path.name for channel, path in case.images.items()}
        for case in scans.find(paths, channels, named)
    }


def series(folder: Path) -> Path:
    return dicom_series.series(folder, dicom_series.places(3))


def test_names_without_suffix(tmp_path):
    files(tmp_path, "a.b.nii.gz", "c.nii")
    (tmp_path / "v1.5").mkdir()
    assert [scans.stem(tmp_path / name) for name in ("a.b.nii.gz", "c.nii", "v1.5")] == ["a.b", "c", "v1.5"]
    assert scans.stem(Path("x/label.seg.nrrd")) == "label"


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(series(tmp_path / "ct7"))
    assert list(found([Path()])) == ["ct7"]


def test_a_file_and_a_folder_of_files(tmp_path):
    files(tmp_path / "in", "b.nii.gz", "a.nii", ".hidden.nii.gz")
    (tmp_path / "in" / "notes.txt").write_text("x")
    files(tmp_path, "c.nii.gz")
    assert found([tmp_path / "in", tmp_path / "c.nii.gz"]) == {
        "a": {"CT": "a.nii"},
        "b": {"CT": "b.nii.gz"},
        "c": {"CT": "c.nii.gz"},
    }


@pytest.mark.parametrize("upper", [False, True])
def test_a_header_and_its_voxels_are_one_image(tmp_path, upper):
    for suffix in (".hdr", ".img"):
        (tmp_path / f"a{suffix.upper() if upper else suffix}").write_bytes(b"x")
    (tmp_path / "b.img").write_bytes(b"alone, which its reader refuses")
    assert list(found([tmp_path])) == ["a", "b"]


def test_dicom_a_series_or_a_folder_of_them(tmp_path):
    for name in ("p1", "p2"):
        series(tmp_path / name)
    files(tmp_path, "x.nii.gz")
    assert list(found([tmp_path / "p1"])) == ["p1"]
    assert found([tmp_path]) == {"x": {"CT": "x.nii.gz"}, "p1": {"CT": "p1"}, "p2": {"CT": "p2"}}


def studies(paths: list[Path]) -> dict[str, Path]:
    return {case.id: case.images["CT"] for case in scans.find(paths, ("CT",), {}, by_study=True)}


def of_study(folder: Path, study: str) -> Path:
    return dicom_series.series(folder, dicom_series.places(2), StudyInstanceUID=study)


def test_by_study_a_patients_folder_is_a_case_however_deep_its_files_lie(tmp_path):
    for name in ("p1/ct/native", "p1/ct/portal", "p1/pet"):
        of_study(tmp_path / name, "1.1")
    of_study(tmp_path / "p2", "1.2")
    files(tmp_path, "x.nii.gz")
    assert studies([tmp_path]) == {"x": tmp_path / "x.nii.gz", "p1": tmp_path / "p1", "p2": tmp_path / "p2"}
    assert studies([tmp_path / "p1"]) == {"p1": tmp_path / "p1"}  # one study, so the folder itself
    assert list(found([tmp_path / "p1"])) == ["ct", "pet"]  # without rules each subfolder is a series


def test_zips_in_a_folder_are_cases(tmp_path):
    """None of them is passed over, nor keeps the folders beside it from being cases."""
    for number, name in enumerate(("in/p1", "in/p2", "p3", "p4")):
        of_study(tmp_path / name, f"1.{number}")
    shutil.make_archive(str(tmp_path / "in" / "p3"), "zip", tmp_path / "p3")
    (tmp_path / "in" / "run.zip").write_bytes(b"no zip")
    every = {"p1": {"CT": "p1"}, "p2": {"CT": "p2"}, "p3": {"CT": "p3.zip"}}
    assert found([tmp_path / "in"]) == every
    (tmp_path / "in" / "deep").mkdir()
    shutil.make_archive(str(tmp_path / "in" / "deep" / "p4"), "zip", tmp_path / "p4")
    assert set(studies([tmp_path / "in"])) == {*every, "p4"}
    shutil.rmtree(tmp_path / "in" / "p1")
    shutil.rmtree(tmp_path / "in" / "p2")
    assert list(found([tmp_path / "in"])) == ["p3"]


def test_a_dicomdir_is_named_by_its_folder(tmp_path):
    (tmp_path / "disc7").mkdir()
    (tmp_path / "disc7" / "DICOMDIR").write_bytes(b"")
    assert scans.stem(tmp_path / "disc7" / "DICOMDIR") == "disc7"


def test_by_study_folders_of_a_disc_get_the_way_to_them_as_a_name(tmp_path):
    for number in range(3):
        of_study(tmp_path / "DICOM" / f"PA{number // 2}" / f"ST{number % 2}" / "SE0", f"1.{number}")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert set(studies([tmp_path])) == {"ST0", "ST1", "PA1"}  # the one study of PA1 has that folder for itself
    of_study(tmp_path / "DICOM" / "PA1" / "ST1" / "SE0", "1.3")
    assert set(studies([tmp_path])) == {f"DICOM_PA{one}_ST{other}" for one in (0, 1) for other in (0, 1)}


def test_by_study_two_studies_in_one_folder_are_refused(tmp_path):
    of_study(tmp_path / "all" / "a", "1.1")
    for study in ("1.1", "1.2"):
        dicom_series.write(tmp_path / "all", [dicom_series.slice_((0, 0, 0), StudyInstanceUID=study)], prefix=study)
    with pytest.raises(Refusal, match="all: found 2 studies with files side by side; needed a folder for each study"):
        studies([tmp_path])


def test_by_study_damaged_files_are_left_to_the_reader(tmp_path):
    of_study(tmp_path / "a", "1.1")
    (tmp_path / "a" / "broken.dcm").write_bytes(b"x")
    assert list(studies([tmp_path])) == [tmp_path.name]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "broken.dcm").write_bytes(b"x")
    assert studies([tmp_path / "b"]) == {"b": tmp_path / "b"}


def test_the_files_of_a_brats_case_are_its_channels(tmp_path):
    """In capitals or not: the files say flair and t1ce, the data set's channels are FLAIR and T1ce."""
    files(tmp_path, *(f"BraTS2021_00000_{ending}.nii.gz" for ending in ("flair", "t1ce", "t1", "t2")))
    for channels in (("FLAIR", "T1ce", "T1", "T2"), catalogue.find("swin-unetr-brats21-fold0").channels):
        [case] = scans.find([tmp_path], channels, {})
        assert case.id == "BraTS2021_00000" and tuple(case.images) == channels
        assert [path.name[16:-7].lower() for path in case.images.values()] == [channel.lower() for channel in channels]


def test_channels_by_name_and_by_number(tmp_path):
    files(tmp_path, "a_T2.nii.gz", "a_T1.nii.gz", "b_0001.nii.gz", "b_0000.nii.gz", "whole.nii.gz")
    assert found([tmp_path], ("T1", "T2")) == {
        "a": {"T1": "a_T1.nii.gz", "T2": "a_T2.nii.gz"},
        "b": {"T1": "b_0000.nii.gz", "T2": "b_0001.nii.gz"},
        "whole": {"all": "whole.nii.gz"},
    }
    for order in (("T1", "T2"), ("T2", "T1")):  # that of the model, not of the files
        assert tuple(scans.find([tmp_path], order, {})[0].images) == order


def test_a_channel_whose_name_ends_as_another_ones(tmp_path):
    channels = ("FLAIR", "T2_FLAIR")
    files(tmp_path, "a_FLAIR.nii.gz", "a_T2_FLAIR.nii.gz")
    assert found([tmp_path], channels) == {"a": {"FLAIR": "a_FLAIR.nii.gz", "T2_FLAIR": "a_T2_FLAIR.nii.gz"}}


def test_a_missing_channel_is_refused(tmp_path):
    files(tmp_path, "a_T1.nii.gz")
    with pytest.raises(Refusal, match=r"a: found channels T1; needed T1, T2.*add a_T2\.nii\.gz or a_0001\.nii\.gz"):
        found([tmp_path], ("T1", "T2"))


def test_one_channel_twice_is_refused(tmp_path):
    files(tmp_path, "a_T1.nii.gz", "a_T2.nii.gz", "a_0000.nii.gz")
    with pytest.raises(Refusal, match=r"channel T1 of a twice, as a_0000\.nii\.gz and a_T1\.nii\.gz"):
        found([tmp_path], ("T1", "T2"))


def test_channels_named_one_by_one(tmp_path):
    files(tmp_path, "x.nii.gz", "y.nii.gz")
    named = {"T2": tmp_path / "y.nii.gz", "T1": tmp_path / "x.nii.gz"}
    assert found([], ("T1", "T2"), **named) == {"x": {"T1": "x.nii.gz", "T2": "y.nii.gz"}}
    with pytest.raises(Refusal, match="--channel: found T1; needed each of T1, T2 once"):
        found([], ("T1", "T2"), T1=tmp_path / "x.nii.gz")
    with pytest.raises(Refusal, match="a scan beside --channel"):
        found([tmp_path / "x.nii.gz"], ("T1", "T2"), **named)


def test_two_scans_of_one_name_are_refused(tmp_path):
    files(tmp_path / "one", "ct.nii.gz")
    files(tmp_path / "two", "ct.nii.gz")
    with pytest.raises(Refusal, match=r"two/ct\.nii\.gz: found the name of .*one/ct\.nii\.gz again"):
        found([tmp_path / "one", tmp_path / "two"])
    files(tmp_path / "three", "ct.nii", "ct.nii.gz")
    with pytest.raises(Refusal, match=r"the name of .*ct\.nii again"):
        found([tmp_path / "three"])


def test_nothing_there(tmp_path):
    with pytest.raises(Refusal, match="no such file or folder"):
        found([tmp_path / "absent"])
    with pytest.raises(Refusal, match="found an empty folder"):
        found([tmp_path])
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(Refusal, match="no scan among its 1 entries"):
        found([tmp_path])
