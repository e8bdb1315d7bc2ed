"""Corrections as training cases: what lands in the data set, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.datasets import folder
from medseg.labels import LabelTable
from medseg.readers import read
from MedSegLib import cases, cohort, labeltable
from MedSegLib.trouble import Trouble
from tests import tiny
from tests.slicer import corrected

BRATS = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}
SHAPE = (8, 7, 6)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / corrected.ODD


def run_with(place: Path, table: LabelTable, channels: tuple[str, ...] = ("CT",)) -> Path:
    """A folder of which only the labels and the plan matter here."""
    run = place / "run"
    run.mkdir(parents=True)
    (run / "labels.json").write_text(json.dumps(table.to_json()), encoding="utf-8")
    (run / "plan.json").write_text(json.dumps({"channels": channels}), encoding="utf-8")
    return run


def saved(place: Path, run: Path, masks: dict[str, np.ndarray], **how: object) -> cases.SavedCase:
    """One case of a random scan, for each of the model's channels."""
    model = corrected.model(run)
    seed = int(how.get("seed", 0))  # type: ignore[call-overload]
    images = []
    for number, channel in enumerate(model.channels):
        voxels = np.random.default_rng((seed, number)).integers(0, 99, SHAPE).astype(np.int16)
        images.append((channel, corrected.scan(place / "volumes" / f"{channel}.nrrd", voxels)))
    start = how.get("start", (0, 0, 0))
    labels = corrected.segmentation(place / "volumes" / "labels.seg.nrrd", masks, start)  # type: ignore[arg-type]
    case, patient = str(how.get("case", "")), str(how.get("patient", ""))
    return cases.save_case(place / "data", case, patient, images, labels, model)


def box(*slices: slice, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


def label_map(data: Path, case: str) -> np.ndarray:
    return read(data / "labels" / f"{case}.nrrd").array[0]


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
    cases.save_case(place / "data", "a", "", [("CT", scan)], labels, corrected.model(run))
    kept = place / "data" / "images" / "a.nrrd"
    found = read(kept)
    assert np.array_equal(found.array[0], voxels) and np.allclose(found.affine, tiny.AFFINE)
    assert b"Smith" not in kept.read_bytes()
    scan.write_bytes(scan.read_bytes()[:-20])
    with pytest.raises(Trouble, match=r"CT\.nrrd is damaged"):
        cases.save_case(place / "data", "", "", [("CT", scan)], labels, corrected.model(run))


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


def test_the_same_name_for_another_patient_is_refused(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    saved(place, run, {"liver": box(slice(0, 2))}, case="a", patient="p1")
    with pytest.raises(Trouble, match=r"case 'a' of another patient \(p1, not p2\)\. Give this case another name"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a", patient="p2")


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


def test_a_label_map_by_numbers(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 5}))
    model = corrected.model(run)
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.float32), packed=False)
    labels = corrected.scan(place / "labels.nrrd", np.where(box(slice(0, 2)), 5, 0).astype(np.int16))
    cases.save_case(place / "data", "a", "", [("CT", scan)], labels, model)
    assert np.array_equal(label_map(place / "data", "a"), 5 * box(slice(0, 2)))
    corrected.scan(place / "labels.nrrd", np.full(SHAPE, 7, np.int16))
    with pytest.raises(Trouble, match="the number 7, which no label of the model has"):
        cases.save_case(place / "data", "b", "", [("CT", scan)], labels, model)


def test_segments_of_other_names_are_told(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1, "spleen": 2}))
    done = saved(place, run, {"liver": box(slice(0, 2)), "my notes": box(slice(4, 5))}, case="a")
    assert done.notes == (
        "Left out, as the model has no such label: my notes.",
        "The case teaches that this is not there: spleen.",
    )
    with pytest.raises(Trouble, match=r"None of the segments \(my notes\).*Name them: liver, spleen"):
        saved(place, run, {"my notes": box(slice(4, 5))}, case="b")


