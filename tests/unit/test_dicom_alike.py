"""Two files of one object, written in two ways, and what makes them two."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from medseg.dicom.alike import alike
from tests import dicom_series as ds
from tests import judges

SYNTAXES = (uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless, uid.DeflatedExplicitVRLittleEndian)
NOISE = np.random.default_rng(0).integers(0, 2000, (64, 48)).astype(np.uint16)


def made(
    path: Path,
    syntax: uid.UID = uid.ExplicitVRLittleEndian,
    *,
    private: str = "odd",
    referenced: str = "1.2.3",
    **more: object,
) -> Path:
    """A slice with an attribute that nobody knows, and a sequence, as a file."""
    one = ds.slice_((0, 0, 1), rows=64, columns=48, **{"PixelData": NOISE.tobytes(), **more})  # type: ignore[arg-type]
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    item = Dataset()
    item.ReferencedSOPInstanceUID = referenced
    one.SourceImageSequence = [item]
    one.private_block(0x0099, "NOBODY KNOWS", create=True).add_new(1, "LO", private)
    one.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    if syntax.is_encapsulated:
        one.compress(syntax, generate_instance_uid=False)
    one.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_one_object_in_two_transfer_syntaxes_is_alike(syntax: uid.UID, tmp_path: Path) -> None:
    plain, other = made(tmp_path / "plain.dcm"), made(tmp_path / "other.dcm", syntax)
    assert alike(plain, other) and alike(other, plain)


def test_types_that_one_of_two_does_not_tell_make_no_difference(tmp_path: Path) -> None:
    plain = made(tmp_path / "plain.dcm")
    implicit = dcmread(plain)
    implicit.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    implicit.save_as(tmp_path / "implicit.dcm", implicit_vr=True, little_endian=True)
    assert alike(plain, tmp_path / "implicit.dcm")


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "P2"},
        {"private": "other"},
        {"referenced": "1.2.4"},
        {"AccessionNumber": "A1"},
        {"PixelData": (NOISE + (np.arange(48) == 9)).astype(np.uint16).tobytes()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_other_attribute_or_pixel_makes_two(change: dict[str, object], tmp_path: Path) -> None:
    assert not alike(made(tmp_path / "plain.dcm"), made(tmp_path / "other.dcm", uid.RLELossless, **change))  # type: ignore[arg-type]


def test_what_cannot_be_decoded_is_never_alike(tmp_path: Path) -> None:
    plain, cut = made(tmp_path / "plain.dcm"), made(tmp_path / "cut.dcm", uid.JPEG2000Lossless)
    cut.write_bytes(cut.read_bytes().replace(b"\xff\xd9", b"\0\0"))
    with pytest.raises(ValueError, match="cut before its end"):
        alike(plain, cut)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=" ".join(words), marks=judges.needs(words[0]))
        for words in (["dcmcjpeg", "+e1"], ["dcmconv", "+ti"], ["dcmconv", "+te", "-e", "+g"], ["gdcmconv", "--jpeg"])
    ],
)
def test_what_archives_make_of_an_object_is_alike(words: list[str], tmp_path: Path) -> None:
    plain, other = made(tmp_path / "plain.dcm"), tmp_path / "other.dcm"
    subprocess.run([*words, str(plain), str(other)], check=True, timeout=60)
    assert alike(plain, other)
