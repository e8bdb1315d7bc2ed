"""DICOMDIR, zip, and folders of files with any names: exactly the files that belong, and nothing outside."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from medseg import readers
from medseg.dicom import archive
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import dicom_series as ds
from tests import judges, tiny
from tests.tiny import ENVIRONMENT

PATIENT = {"PatientName": "A^B", "StudyDate": "20240101", "StudyTime": "120000", "StudyID": "1", "AccessionNumber": ""}


def slices(count: int = 5) -> list[Dataset]:
    return [ds.slice_(place, number=n, **PATIENT) for n, place in enumerate(ds.places(count), start=1)]  # type: ignore[arg-type]


@pytest.fixture
def plain(tmp_path: Path) -> Volume:
    return readers.read(ds.write(tmp_path / "plain", slices()))


def assert_same(a: Volume, b: Volume) -> None:
    np.testing.assert_array_equal(a.array, b.array)
    np.testing.assert_array_equal(a.affine, b.affine)


def disc(folder: Path) -> Path:
    """A file set as pydicom writes one."""
    files = FileSet()
    for dataset in slices():
        files.add(dataset)
    files.write(folder)
    return folder


@pytest.mark.parametrize("names", ["DICOMDIR", "dicomdir", "index"])
def test_a_dicomdir_stands_for_the_files_that_it_lists(tmp_path: Path, plain: Volume, names: str) -> None:
    folder = disc(tmp_path / "disc")
    (folder / "DICOMDIR").rename(folder / names)
    ds.write(folder / "more", [ds.slice_(ds.places(6)[5], number=6)])  # the next slice, which is not listed
    assert_same(readers.read(folder / names), plain)
    if names == "index":
        assert readers.read(folder).shape[2] == 6  # a folder's own directory has one name
    else:
        assert_same(readers.read(folder), plain)


def test_names_in_small_letters(tmp_path: Path, plain: Volume) -> None:
    folder = disc(tmp_path / "disc")
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
    assert_same(readers.read(folder), plain)


@pytest.mark.dicom_tools
@judges.needs("dcmmkdir")[1]
def test_a_dicomdir_by_another_writer(tmp_path: Path, plain: Volume) -> None:
    folder = tmp_path / "disc"
    for n, dataset in enumerate(slices()):
        (folder / "IMAGES").mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / "IMAGES" / f"IM{n}", enforce_file_format=True)
    subprocess.run(["dcmmkdir", "-Nxc", "+r", "IMAGES"], cwd=folder, check=True, timeout=60)
    assert_same(readers.read(folder / "DICOMDIR"), plain)
    assert_same(readers.read(folder), plain)


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = disc(tmp_path / "disc")
    gone = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "DICOMDIR"][2]
    gone.unlink()
    for path in (folder, folder / "DICOMDIR"):
        with pytest.raises(Refusal, match=f"1 of 5 listed files missing: {gone.relative_to(folder)}"):
            readers.read(path)


def test_a_directory_that_points_outside_is_refused(tmp_path: Path) -> None:
    folder = disc(tmp_path / "disc")
    directory = dcmread(folder / "DICOMDIR")
    directory.DirectoryRecordSequence[-1].ReferencedFileID = ["..", "..", "SECRET"]
    directory.save_as(folder / "DICOMDIR")
    with pytest.raises(Refusal, match=r"a file named \.\./\.\./SECRET"):
        readers.read(folder)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_directory_that_is_cut_anywhere_is_refused_and_never_a_shorter_list(tmp_path: Path) -> None:
    folder = disc(tmp_path / "disc")
    whole = (folder / "DICOMDIR").read_bytes()
    for end in range(400, len(whole), 3):
        (folder / "DICOMDIR").write_bytes(whole[:end])
        with pytest.raises(Refusal, match="DICOMDIR"):
            list(archive.files(folder))


def packed(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(folder.rglob("*")):
            made.write(path, path.relative_to(folder.parent))
    return target


@pytest.mark.parametrize("make", [disc, lambda folder: ds.write(folder, slices())], ids=["disc", "files"])
def test_a_zip_is_read_as_its_folder(tmp_path: Path, plain: Volume, make: object) -> None:
    folder = make(tmp_path / "study")  # type: ignore[operator]
    (folder / "notes.txt").write_text("x")
    (folder / "._IM0001.dcm").write_bytes(b"what macOS leaves")
    volume = readers.read(packed(folder, tmp_path / "study.zip"))
    assert_same(volume, plain)
    assert all(instance.path.is_file() for instance in volume.source.instances)  # outputs read them again
    said = tiny.medseg_command("info", tmp_path / "study.zip")
    assert said.code == 0 and "series       7 'thorax' 1.2.3.4" in said.out
    assert {path.suffix for path in archive.files(tmp_path / "study.zip")} <= {".dcm", ""}


def test_a_zip_that_changes_is_unpacked_again(tmp_path: Path) -> None:
    target = packed(ds.write(tmp_path / "a", slices(3)), tmp_path / "study.zip")
    first = readers.read(target)
    packed(ds.write(tmp_path / "b", slices(4)), target)
    assert (first.shape[2], readers.read(target).shape[2]) == (3, 4)


def test_what_was_unpacked_goes_with_the_process(tmp_path: Path) -> None:
    target = packed(ds.write(tmp_path / "a", slices(3)), tmp_path / "study.zip")
    script = "import sys, medseg; print(medseg.read(sys.argv[1]).source.instances[0].path)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    unpacked = Path(done.stdout.strip())
    assert unpacked.name == "IM0000.dcm" and not unpacked.exists() and not unpacked.parent.parent.exists()


def test_a_zipped_run_is_no_dicom(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("name: x")
    (run / "model.safetensors").write_bytes(os.urandom(500))
    assert not archive.is_dicom_zip(packed(run, tmp_path / "run.zip"))
    with pytest.raises(Refusal, match="no reader knows"):
        readers.read(tmp_path / "run.zip")


SLICE = ds.slice_(ds.places(1)[0])


def content() -> bytes:
    from io import BytesIO

    target = BytesIO()
    SLICE.save_as(target, enforce_file_format=True)
    return target.getvalue()


@pytest.mark.parametrize(
    "name", ["../out.dcm", "/tmp/out.dcm", "a/../../out.dcm", "C:/out.dcm", "..\\out.dcm", "\\out.dcm"]
)
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "study.zip", "w") as made:
        made.writestr(name, content())
    with pytest.raises(Refusal, match="outside the zip's own folder"):
        readers.read(folder / "study.zip")
    assert sorted(path.name for path in tmp_path.rglob("*.dcm")) == []


def test_encrypted_zips_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "study.zip"
    with zipfile.ZipFile(target, "w") as made:
        made.writestr("a.dcm", content())
    whole = bytearray(target.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = whole.index(signature) + offset
        whole[place : place + 2] = struct.pack("<H", 1)
    target.write_bytes(whole)
    with pytest.raises(Refusal, match=r"encrypted files \(first a\.dcm\)"):
        readers.read(target)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as made, pytest.warns(UserWarning):
        made.writestr("a.dcm", content())
        made.writestr("a.dcm", content())
    with pytest.raises(Refusal, match=r"two files named a\.dcm"):
        readers.read(tmp_path / "study.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "study.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.dcm", b"\0" * 128 + b"DICM" + b"\0" * 2**24)
    whole = bytearray(target.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # where the size after unpacking stands
        place = whole.index(signature) + offset
        whole[place : place + 4] = struct.pack("<I", 2**31)
    target.write_bytes(whole)
    monkeypatch.setattr(zipfile.ZipFile, "extract", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(Refusal, match="claims 2 GiB of files"):
        readers.read(target)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_or_damaged_zip_is_refused(tmp_path: Path, share: float) -> None:
    target = packed(ds.write(tmp_path / "a", slices(3)), tmp_path / "study.zip")
    whole = bytearray(target.read_bytes())
    target.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Refusal):
        readers.read(target)
    whole[len(whole) // 3] ^= 0xFF
    target.write_bytes(whole)
    with pytest.raises(Refusal):
        readers.read(target)


def test_files_in_any_order_with_any_names_beside_others(tmp_path: Path, plain: Volume) -> None:
    folder = tmp_path / "mixed"
    names = ["9", "scan.IMA", "Ünïcode ☃", "1.2.840.113619.2.55", "a.dicom"]
    for name, dataset in zip(names, slices(), strict=True):
        target = folder / name[0] / name
        target.parent.mkdir(parents=True)
        dataset.save_as(target, enforce_file_format=True)
    (folder / "Thumbs.db").write_bytes(b"\0" * 600)
    (folder / "report.pdf").write_bytes(b"%PDF-1.7")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "empty").write_bytes(b"")
    assert_same(readers.read(folder), plain)


def test_folders_and_files_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By patches, because root may read everything."""
    ds.write(tmp_path / "a", slices(3))
    ds.write(tmp_path / "shut", slices(3))
    (tmp_path / "a" / "closed").write_bytes(b"x")
    listing, opening = os.scandir, Path.open

    def scandir(path: str) -> object:
        if Path(path).name == "shut":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    def opened(path: Path, *words: object, **more: object) -> object:
        if path.name in ("shut", "closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opening(path, *words, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "open", opened)
    said = tiny.medseg_command("dicom", "check", tmp_path)
    assert said.code == 1 and "1 series" in said.out
    for name in ("shut", "a/closed"):
        assert f"{tmp_path / name}: cannot be read\n  Permission denied" in said.out
    with pytest.raises(PermissionError, match="closed"):
        readers.read(tmp_path)
