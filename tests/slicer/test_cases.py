"""Corrections as training cases: what lands in the data set, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.datasets import folder
from medseg.labels import LabelTable
from medseg.readers import read
from MedSegLib import cases, cohort, labeltable
from MedSegLib.cases import Correction
from MedSegLib.trouble import Trouble
from tests import tiny
from tests.slicer import corrected
from tests.slicer.corrected import SHAPE, box, label_map, run_with, saved

BRATS = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / corrected.ODD


def test_a_case_is_read_by_medseg_as_it_was_drawn(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 5, "spleen": 2}))
    liver, spleen = box(slice(0, 3)), box(slice(5, 7), slice(2, 4))
    done = saved(place, run, {"spleen": spleen, "liver": liver}, case="left_1", patient="p1")
    found = folder.cases(folder.Options(root=place / "data", files_hold=("CT",)))
    assert [(one.id, one.patient) for one in found.cases] == [("left_1", "p1")]
    assert (found.channels, found.labels.names) == (("CT",), ("liver", "spleen"))
    scan, labels = read(found.cases[0].images["CT"]), read(found.cases[0].target)
    assert np.array_equal(labels.array[0], np.where(liver, 5, np.where(spleen, 2, 0)))
    assert np.allclose(scan.affine, tiny.AFFINE) and np.allclose(labels.affine, tiny.AFFINE)
    assert np.array_equal(scan.array[0], np.random.default_rng((0, 0)).integers(0, 99, SHAPE))
    assert (done.cases, done.patients, done.replaced, done.notes) == (1, 1, None, ())


def test_headers_keep_nothing_but_geometry(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    saved(place, run, {"liver": box(slice(0, 2))}, case="a")
    for path in (place / "data").rglob("*.nrrd"):
        assert b"1.2.826" not in path.read_bytes()[:2000], path


def test_scans_of_other_programs(place: Path) -> None:
    """Big-endian, in RAS, not packed, with what its header says of the patient; and cut short."""
    run = run_with(place, LabelTable.of({"liver": 1}))
    voxels = np.random.default_rng(0).integers(0, 999, SHAPE).astype(">i2")
    lines = ["NRRD0004", "# of Mr Smith", "type: short", "dimension: 3", "content: Mr Smith", "endian: big"]
    lines += [f"sizes: {' '.join(map(str, SHAPE))}", "encoding: raw", "space: right-anterior-superior"]
    lines += ["space directions: (-1.5,0,0) (0,1.5,0) (0,0,2)", "space origin: (20,-30,5.5)", "owner:=Mr Smith", "", ""]
    scan, labels = place / "CT.nrrd", corrected.segmentation(place / "l.seg.nrrd", {"liver": box(slice(0, 2))})
    scan.write_bytes("\n".join(lines).encode() + voxels.T.tobytes())
    cases.save_case(place / "data", Correction([("CT", scan)], labels, case="a"), corrected.model(run))
    kept = place / "data" / "images" / "a.nrrd"
    found = read(kept)
    assert np.array_equal(found.array[0], voxels) and np.allclose(found.affine, tiny.AFFINE)
    assert b"Smith" not in kept.read_bytes()
    scan.write_bytes(scan.read_bytes()[:-20])
    with pytest.raises(Trouble, match=r"CT\.nrrd is damaged"):
        cases.save_case(place / "data", Correction([("CT", scan)], labels), corrected.model(run))


def test_the_name_says_nothing_and_is_that_of_the_voxels(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    masks = {"liver": box(slice(0, 2))}
    one, again, other = saved(place, run, masks), saved(place, run, masks), saved(place, run, masks, seed=1)
    assert one.case == again.case != other.case
    assert one.case.startswith("case-") and one.patient == one.case
    assert (other.cases, again.cases) == (2, 1)


def test_the_same_case_again_replaces_the_former_and_keeps_it(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    saved(place, run, {"liver": box(slice(0, 2))}, case="a")
    second = saved(place, run, {"liver": box(slice(4, 6))}, case="a", patient="p1")
    third = saved(place, run, {"liver": box(slice(6, 8))}, case="a")
    assert third.replaced and third.replaced != second.replaced
    former = read(third.replaced / "labels" / "a.nrrd").array[0]
    assert np.array_equal(former, box(slice(4, 6))) and np.array_equal(label_map(place / "data", "a"), box(slice(6, 8)))
    assert third.patient == "p1"  # who it is of is not forgotten
    assert len(folder.cases(folder.Options(root=place / "data")).cases) == 1


def test_a_case_that_fails_leaves_the_former_where_it_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    saved(place, run, {"liver": box(slice(0, 2))}, case="a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("MedSegLib.nrrd.write", full)
    with pytest.raises(OSError, match="No space"):
        saved(place, run, {"liver": box(slice(4, 6))}, case="a")
    assert np.array_equal(label_map(place / "data", "a"), box(slice(0, 2)))
    assert not list((place / "data").rglob("*.part")) and not (place / "data" / "replaced").exists()


def test_two_channels(place: Path) -> None:
    run = run_with(place, LabelTable.of({"lesion": 1}), ("T1 Gd", "FLAIR"))
    saved(place, run, {"lesion": box(slice(0, 2))}, case="a")
    found = folder.cases(folder.Options(root=place / "data", channels=("T1 Gd", "FLAIR")))
    voxels = [read(found.cases[0].images[name]).array[0] for name in found.channels]
    assert [one[0, 0, 0] for one in voxels] == [
        np.random.default_rng((0, n)).integers(0, 99, SHAPE)[0, 0, 0] for n in (0, 1)
    ]


def test_regions_that_overlap_get_the_numbers_that_mean_them(place: Path) -> None:
    table = LabelTable.of(BRATS, paint=[2, 1, 4])
    run = run_with(place, table)
    whole, core, enhancing = box(slice(0, 6)), box(slice(0, 4)), box(slice(0, 2))
    saved(place, run, {"ET": enhancing, "WT": whole, "TC": core}, case="a")
    values = label_map(place / "data", "a")
    assert np.array_equal(np.stack([whole, core, enhancing]), table.encode(values).astype(bool))
    assert folder.cases(folder.Options(root=place / "data")).labels.to_json() == table.to_json()


def test_a_region_outside_of_what_it_is_a_part_of_is_that_too(place: Path) -> None:
    run = run_with(place, LabelTable.of(BRATS, paint=[2, 1, 4]))
    done = saved(place, run, {"WT": box(slice(0, 6)), "ET": box(slice(5, 8))}, case="a")
    values = label_map(place / "data", "a")
    assert np.array_equal(values[:, 0, 0], [2, 2, 2, 2, 2, 4, 4, 4])
    assert "84 voxels of 'ET' count as 'WT' and 'TC', too." in done.notes


def test_regions_without_a_number_for_both_are_refused(place: Path) -> None:
    run = run_with(place, LabelTable.of({"artery": [1], "vein": [2]}, paint=[1, 2]))
    with pytest.raises(Trouble, match="'artery' and 'vein' are both drawn in 42 voxels"):
        saved(place, run, {"artery": box(slice(0, 2)), "vein": box(slice(1, 3))}, case="a")


def test_structures_that_exclude_each_other_may_not_overlap(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1, "spleen": 2}))
    with pytest.raises(Trouble, match=r"'spleen' and 'liver' are both drawn in 42 voxels.*Modify other segments"):
        saved(place, run, {"liver": box(slice(0, 2)), "spleen": box(slice(1, 3))}, case="a")
    assert not (place / "data").exists()


def test_a_data_set_for_other_labels_is_refused(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    (place / "data").mkdir()
    (place / "data" / "labels.yaml").write_text('{"labels": {"kidney": 1}}', encoding="utf-8")
    with pytest.raises(Trouble, match=r"for other labels \(kidney 1\) than the model's \(liver 1\)"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a")
    (place / "data" / "labels.yaml").write_text("labels:\n  liver: 1\n", encoding="utf-8")
    with pytest.raises(Trouble, match="write its content as JSON"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a")


def test_labels_in_another_order_are_other_labels(place: Path) -> None:
    """The network's channels are in that order."""
    first = run_with(place, LabelTable.of({"liver": 1, "spleen": 2}))
    second = run_with(place, LabelTable.of({"spleen": 2, "liver": 1}), name="second")
    masks = {"liver": box(slice(0, 2)), "spleen": box(slice(3, 5))}
    saved(place, first, masks, case="a")
    with pytest.raises(Trouble, match=r"for other labels \(liver 1, spleen 2\) than the model's \(spleen 2, liver 1\)"):
        saved(place, second, masks, case="b")


