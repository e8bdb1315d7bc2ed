"""What SimpleITK passes over in the headers of NRRD and MetaImage: places that they do not tell, and damaged voxels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from medseg.boundary import parsing
from medseg.readers import _voxels
from medseg.refusal import Refusal

PATIENT = tuple(f"{side}-superior" for side in ("right-anterior", "left-anterior", "left-posterior"))
"""How the spaces of NRRD begin whose axes are those of a patient; the others may be any."""
MILLIMETRE = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "")
ZLIB, GZIPPED = 15, 31
"""`wbits`."""
FOUR = "save it as a vector image (sitk.Compose) or as .mha, which keep where the patient's axes are"
DAMAGED = "copy or download the file again"


def refuse_unplaced(path: Path, space: str) -> None:
    """Refuse an NRRD that does not say where in the patient it lies: SimpleITK would take any space for LPS, and any
    unit for millimetres.

    Args:
        space: by SimpleITK, in the format's own words; empty if there is none.
    """
    fields = _nrrd(path)
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))[:3]
    other = [unit for unit in units if unit.lower() not in MILLIMETRE]
    remedy = "correct the header's lines, or save it again in 3D Slicer where it is seen in its true place"
    if not space.startswith(PATIENT):
        found = f"{f'space {space!r}' if space else 'no space'}, so left and right are unknown"
        if not space and fields.get("spacedimension") == "4":
            found, remedy = f"{found}, as ITK writes every 4-D image", FOUR
    elif "spacedirections" not in fields:
        found = "no space directions, so the size of a voxel is unknown"
    elif other:
        found = f"space units {other[0]!r}"
    else:
        return
    raise Refusal(
        path,
        found=found,
        needed="the axes of the patient (space: left-posterior-superior, ...), and space directions in millimetres",
        remedy=remedy,
    )


def refuse_damaged(path: Path, size: int) -> None:
    """Refuse a compressed MetaImage whose voxels do not unpack: SimpleITK gives what came before the damage, and behind
    it what was in memory.

    Args:
        size: bytes of voxels that there should be.
    """
    with parsing(path, needed="a MetaImage header", remedy=DAMAGED), path.open("rb") as handle:
        fields = _meta(handle)
        file, begins = fields.get("elementdatafile", ""), handle.tell()
    if fields.get("compresseddata", "").lower() != "true":
        return
    local = file.lower() == "local"
    data_path = path if local else path.parent / file
    if not data_path.is_file():  # a list of files, which no program compresses
        return
    with (
        parsing(data_path, needed=f"{size} bytes of voxels, packed", remedy=DAMAGED),
        data_path.open("rb") as handle,
    ):
        handle.seek(begins if local else 0)
        found = sum(map(len, _unpacked(handle)))
        if found != size:
            raise ValueError(f"{found} bytes of voxels")


def _nrrd(path: Path) -> dict[str, str]:
    """Fields up to the empty line; names in small letters without spaces, as they may be written."""
    found = {}
    with path.open("rb") as handle:
        for line in handle:
            name, _, value = line.decode("utf-8", "replace").strip().partition(":")
            if not name:
                break
            found[name.lower().replace(" ", "")] = value.strip()
    return found


def _meta(handle: BinaryIO) -> dict[str, str]:
    """Fields up to the one behind which the voxels come; names in small letters."""
    found: dict[str, str] = {}
    for line in iter(handle.readline, b""):
        name, _, value = line.decode("utf-8", "replace").partition("=")
        found[name.strip().lower()] = value.strip()
        if "elementdatafile" in found:
            break
    return found


def _unpacked(handle: BinaryIO) -> Iterator[bytes]:
    """The bytes, some at a time; zlib's or gzip's checksum is compared."""
    packed = handle.read(_voxels.CHUNK_BYTES)
    inflating = isal_zlib.decompressobj(GZIPPED if packed.startswith(_voxels.GZIP) else ZLIB)
    while not inflating.eof:
        piece = inflating.decompress(packed, _voxels.CHUNK_BYTES)
        if not packed and not piece:  # what is taken in may come out later
            raise EOFError("a stream that is cut")
        yield piece
        packed = inflating.unconsumed_tail or handle.read(_voxels.CHUNK_BYTES)
