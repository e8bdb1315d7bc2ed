"""The DICOM files behind a path: those of a folder, those that a DICOMDIR lists, those inside a zip."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from medseg.boundary import parsing, refuse_absurd
from medseg.dicom import signature
from medseg.refusal import Refusal

log = logging.getLogger(__name__)

DICOMDIR = "DICOMDIR"
MEDIA_DIRECTORY = b"UI\x14\x001.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR, as file meta information holds it."""
TIMES = 100
"""No study is packed better than that; a small zip that claims more is a trap."""
NAMED = 5
"""Missing files that a refusal spells out."""


def holds_several(path: Path) -> bool:
    """Whether a path stands for the files in it: a folder, a zip with DICOM in it, or a DICOMDIR."""
    return path.is_dir() or is_dicomdir(path) or is_dicom_zip(path)


def gather(paths: Sequence[Path]) -> list[Path]:
    """DICOM files behind several paths, each once; a file stands for itself.

    Zips inside folders are not opened, which is said in a line.

    Raises:
        Refusal: nothing is there, or no DICOM file; and as `files`.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise Refusal(
                path, found="nothing there", needed="a folder or a file", remedy="check the path", code="lost-input"
            )
        found |= dict.fromkeys(files(path) if holds_several(path) else [path])
        zips = sum(1 for _ in path.rglob("*.[zZ][iI][pP]")) if path.is_dir() else 0
        if zips:
            log.info("%s: zips in it are not opened (%d); name them to look into them", path, zips)
    if not found:
        raise Refusal(
            paths[0],
            found="no DICOM file",
            needed="at least one",
            remedy="give the folder that holds the scan; files without suffix are found by their signature",
            code="no-images",
        )
    return list(found)


def files(path: Path) -> Iterator[Path]:
    """DICOM files of a folder and below it, by name; of a DICOMDIR or a folder with one, exactly those that it lists;
    of a zip, those in it, unpacked into a folder that is removed when the process ends.

    Raises:
        Refusal: files that the DICOMDIR lists are not there; a zip that is damaged, encrypted, unreasonably large, or
            wants to write outside its folder.
    """
    folder = path
    if is_dicom_zip(path):
        status = path.stat()
        folder = _unpacked(path.resolve(), status.st_size, status.st_mtime_ns)
    directory = folder if folder.is_file() else _directory(folder)
    yield from signature.files(folder) if directory is None else _listed(directory)


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a DICOMDIR, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        start = handle.read(512)
    return start[128:132] == b"DICM" and MEDIA_DIRECTORY in start


def _directory(folder: Path) -> Path | None:
    """The DICOMDIR of a folder; some discs have its name in small letters."""
    return next((path for path in (folder / DICOMDIR, folder / DICOMDIR.lower()) if is_dicomdir(path)), None)


def _listed(directory: Path) -> list[Path]:
    """Files that a DICOMDIR lists, in its order."""
    from medseg.dicom import parse

    needed, remedy = "a readable DICOMDIR", "move it away, and the files in the folder are read without it"
    with parsing(directory, needed=needed, remedy=remedy):
        records = parse.whole(directory)["DirectoryRecordSequence"].value or ()
        names = [_parts(record) for record in records if record.get("RecordInUseFlag") != 0]
    found: dict[Path, None] = {}
    missing = []
    for parts in filter(None, names):
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            raise Refusal(directory, found=f"a file named {'/'.join(parts)}", needed=needed, remedy=remedy)
        file = _beside(directory.parent, parts)
        if file is None:
            missing.append("/".join(parts))
        else:
            found[file] = None
    if missing:
        named = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        raise Refusal(
            directory,
            found=f"{len(missing)} of {len(missing) + len(found)} listed files missing: {named}",
            needed="all files that it lists",
            remedy="copy the whole disc again; without the DICOMDIR, the files that are there are read",
            code="incomplete-media",
        )
    return list(found)


def _parts(record: Any) -> tuple[str, ...]:
    """Path of the file that a record is about, empty where it is about none."""
    name = record.get("ReferencedFileID")
    return () if name is None else (name,) if isinstance(name, str) else tuple(str(part) for part in name)


def _beside(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """A file below a folder, in small letters where a disc was copied that way."""
    for tried in (parts, tuple(part.lower() for part in parts)):
        file = folder.joinpath(*tried)
        if file.is_file():
            return file
    return None


def is_dicom_zip(path: Path) -> bool:
    """Whether a file is a zip with a DICOM file in it; a zipped run folder, for one, is not."""
    return path.suffix.lower() == ".zip" and path.is_file() and zipfile.is_zipfile(path) and any(_members(path))


def _members(path: Path) -> Iterator[zipfile.ZipInfo]:
    """DICOM files in a zip; encrypted ones count, as nobody can say that they are none."""
    with (
        parsing(path, needed="a readable zip file", remedy="copy or download it again, or unpack it yourself"),
        zipfile.ZipFile(path) as packed,
    ):
        yield from (member for member in packed.infolist() if _counts(packed, member))


def _counts(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    if member.is_dir():
        return False
    if member.flag_bits & 1 or PurePosixPath(member.filename).suffix.lower() in signature.SUFFIXES:
        return True
    with packed.open(member) as handle:
        return signature.starts_dicom(handle.read(132))


@cache
def _unpacked(path: Path, size: int, changed: int) -> Path:
    """Folder with a zip's DICOM files. `size` and `changed` tell a zip from a later one under its name."""
    members = list(_members(path))
    _refuse_unsafe(path, members)
    folder = Path(tempfile.mkdtemp(prefix="medseg-"))  # readable to this user alone
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    total = sum(member.file_size for member in members)
    refuse_absurd(path, total + 1, size, "files", times=TIMES)
    if total > shutil.disk_usage(folder).free:
        raise Refusal(
            path,
            found=f"{total / 2**30:.3g} GiB of files",
            needed=f"as much free space in {folder.parent}",
            remedy="make room, or set TMPDIR to a larger disc",
        )
    with (
        parsing(path, needed="a zip whose files can be unpacked", remedy="copy or download it again"),
        zipfile.ZipFile(path) as packed,
    ):
        for member in members:
            packed.extract(member, folder)
    log.info("%s: %d DICOM files unpacked into %s until the program ends", path, len(members), folder)
    return folder


def _refuse_unsafe(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse what must not be unpacked."""
    names = [member.filename for member in members]
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            found = f"a file named '{member.filename}', which lies outside the zip's own folder"
        elif member.flag_bits & 1:
            found = f"encrypted files (first {member.filename})"
        elif names.count(member.filename) > 1:
            found = f"two files named {member.filename}"
        else:
            continue
        raise Refusal(path, found=found, needed="a plain zip", remedy="unpack it yourself, and give the folder")