@pytest.mark.parametrize("channels", [("MR",), ("CT", "PET")])
def test_a_data_set_for_other_channels_is_refused(place: Path, channels: tuple[str, ...]) -> None:
    table, masks = LabelTable.of({"liver": 1}), {"liver": box(slice(0, 2))}
    first, second = run_with(place, table), run_with(place, table, channels, name="second")
    saved(place, first, masks, case="a")
    before = sorted((place / "data").rglob("*"))
    with pytest.raises(Trouble, match=rf"for other channels \(CT\) than the model's \({', '.join(channels)}\)"):
        saved(place, second, masks, case="b")
    assert sorted((place / "data").rglob("*")) == before
    assert saved(place, first, masks, case="b").cases == 2


def test_channels_of_a_folder_that_came_without_their_names(place: Path) -> None:
    table, masks = LabelTable.of({"liver": 1}), {"liver": box(slice(0, 2))}
    one, two = run_with(place, table), run_with(place, table, ("T1", "FLAIR"), name="two")
    data = place / "data"
    for kind in ("images", "labels"):
        tiny.nifti(data / kind / "old.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(Trouble, match=r"channels \(one without a name\) than the model's \(T1, FLAIR\)"):
        saved(place, two, masks, case="a")
    (data / "images" / "old.nii.gz").unlink()
    (data / "images" / "old").mkdir()  # a DICOM series
    assert saved(place, one, masks, case="a").cases == 2
    for channel in ("T1", "FLAIR"):
        tiny.nifti(place / "several" / "images" / channel / "old.nii.gz", np.zeros(SHAPE, np.uint8))
    data.rename(place / "former")
    (place / "several").rename(data)
    with pytest.raises(Trouble, match=r"channels \(FLAIR, T1\) than the model's \(CT\)"):
        saved(place, one, masks, case="a")
    assert saved(place, two, masks, case="a").cases == 1


def test_a_damaged_list_of_channels_is_told(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    (place / "data").mkdir()
    (place / "data" / "channels.json").write_text("[", encoding="utf-8")
    with pytest.raises(Trouble, match=r"channels\.json is damaged"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a")


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "con", "a.b", "x" * 81, "-a"])
def test_names_that_are_no_names_of_files(place: Path, name: str) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    with pytest.raises(Trouble, match="cannot be the name of a case"):
        saved(place, run, {"liver": box(slice(0, 2))}, case=name)


@pytest.mark.parametrize(
    "table",
    [
        LabelTable.of({"a": 3, "b": 1}),
        LabelTable.of(BRATS, paint=[2, 1, 4]),
        LabelTable.of({"a": [1], "b": [2]}, paint=[7, 9]),
        LabelTable((*LabelTable.of({"a": 1}).labels,), ignore=8),
    ],
    ids=["plain", "regions", "painted otherwise", "ignore"],
)
def test_labels_yaml_makes_the_models_own_table(place: Path, table: LabelTable) -> None:
    run = run_with(place, table)
    cohort.describe(place / "data", labeltable.of_run(run), ["CT"])
    (place / "data" / "images").mkdir()
    sitk.WriteImage(corrected.image(np.zeros(SHAPE, np.uint8)), str(place / "data" / "images" / "a.nrrd"))
    assert folder.cases(folder.Options(root=place / "data")).labels == table


def test_a_model_without_a_run_folder_here(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    model = corrected.model(run)
    (run / "labels.json").unlink()
    with pytest.raises(Trouble, match="does not say what its labels are"):
        cases.save_case(place / "data", Correction([("CT", place / "x.nrrd")], place / "y.nrrd", case="a"), model)


def test_damaged_files_are_told(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16))
    labels = corrected.segmentation(place / "l.seg.nrrd", {"liver": box(slice(0, 2))})
    labels.write_bytes(labels.read_bytes()[:-20])
    with pytest.raises(Trouble, match="damaged"):
        cases.save_case(place / "data", Correction([("CT", scan)], labels, case="a"), corrected.model(run))
    labels = corrected.segmentation(place / "l.seg.nrrd", {"liver": box(slice(0, 2))})
    scan.write_bytes(scan.read_bytes()[:-8])
    with pytest.raises(Trouble, match=r"CT\.nrrd is damaged"):
        cases.save_case(place / "data", Correction([("CT", scan)], labels, case="a"), corrected.model(run))
    assert not list((place / "data").rglob("a.nrrd"))
    scan.write_bytes(b"no image")
    with pytest.raises(Trouble, match="not an NRRD file"):
        cases.save_case(place / "data", Correction([("CT", scan)], labels, case="a"), corrected.model(run))
