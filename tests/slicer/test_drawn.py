"""What was drawn, as it lands in a training label map: on the scan's voxels, under the model's names, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.labels import LabelTable
from MedSegLib import cases
from MedSegLib.cases import Correction
from MedSegLib.trouble import Trouble
from tests import tiny
from tests.slicer import corrected
from tests.slicer.corrected import SHAPE, box, label_map, run_with, saved


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / corrected.ODD


def test_a_cropped_segmentation_is_put_into_its_place(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    part = np.ones((3, 4, 2), bool)
    saved(place, run, {"liver": part}, case="a", start=(2, -1, 4))
    assert np.array_equal(label_map(place / "data", "a"), box(slice(2, 5), slice(0, 3), slice(4, 6)))


def test_another_grid_is_refused(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    with pytest.raises(Trouble, match=r"another grid than the scan \(8 x 7 x 6 voxels of 1\.5 x 1\.5 x 2 mm"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a", start=(0.5, 0, 0))
    assert not (place / "data").exists()


def test_segments_of_other_names_are_told(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1, "spleen": 2}))
    empty = np.zeros(SHAPE, bool)
    done = saved(place, run, {"liver": box(slice(0, 2)), "spleen": empty, "my notes": box(slice(4, 5))}, case="a")
    assert done.notes == (
        "Left out, as the model has no such label: my notes.",
        "The case teaches that this is not there: spleen.",
    )
    with pytest.raises(Trouble, match=r"None of the segments \(my notes\).*Name them: liver, spleen"):
        saved(place, run, {"my notes": box(slice(4, 5))}, case="b")


def test_a_label_map_by_numbers(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 5}))
    model = corrected.model(run)
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.float32), packed=False)
    labels = corrected.scan(place / "labels.nrrd", np.where(box(slice(0, 2)), 5, 0).astype(np.int16))
    cases.save_case(place / "data", Correction([("CT", scan)], labels, case="a"), model)
    assert np.array_equal(label_map(place / "data", "a"), 5 * box(slice(0, 2)))
    corrected.scan(place / "labels.nrrd", np.full(SHAPE, 7, np.int16))
    with pytest.raises(Trouble, match="the number 7, which no label of the model has"):
        cases.save_case(place / "data", Correction([("CT", scan)], labels, case="b"), model)


@pytest.mark.parametrize("start", [(1000, 0, 0), (8, 0, 0), (0, -7, 0)])
def test_what_lies_beside_the_scan_is_refused(place: Path, start: tuple[int, int, int]) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    for drawn in (box(slice(0, 8)), np.zeros(SHAPE, bool)):
        with pytest.raises(Trouble, match="wholly outside of the scan") as caught:
            saved(place, run, {"liver": drawn}, case="a", start=start)
        assert caught.value.failure.code == "outside" and not (place / "data").exists()


def test_voxels_that_are_all_outside_are_refused_though_the_grids_meet(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    with pytest.raises(Trouble, match="wholly outside of the scan"):
        saved(place, run, {"liver": box(slice(5, 8))}, case="a", start=(3, 0, 0))
    labels = corrected.scan(place / "l.nrrd", box(slice(0, 2)).astype(np.uint8), moved(-2))
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16))
    with pytest.raises(Trouble, match="wholly outside of the scan"):
        cases.save_case(place / "data", Correction([("CT", scan)], labels, case="a"), corrected.model(run))
    assert not (place / "data").exists()


def moved(voxels: float) -> np.ndarray:
    """The usual grid, begun so many voxels later along i."""
    affine = tiny.AFFINE.copy()
    affine[:3, 3] += voxels * affine[:3, 0]
    return affine


def test_what_is_cut_off_is_counted(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1, "spleen": 2}))
    masks = {"liver": box(slice(0, 4)), "spleen": box(slice(4, 8))}
    done = saved(place, run, masks, case="a", start=(3, 0, 0))
    assert done.notes == ("Cut off, as it lies outside of the scan: 126 voxels of spleen.",)
    assert np.array_equal(label_map(place / "data", "a"), box(slice(3, 7)) + 2 * box(slice(7, 8)))
    labels = corrected.scan(place / "l.nrrd", box(slice(0, 4)).astype(np.uint8), moved(-1))
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16))
    done = cases.save_case(place / "data", Correction([("CT", scan)], labels, case="b"), corrected.model(run))
    assert done.notes == ("Cut off, as it lies outside of the scan: 42 voxels.",)


def test_nothing_drawn_at_all_is_a_case_too(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    done = saved(place, run, {"liver": np.zeros(SHAPE, bool)}, case="a")
    assert done.notes == ("The case teaches that this is not there: liver.",)


@pytest.mark.parametrize("side", [1.5, 0.012])
def test_a_tenth_of_a_voxel_is_another_grid_whatever_its_size(place: Path, side: float) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    grid, near, far = (np.diag([side, side, side, 1.0]) for _ in range(3))
    near[0, 3], far[0, 3] = 0.001 * side, 0.1 * side
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16), grid)
    masks = {"liver": box(slice(0, 2))}
    for name, affine in (("near", near), ("far", far)):
        corrected.segmentation(place / f"{name}.seg.nrrd", masks, affine=affine)
    one, other = (Correction([("CT", scan)], place / f"{name}.seg.nrrd", case="a") for name in ("near", "far"))
    assert cases.save_case(place / "data", one, corrected.model(run)).notes == ()
    with pytest.raises(Trouble, match="another grid than the scan"):
        cases.save_case(place / "data", other, corrected.model(run))


def test_two_segments_of_one_name_are_refused(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1, "spleen": 2}))
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16))
    labels = corrected.segmentation(place / "l.seg.nrrd", {"liver": box(slice(0, 2)), "spleen": box(slice(4, 6))})
    labels.write_bytes(labels.read_bytes().replace(b"Segment1_Name:=spleen", b"Segment1_Name:=liver"))
    with pytest.raises(Trouble, match=r"Two segments have the name liver.*Unite them"):
        cases.save_case(place / "data", Correction([("CT", scan)], labels, case="a"), corrected.model(run))
    assert not (place / "data").exists()


def test_a_segment_that_may_be_a_label_under_another_name_is_refused_before_anything_is_written(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1, "spleen": 2, "left kidney": 3}))
    masks = {"L1ver": box(slice(0, 2)), "spleen": box(slice(4, 6))}
    with pytest.raises(Trouble) as caught:
        saved(place, run, masks, case="a")
    assert caught.value.failure.code == "absent" and not (place / "data").exists()
    assert caught.value.failure.what == (
        "The model has no label 'L1ver', and there is no segment 'liver' or 'left kidney': the case would teach that "
        "this is not there."
    )


def test_no_question_where_no_segment_can_be_the_label(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1, "spleen": 2}))
    few = saved(place, run, {"liver": box(slice(0, 2))}, case="a")
    assert few.notes == ("The case teaches that this is not there: spleen.",)
    whole = {"liver": box(slice(0, 2)), "spleen": np.zeros(SHAPE, bool), "a note": box(slice(3, 4))}
    assert saved(place, run, whole, case="b").cases == 2


def test_of_many_labels_some_are_named(place: Path) -> None:
    run = run_with(place, LabelTable.of({f"rib {n}": n for n in range(1, 25)}))
    with pytest.raises(Trouble, match=r"segment 'rib 2', .* 'rib 9' or 15 others: the case"):
        saved(place, run, {"rib 1": box(slice(0, 2)), "rib": box(slice(4, 6))}, case="a")
