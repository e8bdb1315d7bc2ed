"""Files of volumes that strangers send: told by their content, and none that points to other files."""

from __future__ import annotations

import gzip
import re
import zipfile
from pathlib import Path

from medseg.boundary import parsing
from medseg.dicom.signature import is_dicom
from medseg.service.web.problem import Problem

GZIP = b"\x1f\x8b"
NIFTI_1, NIFTI_2 = b"n+1\x00", b"n+2\x00"
"""Header and voxels in one file."""
FILE = Path("the file")
"""What messages call it."""
LONGEST_HEADER = 2**20
ELSEWHERE = re.compile(rb"(?:\A|[\r\n])\s*data\s*file\s*:", re.IGNORECASE)
"""Field of a NRRD header whose voxels lie in another file."""
AMBIGUOUS = re.compile(rb"\r(?!\n)|\0")
"""What some readers end a line of a NRRD header at, and others do not."""


def suffix(path: Path) -> str:
    """.nii, .nii.gz, .nrrd, .dcm or .zip, whatever the sender called it.

    Raises:
        Refusal: none of them, or a file that takes its voxels from another one.
    """
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
    if start.startswith(b"NRRD"):
        header, *voxels = re.split(rb"\r?\n\r?\n", start, maxsplit=1)
        if not voxels or ELSEWHERE.search(header) or AMBIGUOUS.search(header):
            raise _unknown("a NRRD header that points to another file, does not end, or has other line ends than these")
        return ".nrrd"
    if is_dicom(path):
        return ".dcm"
    if zipfile.is_zipfile(path):
        return ".zip"
    packed = start.startswith(GZIP)
    head = _unpacked(path) if packed else start
    if head[344:348] == NIFTI_1 or head[4:8] == NIFTI_2:
        return ".nii.gz" if packed else ".nii"
    raise _unknown("something else")


def _unpacked(path: Path) -> bytes:
    with parsing(FILE, needed="a file that can be unpacked", remedy="send it again"), gzip.open(path) as file:
        return file.read(352)


def _unknown(found: str) -> Problem:
    return Problem(
        415,
        FILE,
        found=found,
        needed="NIfTI (.nii, .nii.gz), NRRD with its voxels in the same file, a DICOM file, or a zip of DICOM files",
        remedy="save it as one of these",
    )