def test_a_data_set_for_other_labels_is_refused(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    (place / "data").mkdir()
    (place / "data" / "labels.yaml").write_text('{"labels": {"kidney": 1}}', encoding="utf-8")
    with pytest.raises(Trouble, match=r"for other labels \(kidney 1\) than the model's \(liver 1\)"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a")
    (place / "data" / "labels.yaml").write_text("labels:\n  liver: 1\n", encoding="utf-8")
    with pytest.raises(Trouble, match="write its content as JSON"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a")


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "con", "a.b", "x" * 81, "-a"])
def test_names_that_are_no_names_of_files(place: Path, name: str) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    with pytest.raises(Trouble, match="cannot be the name of a case"):
        saved(place, run, {"liver": box(slice(0, 2))}, case=name)


def test_people_of_a_folder_that_came_without_a_table(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    for kind in ("images", "labels"):
        tiny.nifti(place / "data" / kind / "old.nii.gz", np.zeros(SHAPE, np.uint8))
    done = saved(place, run, {"liver": box(slice(0, 2))}, case="new", patient="old")
    assert (done.cases, done.patients) == (2, 1)
    text = (place / "data" / "patients.csv").read_text(encoding="utf-8")
    assert text == "case,patient\nnew,old\nold,old\n"


def test_columns_of_a_table_of_patients_stay(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    (place / "data").mkdir()
    (place / "data" / "patients.csv").write_text("case,patient,centre\nold,p,Ulm\n", encoding="utf-8")
    saved(place, run, {"liver": box(slice(0, 2))}, case="new", patient="p")
    text = (place / "data" / "patients.csv").read_text(encoding="utf-8")
    assert text == "case,patient,centre\nnew,p,\nold,p,Ulm\n"


def test_a_patient_id_is_told_by_what_stands_for_it(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16))
    labels = corrected.segmentation(place / "l.seg.nrrd", {"liver": box(slice(0, 2))})
    given = (place / "data", "a", "", [("CT", scan)], labels, corrected.model(run))
    outcome, _ = corrected.ended(cases.saving(*given, identity="MÜLLER 1950"))
    assert outcome.facts["saved"].patient == cohort.pseudonym(place / "data", "MÜLLER 1950")
    text = "".join(path.read_text("utf-8") for path in (place / "data").iterdir() if path.is_file())
    assert "1950" not in text and "LLER" not in text


def test_pseudonyms_tell_patients_apart_and_no_more(place: Path) -> None:
    data = place / "data"
    first = cohort.pseudonym(data, "MÜLLER 1950")
    assert first == cohort.pseudonym(data, " MÜLLER 1950 ") != cohort.pseudonym(data, "MÜLLER 1951")
    assert first != cohort.pseudonym(place / "other", "MÜLLER 1950")
    assert cohort.pseudonym(data, " ") == "" and "LER" not in first


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
    cohort.describe(place / "data", labeltable.of_run(run))
    (place / "data" / "images").mkdir()
    sitk.WriteImage(corrected.image(np.zeros(SHAPE, np.uint8)), str(place / "data" / "images" / "a.nrrd"))
    assert folder.cases(folder.Options(root=place / "data")).labels == table


def test_a_model_without_a_run_folder_here(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    model = corrected.model(run)
    (run / "labels.json").unlink()
    with pytest.raises(Trouble, match="does not say what its labels are"):
        cases.save_case(place / "data", "a", "", [("CT", place / "x.nrrd")], place / "y.nrrd", model)


def test_damaged_files_are_told(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16))
    labels = corrected.segmentation(place / "l.seg.nrrd", {"liver": box(slice(0, 2))})
    labels.write_bytes(labels.read_bytes()[:-20])
    with pytest.raises(Trouble, match="damaged"):
        cases.save_case(place / "data", "a", "", [("CT", scan)], labels, corrected.model(run))
    scan.write_bytes(b"no image")
    with pytest.raises(Trouble, match="not an NRRD file"):
        cases.save_case(place / "data", "a", "", [("CT", scan)], labels, corrected.model(run))
