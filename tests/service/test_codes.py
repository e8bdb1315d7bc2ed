"""Why something was refused, in a word for programs: each is explained, and what hospitals meet has one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg import readers
from medseg.dicom import preflight
from medseg.dicom.preflight import Finding, Verdict
from medseg.dicom.settings import DicomSettings, SeriesRules
from medseg.refusal import CODES, Refusal
from medseg.service.journal.states import REASONS
from tests import dicom_series as ds
from tests import dicom_study
from tests.tiny import ROOT

SOURCES = sorted(Path(medseg.__file__).parent.rglob("*.py"))
NAMED = ("code", "reason_code")


def words(tree: ast.AST) -> Iterator[str]:
    """Every code that a call gives, and the kinds of findings that can refuse."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            given = [one.value for one in call.keywords if one.arg in NAMED]
            given += call.args[2:3] if getattr(call.func, "attr", "") == "give_back" else []
            for value in given:
                several = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
                yield from (
                    one.value for one in several if isinstance(one, ast.Constant) and isinstance(one.value, str)
                )


def test_every_code_in_the_tree_is_explained() -> None:
    found = {word for path in SOURCES for word in words(ast.parse(path.read_text(encoding="utf-8")))} - {""}
    assert {"no-series", "truncated", "pixels"} < found  # the search finds something
    assert found <= set(REASONS)
    assert all(word == word.lower() and " " not in word and len(word) <= 64 for word in REASONS)


def test_the_manual_explains_every_code() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("hospital*.md"))
    assert [code for code in REASONS if f"| `{code}` |" not in pages] == []


def test_every_finding_that_can_refuse_is_explained() -> None:
    kinds = {"missing", "spacing", "pixel spacing", "orientation", "size", "thickness", "repeated", "tilt", "drift"}
    kinds |= {"inexact", "room", "unplaced", "truncated", "patient", "frame of reference", "modality", "codec"}
    kinds |= {"stray", "several"}
    codes = {Finding(kind, "", Verdict.REFUSED).code for kind in kinds}
    assert codes <= set(CODES) and {"missing-slices", "no-geometry", "frame-of-reference"} < codes
    assert set(preflight.CODES) < kinds


PLACES = ds.places(8)


def without(name: str) -> list:
    slices = [ds.slice_(place, number=n) for n, place in enumerate(PLACES)]
    for one in slices:
        delattr(one, name)
    return slices


def cut(folder: Path) -> Path:
    ds.series(folder, PLACES)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    return folder


def broken(folder: Path) -> Path:
    ds.series(folder, PLACES)
    (folder / "IM0003.dcm").write_bytes(b"\0" * 300)
    return folder


def cut_header(folder: Path) -> Path:
    """A slice of which only the beginning has come, in a series that could do without it."""
    whole = (ds.series(folder, PLACES) / "IM0003.dcm").read_bytes()
    (folder / "IM0003.dcm").write_bytes(whole[: whole.index(b"P1") + 200])
    return folder


def without_pixels(folder: Path) -> Path:
    slices = without("PixelData")
    for one in slices:  # as compressed pixels, of which a header does not say how many bytes there are
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    return ds.write(folder, slices)


REPORT = "1.2.840.10008.5.1.4.1.1.88.33"
CASES = {
    "missing-slices": lambda folder: ds.series(folder, np.delete(ds.places(12, 6.0), [4, 5], axis=0)),
    "repeated": lambda folder: ds.series(folder, np.concatenate([PLACES, PLACES]), number=None),
    "tilt": lambda folder: ds.series(folder, ds.places(8, tilt=60)),
    "no-geometry": lambda folder: ds.write(folder, without("ImagePositionPatient")),
    "truncated": cut,
    "unreadable": broken,
    "pixels": without_pixels,
    "no-images": lambda folder: ds.write(folder, dicom_study.without_pixels(1, "", "SR", REPORT)),
    "several-series": lambda folder: dicom_study.write(folder, dicom_study.abdomen()),
}


@pytest.mark.parametrize("code", CASES)
def test_what_hospitals_meet_has_a_code(code: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        readers.read(CASES[code](tmp_path / "study"))
    assert caught.value.code == code


def test_a_slice_whose_header_was_cut_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="among the slices") as caught:
        readers.read(cut_header(tmp_path))
    assert caught.value.code == "no-geometry"


@pytest.mark.parametrize(("must", "code"), [({"modality": "CT"}, "several-series"), ({"modality": "US"}, "no-series")])
def test_a_choice_by_rules_says_whether_none_or_several_fit(must: dict, code: str, tmp_path: Path) -> None:
    rules = SeriesRules.model_validate({"must": must})
    folder = dicom_study.write(tmp_path, dicom_study.abdomen())
    with pytest.raises(Refusal) as caught:
        readers.read(folder, dicom=DicomSettings(select=rules))
    assert caught.value.code == code


def test_a_repair_that_is_not_allowed_has_the_code_of_what_it_would_mend(tmp_path: Path) -> None:
    folder = ds.series(tmp_path, np.delete(PLACES, 3, axis=0))
    assert readers.read(folder).array.size
    with pytest.raises(Refusal) as caught:
        readers.read(folder, dicom=DicomSettings(repair="refuse"))
    assert caught.value.code == "missing-slices"
