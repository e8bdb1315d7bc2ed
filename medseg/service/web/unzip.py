"""DICOM files out of a zip that a stranger has made: under names of our own, and only as much as it says."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

from medseg.boundary import parsing
from medseg.dicom.archive import TIMES
from medseg.dicom.signature import starts_dicom
from medseg.service.web.parts import no_room
from medseg.service.web.problem import Problem

MOST_FILES = 20_000
LONGEST_LIST = MOST_FILES * 2**10
"""Bytes of the central directory."""
ENTRY = b"PK\x01\x02"
"""With which each entry of it begins (APPNOTE.TXT 4.3.12)."""
BLOCK = 2**20
SMALL = 64 * 2**20
"""A zip that unpacks to no more than this may be packed as tightly as it likes."""
NAME = Path("the zip")
"""What messages call it."""


class Frugal(io.BufferedReader):
    """A zip whose list of files is looked at before `zipfile` makes an object of each; it reads the list in one piece,
    and everything else in small ones."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size and size > LONGEST_LIST:
            raise _trap(f"a list of files of {size} bytes")
        found = super().read(size)
        if (count := found.count(ENTRY)) > MOST_FILES:
            raise _trap(f"{count} files")
        return found


def dicom_files(path: Path, folder: Path, *, most_bytes: int, free_bytes: int) -> list[Path]:
    """Unpack the DICOM files of a zip into a folder.

    Args:
        most_bytes: of all of them.
        free_bytes: that must be left on the disk.

    Raises:
        Refusal: damaged, encrypted, without DICOM files, or a trap: too many files, or too tightly packed.
        Problem: 507, no room.
    """
    with (
        parsing(NAME, needed="a zip of DICOM files", remedy="pack it again, without a password"),
        Frugal(io.FileIO(path)) as file,
        zipfile.ZipFile(file) as packed,
    ):
        members = [member for member in packed.infolist() if not member.is_dir()]
        claimed = sum(member.file_size for member in members)
        if len(members) > MOST_FILES or claimed > most_bytes or claimed > max(SMALL, TIMES * path.stat().st_size):
            raise _trap(f"{len(members)} files of {claimed} bytes in {path.stat().st_size}")
        if shutil.disk_usage(folder).free - claimed < free_bytes:
            raise no_room()
        found = [one for one in (_unpacked(packed, member, folder, at) for at, member in enumerate(members)) if one]
    if not found:
        raise Problem(400, NAME, found="no DICOM file in it", needed="a study's files", remedy="pack those")
    return found


def _unpacked(packed: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, number: int) -> Path | None:
    """None: it is no DICOM file."""
    target, left = folder / f"{number:06}.dcm", member.file_size
    with packed.open(member) as source:
        start = source.read(132)
        if not starts_dicom(start):
            return None
        with target.open("xb") as file:
            block = start
            while block:
                left -= len(block)
                if left < 0:
                    raise _trap("a file larger than it says")
                file.write(block)
                block = source.read(BLOCK)
    return target


def _trap(found: str) -> Problem:
    return Problem(
        413, NAME, found=found, needed="a study packed as studies are", remedy="send its files in several requests"
    )
