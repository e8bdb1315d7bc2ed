"""Splits: files, refusals, prescribed folds, slices."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from medseg.case import Case, CaseSet
from medseg.data.splits import STAMP, Split, SplitSettings, leaks, load, make
from medseg.labels import LabelTable
from medseg.refusal import Refusal

CASES = [Case(name, name[0], {}) for name in ("a1", "a2", "b1", "c1", "c2", "d1")]


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
@pytest.mark.parametrize("kind", ["kfold", "holdout", "none", "slice"])
def test_a_saved_split_comes_back(tmp_path: Path, suffix: str, kind: str) -> None:
    split = make(CASES, SplitSettings(kind=kind, folds=3, fold=1 if kind == "kfold" else 0, seed=4, validation=0.3))
    path = tmp_path / f"split{suffix}"
    split.save(path)
    again = load(path, CASES)
    assert (again.train, again.validation, again.stamp, again.folds) == (
        split.train,
        split.validation,
        split.stamp,
        split.folds,
    )
    assert [again.slice_side("a1", k) for k in range(30)] == [split.slice_side("a1", k) for k in range(30)]


def test_the_file_is_readable_and_holds_all_folds(tmp_path: Path) -> None:
    make(CASES, SplitSettings(folds=4)).save(tmp_path / "split.yaml")
    content = yaml.safe_load((tmp_path / "split.yaml").read_text(encoding="utf-8"))
    assert list(content) == ["kind", "stamp", "seed", "fold", "folds"] and len(content["folds"]) == 4


def test_a_file_is_reused_with_another_fold(tmp_path: Path) -> None:
    original = make(CASES, SplitSettings(folds=4))
    original.save(tmp_path / "s.json")
    reused = make(CASES, SplitSettings(kind="file", file=tmp_path / "s.json", fold=2))
    assert (reused.train, reused.validation) == original.folds[2]
    with pytest.raises(Refusal, match="fold 4 of 4"):
        make(CASES, SplitSettings(kind="file", file=tmp_path / "s.json", fold=4))


def test_nnunets_split_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "splits_final.json", [{"train": ["a1", "a2"], "val": ["b1"]}])
    assert load(path, CASES).validation == ("b1",)


def test_a_leaking_patient_is_refused_with_both_cases(tmp_path: Path) -> None:
    path = written(tmp_path / "s.json", {"folds": [{"train": ["a1", "b1"], "validation": ["a2", "c1"]}]})
    with pytest.raises(Refusal) as caught:
        load(path, CASES)
    assert all(word in str(caught.value) for word in ("patient 'a'", "case 'a1'", "case 'a2'", str(path)))


def test_a_leak_in_a_fold_that_is_not_used_is_refused_too(tmp_path: Path) -> None:
    folds = [{"train": ["a1", "a2"], "validation": ["b1"]}, {"train": ["c1"], "validation": ["c2"]}]
    with pytest.raises(Refusal, match="patient 'c'"):
        load(written(tmp_path / "s.json", {"folds": folds}), CASES)


@pytest.mark.parametrize(
    ("train", "validation", "says"),
    [
        (["a1", "zz"], ["b1"], "unknown case 'zz' on the side 'train'"),
        (["a1", "a1"], ["b1"], "case 'a1' twice"),
        (["a1"], [], "no case on the side 'validation'"),
        (["b1"], ["b1"], "case 'b1' on both sides"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, train: list[str], validation: list[str], says: str) -> None:
    path = written(tmp_path / "s.json", {"folds": [{"train": train, "validation": validation}]})
    with pytest.raises(Refusal, match=says):
        load(path, CASES)


@pytest.mark.parametrize("content", ["{", "[]", '{"folds": 3}', '{"folds": [{"train": ["a1"]}]}', '{"folds": [[1]]}'])
def test_broken_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Refusal, match=r"s\.json"):
        load(path, CASES)


def test_no_file() -> None:
    with pytest.raises(Refusal, match=r"split\.file"):
        make(CASES, SplitSettings(kind="file"))
    with pytest.raises(Refusal, match=r"nowhere\.json"):
        make(CASES, SplitSettings(kind="file", file=Path("nowhere.json")))


def test_an_exception_stays_stamped_in_its_file(tmp_path: Path) -> None:
    make(CASES, SplitSettings(kind="none")).save(tmp_path / "s.json")
    content = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    written(tmp_path / "s.json", content | {"stamp": ""})
    assert load(tmp_path / "s.json", CASES).stamp == STAMP


def test_more_folds_than_patients() -> None:
    with pytest.raises(Refusal, match="5 folds for 4 patients"):
        make(CASES, SplitSettings(folds=5))
    with pytest.raises(Refusal, match="one patient"):
        make(CASES[:2], SplitSettings(kind="holdout"))


def test_a_fold_that_is_not_there() -> None:
    with pytest.raises(Refusal, match="fold 3 of 3"):
        make(CASES, SplitSettings(folds=3, fold=3))


def test_double_ids_and_no_cases() -> None:
    with pytest.raises(Refusal, match="'a1' 2 times"):
        make([*CASES, CASES[0]], SplitSettings())
    with pytest.raises(Refusal, match="no cases"):
        make([], SplitSettings())


def test_prescribed_folds_are_kept() -> None:
    cases = [Case(f"c{n}", f"p{n}", {}, fold=n % 3) for n in range(6)]
    split = make(cases, SplitSettings(folds=5, fold=1))
    assert split.validation == ("c1", "c4") and len(split.folds) == 3


def test_prescribed_folds_may_not_leak_or_be_partial() -> None:
    with pytest.raises(Refusal, match="patient 'p'"):
        make([Case("x", "p", {}, fold=0), Case("y", "p", {}, fold=1)], SplitSettings())
    with pytest.raises(Refusal, match=r"'y'.*no fold"):
        make([Case("x", "p", {}, fold=0), Case("y", "q", {})], SplitSettings())


def test_stratification_needs_to_know_the_classes() -> None:
    with pytest.raises(Refusal, match=r"split\.stratify"):
        make(CASES, SplitSettings(folds=2, stratify="classes"))
    with pytest.raises(Refusal, match="case 'd1'"):
        make(CASES, SplitSettings(folds=2, stratify="classes"), presence={c.id: frozenset() for c in CASES[:-1]})


def test_centres_are_spread() -> None:
    cases = [Case(f"c{n}", f"p{n}", {}, centre="A" if n < 4 else "B") for n in range(8)]
    split = make(cases, SplitSettings(folds=4, stratify="centre"))
    assert all({cases[int(case[1])].centre for case in side} == {"A", "B"} for _, side in split.folds)


def test_slices_of_one_case_are_divided() -> None:
    split = make(CASES, SplitSettings(kind="slice", validation=0.25, seed=1))
    sides = [split.slice_side(case.id, k) for case in CASES for k in range(200)]
    assert 0.2 < sides.count("validation") / len(sides) < 0.3
    other = make(CASES, SplitSettings(kind="slice", validation=0.25, seed=2))
    assert sides != [other.slice_side(case.id, k) for case in CASES for k in range(200)]
    whole = make(CASES, SplitSettings(folds=4))
    assert whole.slice_side(whole.validation[0], 3) == "validation"


def test_leaks_lists_each_patient_once() -> None:
    assert leaks(["a1", "a2", "c1"], ["a1", "c2", "c1"], CASES) == [("a", "a1", "a1"), ("c", "c1", "c1")]


def test_settings_are_held_in_bounds() -> None:
    for wrong in ({"folds": 1}, {"validation": 0}, {"validation": 1}, {"fold": -1}, {"kind": "random"}):
        with pytest.raises(ValidationError):
            SplitSettings(**wrong)  # type: ignore[arg-type]
    assert Split(("a",), ("b",)).settings == SplitSettings()


@pytest.mark.parametrize("other", ["p01", " P01", "Ｐ01", "P01\u00a0"])
def test_a_patient_written_in_two_ways_is_refused(other: str) -> None:
    table = LabelTable.of({"liver": 1})
    with pytest.raises(Refusal, match="'P01' for case 'a'") as refused:
        CaseSet((Case("a", "P01", {}), Case("b", other, {})), ("image",), table)
    assert ascii(other) in str(refused.value)


def test_accents_in_one_sign_or_in_two_are_one_patient() -> None:
    composed, apart = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    with pytest.raises(Refusal, match=r"M\\xfcller"):
        CaseSet((Case("a", composed, {}), Case("b", apart, {})), ("image",), LabelTable.of({"liver": 1}))
    CaseSet((Case("a", "P1", {}), Case("b", "P01", {})), ("image",), LabelTable.of({"liver": 1}))


def test_one_image_of_two_patients_is_refused() -> None:
    """Lines of a table for each lesion, with the case's name as the patient's."""
    table, image = LabelTable.of({"liver": 1}), Path("scans/1.nii.gz")
    a, b = (Case(name, name, {"image": image}) for name in ("lesion1", "lesion2"))
    with pytest.raises(Refusal, match=r"scans/1\.nii\.gz: found patient 'lesion2' .* 'lesion1' for case"):
        CaseSet((a, b), ("image",), table)
    CaseSet((a, replace(b, patient="lesion1")), ("image",), table)
    shared = [replace(case, images={**case.images, "own": Path(case.id)}) for case in (a, b)]
    CaseSet(tuple(shared), ("image", "own"), table)
