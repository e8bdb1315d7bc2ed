"""Cleaned files before a validator: it finds nothing that it did not find in the original."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests import reference
from tests.judges import dciodvfy, needs
from tests.unit.test_deidentify_folders import command, files

pytestmark = needs("dciodvfy")
REAL = (
    ("dicom/highdicom/ct_image.dcm", "none"),
    ("dicom/highdicom/ct_image.dcm", "dates,patient,private,device,institution,descriptors"),
    ("dicom/highdicom/seg_image_ct_binary.dcm", "dates,patient,private"),
    ("dicom/dcm_qa_ct_philips_tilt/I110", "dates,patient,private"),
    ("dicom/lctsc_rtstruct/RT.dcm", "dates,patient,private"),
    ("pet/acrin_flt/1.dcm", "none"),
    ("pet/acrin_flt/1.dcm", "dates,patient,private"),
    ("dicom/pydicom_data/emri_small.dcm", "none"),
)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_there_are_no_new_errors(tmp_path: Path, name: str) -> None:
    compare(tmp_path, Path(str(get_testdata_file(name, download=False))))


@pytest.mark.parametrize(("path", "kept"), REAL)
@pytest.mark.reference_data
@pytest.mark.skipif(not reference.ROOT.is_dir(), reason="MEDSEG_REFERENCE_DATA names no folder of reference scans")
def test_there_are_none_in_real_files(tmp_path: Path, path: str, kept: str) -> None:
    compare(tmp_path, reference.ROOT / path, "--keep", kept)


def compare(folder: Path, original: Path, *more: str) -> None:
    (folder / "in").mkdir()
    shutil.copy(original, folder / "in" / "x")
    command(folder / "in", folder / "out", *more)
    (after,) = files(folder / "out")
    assert set(dciodvfy(after)) <= set(dciodvfy(original))
