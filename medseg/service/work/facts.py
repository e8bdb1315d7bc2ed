"""What tells a file of an input from what it was before: its size and time of change, or what is in it."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from medseg.dicom import archive
from medseg.service.work import proof

Fact = tuple[object, ...]
HEADER_BYTES = 2**16
"""Of a NRRD or a MetaImage, in which the field lies that names the files of the voxels."""
ELSEWHERE = re.compile(
    rb"^[ \t]*(?:data ?file[ \t]*:|ElementDataFile[ \t]*=)[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)
NUMBERED = re.compile(r"(.*?)%\d*[diu](\S*)")
"""What is before and after the number in names of files; after a blank follows which numbers there are."""
PAIR = (".hdr", ".img")


def of_path(path: Path) -> tuple[Fact, ...]:
    """Of all files that are read where a path is named: of a folder all in it, of a header its voxels, too."""
    around = folder_around(path)
    files = sorted(file for file in around.rglob("*") if file.is_file()) if around.is_dir() else [path, *_voxels(path)]
    return tuple(of_file(file, timed=True) for file in files or [path])


def of_file(path: Path, *, timed: bool) -> Fact:
    """
    Args:
        timed: whether its time says anything; of what was unpacked or fetched, it does not.
    """
    try:
        status = path.stat()
        return (str(path.absolute()), status.st_size, status.st_mtime_ns) if timed else (path.name, proof.sha256(path))
    except (OSError, ValueError):  # NUL, which a header may hold where it names a file
        return (str(path),)


def folder_around(path: Path) -> Path:
    """The folder that a DICOMDIR stands for, else the path."""
    return path.parent if path.name.upper() == archive.DICOMDIR else path


def _voxels(path: Path) -> list[Path]:
    """The files beside a header that has its voxels elsewhere (.hdr/.img, .nhdr, .mhd): one, a list, or names that are
    numbered."""
    if path.suffix.lower() in PAIR:
        return [part for one in PAIR for part in _cased(path, one) if part != path]
    if path.suffix.lower() not in (".nhdr", ".nrrd", ".mhd", ".mha"):
        return []
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError:
        return []
    found = ELSEWHERE.search(header)
    name = os.fsdecode(found[1]).strip() if found else ""
    if not (found and name) or "\0" in name or name.upper() == "LOCAL":
        return []
    if name.upper().startswith("LIST"):
        lines = os.fsdecode(header[found.end() :]).splitlines()
        return [path.parent / line.strip() for line in lines if line.strip()]
    if numbered := NUMBERED.match(name):
        pattern = "*".join(map(glob.escape, numbered.groups()))
        # the glob of a Path raises where a name is too long, or absolute
        there = glob.glob(pattern, root_dir=path.parent)  # noqa: PTH207
        return [path.parent / part for part in sorted(there)]
    return [path.parent / name]


def _cased(path: Path, suffix: str) -> list[Path]:
    return [part for part in (path.with_suffix(suffix), path.with_suffix(suffix.upper())) if part.exists()]
