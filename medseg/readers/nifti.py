"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr/.img) and FreeSurfer .mgh/.mgz, through nibabel."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np

from medseg.boundary import parsing, refuse_not_finite
from medseg.geometry import grid_distance_mm
from medseg.readers import _voxels
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Source, Volume

log = logging.getLogger(__name__)

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgh", ".mgz")
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
DISAGREEMENT = 0.5
"""Voxels that the sform and the rest of the header may put a corner apart: single precision, and a shear that a qform
cannot hold; more is worth a line."""
HEADER_BYTES = 1024


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


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(C, I, J, K) and affine in mm."""
    import nibabel as nib

    header_path, data_path = _pair(path)
    raw = _voxels.start(header_path, HEADER_BYTES)
    with parsing(path, needed="a NIfTI header", remedy="copy or convert the file again"):
        kind, pair = _kind(raw, nib)
        if kind is None:
            raise Refusal(
                path,
                found="no NIfTI signature (Analyze 7.5 has none either, and does not tell left from right)",
                needed="a NIfTI-1 or NIfTI-2 file",
                remedy="convert it to NIfTI with a tool that knows its orientation",
            )
        block = raw[: kind.header_class.template_dtype.itemsize]  # without extensions, of whatever length they are
        header = kind.header_class(block)
        # nibabel's check turns a voxel size of 0 into 1, so this is taken from the header as it is
        pixdim = np.asarray(kind.header_class(block, check=False)["pixdim"][1:4], dtype=np.float64)
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset())
        slope, intercept = header.get_slope_inter()
        unit = header.get_xyzt_units()[0]
    with parsing(path, needed="a readable sform or qform", remedy="repair the header's orientation"):
        affine = _affine(path, header, pixdim)
    affine[:3] *= MM_PER_UNIT[unit]
    if slope is None or (slope == 1 and intercept == 0):
        slope, intercept = None, 0.0
    stored = _voxels.Stored(shape, dtype, offset, slope, intercept)
    return _voxels.load(path, data_path if pair else header_path, stored), affine


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
    if sform_code > 0:
        _warn_of_another(path, affine, None if qform_code <= 0 else header.get_qform(), header.get_data_shape(), pixdim)
    return affine


def _warn_of_another(
    path: Path, affine: np.ndarray, qform: np.ndarray | None, shape: tuple[int, ...], pixdim: np.ndarray
) -> None:
    """Say so where the qform, or without one the voxel sizes, contradict the sform: other programs go by these."""
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    name, other = "qform", qform
    if other is None:
        name, other = "pixdim", affine.copy()
        other[:3, :3] *= np.where(pixdim == 0, sides, np.abs(pixdim)) / sides
    first, second, third, *_ = (*map(int, shape), 1, 1, 1)
    apart = grid_distance_mm(affine, other, (first, second, third)) / float(sides.min())
    if apart > DISAGREEMENT:
        log.warning("%s: sform and %s put voxels up to %.3g voxels apart; the sform is used", path, name, apart)


def _read_mgh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(C, I, J, K) and affine in mm; MGH is always in mm and never scaled."""
    import nibabel as nib

    raw = _voxels.start(path, HEADER_BYTES)
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
    return _voxels.load(path, path, _voxels.Stored(shape, dtype, offset)), affine
