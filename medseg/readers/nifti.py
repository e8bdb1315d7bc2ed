"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr/.img) and FreeSurfer .mgh/.mgz, through nibabel."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from medseg.boundary import parsing, refuse_absurd, refuse_not_finite
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Source, Volume

log = logging.getLogger(__name__)

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgh", ".mgz")
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
DISAGREEMENT_MM = 0.1
"""sform and qform may differ by single precision and by a shear that a qform cannot hold; more is worth a line."""
GZIP = b"\x1f\x8b"
HEADER_BYTES = 1024
BEHIND_BYTES = 2**24
"""What may follow the voxels (MGH's tags, padding) without the header's saying so."""


class Options(Settings):
    """Nothing to choose."""


def matches(path: Path) -> bool:
    """By suffix."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def read(path: Path, options: Options) -> Volume:
    """Read (I, J, K), or (I, J, K, C) with the channels last, as (C, I, J, K).

    Integers that are not scaled keep their type; scaled ones become float32. The affine is the one nibabel chooses:
    the sform if its code is set, else the qform. A file with neither says nothing about left and right.

    Raises:
        Refusal: damaged, truncated, without orientation, with more than four axes, or with NaN or infinite voxels.
    """
    name = path.name.lower()
    if name.endswith((".mgh", ".mgz")):
        array, affine = _read_mgh(path)
    else:
        array, affine = _read_nifti(path)
    refuse_not_finite(array, path)
    return Volume(array, affine, Source(path, reader="nifti"))


def _start(path: Path) -> bytes:
    """The first bytes of the file, decompressed: enough for any header."""
    with path.open("rb") as handle:
        raw = handle.read(HEADER_BYTES)
    return _inflated(path, path.read_bytes(), HEADER_BYTES) if raw[:2] == GZIP else raw


def _content(path: Path, claimed: int) -> bytes:
    """The whole file, decompressed to its end, so that gzip's checksum is compared (nibabel stops before it).

    Args:
        claimed: bytes that the header promises; what goes far beyond is refused before it is in memory.
    """
    raw = path.read_bytes()
    refuse_absurd(path, claimed, len(raw), "voxels")
    if raw[:2] != GZIP:
        return raw
    content = _inflated(path, raw, claimed + BEHIND_BYTES + 1)
    if len(content) > claimed + BEHIND_BYTES:
        raise Refusal(
            path,
            found=f"more than {len(content) - 1} bytes, of which the header explains {claimed}",
            needed="a file of the size that its header says",
            remedy="check the header, or copy or download the file again",
        )
    return content


def _inflated(path: Path, raw: bytes, most: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            return stream.read(most)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refusal(
            path,
            found=f"a damaged or truncated gzip stream of {len(raw)} bytes ({error})",
            needed="a complete file",
            remedy="copy or download it again",
        ) from error


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(C, I, J, K) and affine in mm."""
    import nibabel as nib

    header_path, data_path = _pair(path)
    raw = _start(header_path)
    with parsing(path, needed="a NIfTI header", remedy="copy or convert the file again"):
        kind, pair = _kind(raw, nib)
        if kind is None:
            raise Refusal(
                path,
                found="no NIfTI signature (Analyze 7.5 has none either, and does not tell left from right)",
                needed="a NIfTI-1 or NIfTI-2 file",
                remedy="convert it to NIfTI with a tool that knows its orientation",
            )
        header = kind.header_class.from_fileobj(io.BytesIO(raw))
        # nibabel's check turns a voxel size of 0 into 1, so this is taken from the header as it is
        pixdim = np.asarray(
            kind.header_class.from_fileobj(io.BytesIO(raw), check=False)["pixdim"][1:4], dtype=np.float64
        )
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset())
        slope, intercept = header.get_slope_inter()
        unit = header.get_xyzt_units()[0]
    stored = _voxels(path, data_path if pair else header_path, shape, dtype, offset)
    with parsing(path, needed="a readable sform or qform", remedy="repair the header's orientation"):
        affine = _affine(path, header, pixdim)
    affine[:3] *= MM_PER_UNIT[unit]
    array = _channels_first(path, stored)
    if slope is None or (slope == 1 and intercept == 0):
        return array, affine
    return _scaled(array, slope, intercept), affine


def _pair(path: Path) -> tuple[Path, Path]:
    """Header and data file; the same one except for .hdr/.img."""
    suffix = path.suffix
    if suffix.lower() not in (".hdr", ".img"):
        return path, path
    upper = suffix.isupper()
    header, data = (path.with_suffix(s.upper() if upper else s) for s in (".hdr", ".img"))
    for part in (header, data):
        if not part.is_file():
            raise Refusal(
                path, found=f"no {part.name} beside it", needed="both .hdr and .img", remedy="put them in one folder"
            )
    return header, data


