"""NRRD as Slicer writes it: scans, label maps and segmentations (`.seg.nrrd`), read and written without a library."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MedSegLib.trouble import Trouble

TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
KEPT = ("type", "dimension", "space", "sizes", "space directions", "kinds", "endian", "encoding", "space origin")
"""Fields that say what the voxels are and where they lie. Others may say whose they are."""
SIGNS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
}
LONGEST_HEADER = 1 << 24
CHUNK = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a file says before its voxels.

    Attributes:
        fields: as they stand there, names in lower case.
        notes: key and value pairs; those of segmentations are `Segment0_Name` and so on.
        begin: where the voxels begin in the file, in bytes.
    """

    path: Path
    fields: Mapping[str, str]
    notes: Mapping[str, str]
    begin: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of all axes, the fastest first: i, j, k; of segmentations in layers the layers before these."""
        return tuple(int(word) for word in self.fields["sizes"].split())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j, k."""
        i, j, k = self.sizes[-3:]
        return i, j, k

    @property
    def kind(self) -> np.dtype:
        order = "" if self.fields.get("endian", "little") == "little" else ">"
        return np.dtype(f"{order or '<'}{TYPES[self.fields['type'].lower()]}")

    @property
    def affine(self) -> np.ndarray:
        """Voxel index (i, j, k) -> LPS mm, 4 x 4."""
        signs = np.array(SIGNS[self.fields.get("space", "").lower()], float)
        axes = re.findall(r"\(([^)]*)\)", self.fields["space directions"])
        columns = [*axes[-3:], *re.findall(r"\(([^)]*)\)", self.fields["space origin"])]
        affine = np.eye(4)
        for place, column in enumerate(columns):
            affine[:3, place] = np.array([float(number) for number in column.split(",")]) * signs
        return affine


def header(path: Path) -> Header:
    """The header of a file whose voxels are in it.

    Raises:
        Trouble: it is none, or of a form that is not read here.
    """
    fields: dict[str, str] = {}
    notes: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            if not file.readline(CHUNK).startswith(b"NRRD"):
                raise ValueError("no NRRD")
            while file.tell() < LONGEST_HEADER:
                line = file.readline(CHUNK).decode("utf-8").rstrip("\r\n")
                if not line:
                    break
                name, separator, value = _parted(line)
                (notes if separator == ":=" else fields)[name] = value
            found = Header(path, fields, notes, file.tell())
        found.kind, found.affine  # noqa: B018 - whether they can be told
        packed = fields["encoding"].lower() in ("raw", "gzip", "gz")
        if len(found.sizes) not in (3, 4) or not packed or {"data file", "line skip", "byte skip"} & {*fields}:
            raise ValueError("of another form")
    except (ValueError, KeyError, OSError, UnicodeDecodeError) as error:
        what = f"{path.name} is not an NRRD file of a scan or a segmentation as Slicer writes it."
        raise Trouble(what, "Save it again from Slicer.", "unreadable", repr(error)) from error
    return found


def voxels(found: Header) -> np.ndarray:
    """(L, I, J, K): of a scan or label map one layer.

    Raises:
        Trouble: the file ends too early, or is damaged.
    """
    data = b"".join(pieces(found))
    array = np.frombuffer(data, found.kind).reshape(found.sizes[::-1]).T  # the first axis is the fastest
    return array if array.ndim == 4 else array[None]


def pieces(found: Header) -> Iterator[bytes]:
    """The voxels' bytes, unpacked, piece by piece.

    Raises:
        Trouble: the file is damaged, or not as long as it says; perhaps only at the end.
    """
    left = int(np.prod(found.sizes)) * found.kind.itemsize
    try:
        with found.path.open("rb") as raw:
            raw.seek(found.begin)
            packed = found.fields["encoding"].lower() != "raw"
            with gzip.GzipFile(fileobj=raw) if packed else raw as file:
                while piece := file.read(CHUNK):
                    left -= len(piece)
                    yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(found.path) from error
    if left:
        raise _damaged(found.path)


def write(array: np.ndarray, like: Header, path: Path) -> None:
    """Write a label map (I, J, K), packed, on the grid of a scan. The same voxels make the same bytes."""
    kind = {"u1": "unsigned char", "u2": "unsigned short"}[array.dtype.str[1:]]
    fields = {**like.fields, "type": kind, "encoding": "gzip", "endian": "little", "dimension": "3"}
    fields["kinds"] = "domain domain domain"
    with path.open("wb") as raw:
        raw.write(_text(fields))
        with gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
            file.write(np.ascontiguousarray(array.T, array.dtype.newbyteorder("<")).data)


def copy_bare(found: Header, path: Path) -> None:
    """Copy a scan, and of its header only what says where its voxels lie: Slicer writes a volume's attributes into it,
    DICOM's identifiers among them.

    Raises:
        Trouble: the scan is damaged.
    """
    for _ in pieces(found):  # a training would find out long after the scan was closed
        pass
    with found.path.open("rb") as source, path.open("wb") as target:
        target.write(_text(found.fields))
        source.seek(found.begin)
        while piece := source.read(CHUNK):
            target.write(piece)


def _text(fields: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {fields[name]}" for name in KEPT if name in fields]
    return "\n".join(["NRRD0004", *lines, "", ""]).encode("utf-8")


def _parted(line: str) -> tuple[str, str, str]:
    if line.startswith("#"):
        return "#", ":=", ""
    name, separator, value = line.partition(":=") if re.match(r"[^:]*:=", line) else line.partition(": ")
    return (name, separator, value) if separator == ":=" else (name.lower(), separator, value.strip())


def _damaged(path: Path) -> Trouble:
    return Trouble(f"{path.name} is damaged: it ends too early.", "Save it again from Slicer.", "unreadable")
