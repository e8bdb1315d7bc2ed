"""The data check: a clean set has no problem, and every kind of problem is found when a case is broken that way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.case import Case, CaseSet
from medseg.data.splits import STAMP, Split
from medseg.datasets import folder, msd
from medseg.engine.check import Problem, check, examine
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.volume import Volume


def read(path: Path) -> Volume:
    """Stand-in for the readers."""
    try:
        image = nib.load(path)
        array = np.asarray(image.dataobj)
    except nib.filebasedimages.ImageFileError as error:
        raise Refusal(path, found=str(error), needed="a NIfTI file", remedy="replace it") from error
    return Volume(np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None], image.affine)


@pytest.fixture
def data(tmp_path: Path) -> CaseSet:
    return folder.cases(folder.example(tmp_path))


def rewrite(path: Path | None, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    assert path is not None
    image = nib.load(path)
    array = change(np.array(image.dataobj))
    nib.save(nib.Nifti1Image(array, image.affine if affine is None else affine), path)


def only(data: CaseSet) -> Problem:
    problems = check(data, patient_split=None, read=read)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def image_of(case: Case) -> Path:
    return next(iter(case.images.values()))


def test_a_clean_set(data: CaseSet) -> None:
    steps: list[tuple[int, int, str]] = []
    found = examine(data, read=read, progress=lambda *step: steps.append(step), workers=2)
    assert found.problems == ()
    assert found.presence == {case: frozenset({"left", "right"}) for case in ("a1", "a2", "b1")}
    assert steps == [(1, 3, "a1"), (2, 3, "a2"), (3, 3, "b1")]


def test_several_channels_in_one_file(tmp_path: Path) -> None:
    assert check(msd.cases(msd.example(tmp_path)), patient_split=None, read=read) == []


@pytest.mark.parametrize("which", ["image", "target"])
def test_missing_file(data: CaseSet, which: str) -> None:
    gone = image_of(data.cases[1]) if which == "image" else data.cases[1].target
    assert gone is not None
    gone.unlink()
    problem = only(data)
    assert (problem.case, problem.problem, problem.file) == ("a2", "missing file", str(gone))


def test_unreadable_file(data: CaseSet) -> None:
    image_of(data.cases[0]).write_bytes(b"no image")
    problem = only(data)
    assert problem.problem == "unreadable file" and problem.needed == "a NIfTI file"


def test_an_error_that_is_no_refusal(data: CaseSet) -> None:
    def broken(path: Path) -> Volume:
        if path == data.cases[0].target:
            raise EOFError("cut off")
        return read(path)

    problems = check(data, patient_split=None, read=broken)
    assert [(p.case, p.problem, p.found) for p in problems] == [("a1", "unreadable file", "EOFError: cut off")]


def test_an_image_without_anything_in_it(data: CaseSet) -> None:
    rewrite(image_of(data.cases[1]), np.zeros_like)
    problem = only(data)
    assert (problem.case, problem.problem, problem.fatal) == ("a2", "blank image", False)
    assert problem.found == "one number in every voxel" and problem.file == str(image_of(data.cases[1]))


def test_label_of_another_shape(data: CaseSet) -> None:
    rewrite(data.cases[0].target, lambda array: array[:-1])
    problem = only(data)
    assert problem.problem == "label map on another grid" and "5 x 5 x 4 voxels instead of 6 x 5 x 4" in problem.found


@pytest.mark.parametrize(("shift", "found"), [(0.05, 0), (0.2, 1)])
def test_label_elsewhere(data: CaseSet, shift: float, found: int) -> None:
    affine = np.diag([1.5, 1.5, 3.0, 1.0])
    affine[0, 3] = shift
    rewrite(data.cases[0].target, lambda array: array, affine)
    problems = check(data, patient_split=None, read=read)
    assert [problem.problem for problem in problems] == ["label map on another grid"] * found
    assert all("0.2 mm" in problem.found for problem in problems)


def test_a_label_map_in_another_axis_order_is_no_problem(data: CaseSet) -> None:
    """As for training: it is turned exactly."""
    affine = np.diag([-1.5, 1.5, 3.0, 1.0])
    affine[0, 3] = 1.5 * 5
    rewrite(data.cases[0].target, lambda array: array[::-1], affine)
    assert check(data, patient_split=None, read=read) == []


def test_channels_on_different_grids(data: CaseSet) -> None:
    cases = tuple(replace(case, images={"a": image_of(case), "b": image_of(case)}) for case in data.cases[:1])
    two = replace(data, cases=cases, channels=("a", "b"))
    assert check(two, patient_split=None, read=read) == []
    moved = image_of(data.cases[0]).with_name("moved.nii.gz")
    moved.write_bytes(image_of(data.cases[0]).read_bytes())
    rewrite(moved, lambda array: array, np.diag([1.5, 1.5, 4.0, 1.0]))
    two = replace(two, cases=(replace(cases[0], images={"a": image_of(data.cases[0]), "b": moved}),))
    assert only(two).problem == "channels on different grids"
    assert examine(two, read=read, channels_may_differ=True).problems == ()


def test_wrong_number_of_channels(data: CaseSet) -> None:
    problems = check(replace(data, channels=("a", "b")), patient_split=None, read=read)
    assert {problem.problem for problem in problems} == {"wrong number of channels"} and len(problems) == 3
    assert "files_hold" in problems[0].remedy


def test_unknown_labels(data: CaseSet) -> None:
    rewrite(data.cases[2].target, lambda array: np.where(array == 2, 7, array).astype(np.uint8))
    problem = only(data)
    assert (problem.problem, problem.found, problem.needed) == ("unknown labels", "7", "only 0, 1, 2")
    assert examine(data, read=read).presence["b1"] == {"left"}


@pytest.mark.parametrize("value", [0.5, np.nan, -1.0])
def test_labels_that_are_not_whole_numbers(data: CaseSet, value: float) -> None:
    rewrite(data.cases[0].target, lambda array: np.where(array == 2, value, array).astype(np.float32))
    assert only(data).problem == "label map not of whole numbers"


def test_whole_numbers_stored_as_floats_are_fine(data: CaseSet) -> None:
    rewrite(data.cases[0].target, lambda array: array.astype(np.float32))
    assert check(data, patient_split=None, read=read) == []


def test_label_map_with_channels(data: CaseSet) -> None:
    rewrite(data.cases[0].target, lambda array: np.stack([array, array], -1))
    assert only(data).problem == "label map with several channels"


def test_empty_label_map_is_no_reason_to_stop(data: CaseSet) -> None:
    rewrite(data.cases[0].target, np.zeros_like)
    problem = only(data)
    assert problem.problem == "empty label map" and not problem.fatal
    assert examine(data, read=read).presence["a1"] == frozenset()


def test_a_label_that_no_case_has(data: CaseSet) -> None:
    mistyped = replace(data, labels=LabelTable.of({"left": 1, "right": 2, "tumour": 22}))
    problem = only(mistyped)
    assert problem.case == "all" and problem.found.startswith("'tumour' (22)") and not problem.fatal


def test_no_label_map(data: CaseSet) -> None:
    without = replace(data, cases=(replace(data.cases[0], target=None), *data.cases[1:]))
    problem = only(without)
    assert (problem.problem, problem.file) == ("no label map", str(image_of(data.cases[0])))
    assert examine(without, read=read, need_labels=False).problems == ()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_without_a_value(data: CaseSet, value: float) -> None:
    rewrite(image_of(data.cases[0]), lambda array: np.where(array == array[0, 0, 0], value, array))
    problem = only(data)
    assert problem.problem == "voxels without a value" and problem.found.startswith("1 voxel")


def test_patients_on_two_sides(data: CaseSet) -> None:
    split = Split(train=("a1",), validation=("a2", "b1", "zz"))
    problems = check(data, patient_split=split, read=read)
    assert [(p.problem, p.case) for p in problems] == [
        ("patient on two sides", "a1 and a2"),
        ("unknown case in the split", "zz"),
    ]
    assert check(data, patient_split=replace(split, stamp=STAMP), read=read) == []
    begun = replace(split, stamp=f"{STAMP}: init.weights have learned from 1 of the patients")
    assert check(data, patient_split=begun, read=read) == problems
    assert check(data, patient_split=Split(("a1", "a2"), ("b1",)), read=read) == []


def test_identical_images(data: CaseSet) -> None:
    image_of(data.cases[2]).write_bytes(image_of(data.cases[0]).read_bytes())
    problem = only(data)
    assert (problem.case, problem.problem, problem.fatal) == ("a1 and b1", "identical images", True)
    assert all(patient in problem.found for patient in ("'a'", "'b'"))


def test_blank_images_are_not_identical(data: CaseSet) -> None:
    for case in (data.cases[0], data.cases[2]):
        rewrite(image_of(case), np.zeros_like)
    assert {problem.problem for problem in check(data, patient_split=None, read=read)} == {"blank image"}


def test_identical_images_of_one_patient_do_not_stop(data: CaseSet) -> None:
    image_of(data.cases[1]).write_bytes(image_of(data.cases[0]).read_bytes())
    assert not only(data).fatal


def test_a_flipped_and_converted_copy_is_identical(data: CaseSet) -> None:
    """Stored front to back and in another number type, but the same image in the same orientation."""
    path, copy = image_of(data.cases[0]), image_of(data.cases[2])
    rewrite(path, np.rint)
    affine = np.diag([-1.5, 1.5, 3.0, 1.0])
    affine[0, 3] = 1.5 * 5
    array = np.asarray(nib.load(path).dataobj)[::-1]
    nib.save(nib.Nifti1Image(array.astype(np.int16), affine), copy)
    rewrite(data.cases[2].target, lambda array: array, affine)
    assert only(data).problem == "identical images"


def test_duplicate_ids(data: CaseSet) -> None:
    double = replace(data, cases=(*data.cases, replace(data.cases[2], id="a1")))
    kinds = {problem.problem for problem in check(double, patient_split=None, read=read)}
    assert kinds == {"duplicate case id", "identical images"}


def test_all_problems_in_one_pass(data: CaseSet) -> None:
    image_of(data.cases[0]).unlink()
    rewrite(data.cases[1].target, lambda array: array + 5)
    rewrite(data.cases[2].target, lambda array: array[1:])
    problems = check(data, patient_split=None, read=read)
    assert [(problem.case, problem.problem) for problem in problems] == [
        ("a1", "missing file"),
        ("a2", "unknown labels"),
        ("a2", "empty label map"),
        ("b1", "label map on another grid"),
    ]
    assert str(problems[0]).startswith("case a1, ") and "What to do: " in str(problems[0])


def test_regions_are_present_by_their_members(data: CaseSet) -> None:
    regions = replace(data, labels=LabelTable.of({"whole": [1, 2], "core": [2]}))
    rewrite(data.cases[0].target, lambda array: np.minimum(array, 1))
    assert examine(regions, read=read).presence["a1"] == {"whole"}