def _kind(raw: bytes, nib: Any) -> tuple[Any, bool]:
    """nibabel's image class by the magic bytes, and whether the voxels are in a file of their own."""
    if raw[344:348] in (b"n+1\0", b"ni1\0"):
        return nib.Nifti1Image, raw[344:346] == b"ni"
    if raw[4:8] in (b"n+2\0", b"ni2\0"):
        return nib.Nifti2Image, raw[4:6] == b"ni"
    return None, False


def _voxels(path: Path, data_path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int) -> np.ndarray:
    """Read-only view of the stored voxels, in native byte order."""
    if dtype.kind not in "iuf":
        raise Refusal(
            path,
            found=f"voxels of type {dtype}",
            needed="integer or real voxels",
            remedy="convert colours or complex numbers to one real channel each",
        )
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    possible = bool(shape) and min(shape) >= 1 and offset >= 0
    raw = _content(data_path, offset + expected) if possible else b""
    if not possible or len(raw) - offset < expected:
        raise Refusal(
            path,
            found=f"{max(len(raw) - offset, 0)} bytes of voxels for shape {tuple(map(int, shape))} of {dtype}",
            needed=f"{expected} bytes",
            remedy="the file is truncated or its header damaged; copy or download it again",
        )
    stored = np.ndarray(shape, dtype, buffer=raw, offset=offset, order="F")
    if dtype.itemsize > 8:  # long double differs between machines, and nothing downstream takes it
        return stored.astype(np.float64)
    return stored if dtype.isnative else stored.astype(dtype.newbyteorder("="))


def _channels_first(path: Path, stored: np.ndarray) -> np.ndarray:
    """(I, J[, K[, C]]) or (I, J, K, 1, C) as ITK writes vectors -> (C, I, J, K), a view."""
    shape = list(stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) == 5 and shape[3] == 1:
        del shape[3]
    if len(shape) > 4:
        raise Refusal(
            path,
            found=f"{len(shape)} axes {tuple(shape)}",
            needed="three axes, or four with the channels last",
            remedy="split the file along its extra axes",
        )
    shape += [1] * (3 - len(shape))
    volume = stored.reshape(shape, order="F")
    return volume[None] if volume.ndim == 3 else np.moveaxis(volume, 3, 0)


def _scaled(array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """stored * slope + intercept as float32, in double precision slice by slice to keep memory low."""
    scaled = np.empty(array.shape[::-1], dtype=np.float32).T
    for channel in range(array.shape[0]):
        for k in range(array.shape[3]):
            scaled[channel, :, :, k] = array[channel, :, :, k].astype(np.float64) * slope + intercept
    return scaled


def _affine(path: Path, header: Any, pixdim: np.ndarray) -> np.ndarray:
    """nibabel's choice between sform and qform, refused when there is none or it is singular."""
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    needed, remedy = "an affine that places every voxel", "repair the header, for example with nibabel or fslorient"
    if sform_code <= 0 and qform_code <= 0:
        found = "neither a qform nor an sform (both codes 0), so left and right are unknown"
        raise Refusal(path, found=found, needed=needed, remedy=remedy)
    axes = int(np.clip(int(header["dim"][0]), 1, 3))
    if not np.isfinite(pixdim).all() or (pixdim[:axes] == 0).any():
        raise Refusal(path, found=f"voxel sizes (pixdim) {pixdim.tolist()}", needed=needed, remedy=remedy)
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise Refusal(path, found=f"a singular affine {affine.tolist()}", needed=needed, remedy=remedy)
    if sform_code > 0 and qform_code > 0:
        difference = float(np.abs(affine - header.get_qform()).max())
        if difference > DISAGREEMENT_MM:
            log.warning("%s: sform and qform differ by up to %.3g; the sform is used", path, difference)
    return affine


def _read_mgh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(C, I, J, K) and affine in mm; MGH is always in mm and never scaled."""
    import nibabel as nib

    raw = _start(path)
    with parsing(path, needed="an MGH header", remedy="copy or convert the file again"):
        header = nib.MGHImage.header_class.from_fileobj(io.BytesIO(raw))
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset())
        affine = np.array(header.get_affine(), dtype=np.float64)
    if int(header["goodRASFlag"]) != 1:
        raise Refusal(
            path,
            found="no orientation (goodRASFlag is not 1)",
            needed="an affine that places every voxel",
            remedy="convert it to NIfTI with mri_convert, giving the orientation",
        )
    return _channels_first(path, _voxels(path, path, shape, dtype, offset)), affine
