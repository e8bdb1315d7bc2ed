"""DICOM files of the database in a run's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from MedSegLib import dicom
from MedSegLib.trouble import Trouble


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"schnitt {number}.dcm" for number in range(3)]
    for file in made:
        file.write_bytes(file.name.encode())
    made[1].chmod(0o444)  # as it comes from a CD
    return made


def test_data_get_a_further_name_but_where_windows_could_not_remove_it(files: list[Path], tmp_path: Path) -> None:
    dicom.gather(files, tmp_path / "series", lambda: False)
    found = sorted((tmp_path / "series").iterdir())
    assert [one.read_bytes() for one in found] == [file.read_bytes() for file in files]
    assert [one.samefile(file) for one, file in zip(found, files, strict=True)] == [True, False, True]
    assert all(one.stat().st_mode & 0o200 for one in found), "one could not be removed"


def test_without_such_names_they_are_copied(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuses)
    dicom.gather(files, tmp_path / "series", lambda: False)
    assert [one.read_bytes() for one in sorted((tmp_path / "series").iterdir())] == [one.read_bytes() for one in files]
    files[2].unlink()
    with pytest.raises(Trouble, match="could not be copied: No such file"):
        dicom.gather(files, tmp_path / "again", lambda: False)


def test_whoever_cancels_waits_for_no_file(files: list[Path], tmp_path: Path) -> None:
    dicom.gather(files, tmp_path / "series", lambda: True)
    assert not list((tmp_path / "series").iterdir())
