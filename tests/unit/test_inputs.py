"""What is handed to an evaluation and should not be: each is refused or listed in words that say what to do."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from medseg import config
from medseg.cores import available_cores
from medseg.engine import class_table, evaluate, inputs
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from tests import tiny

TABLE = LabelTable.of({"left": 1, "right": 2})
DICE = (config.choose("metrics", "dice"),)
CUBES = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (6, 5, 4)


def blocks(shift: int = 0) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1 : 3 + shift, 1:3, 1:3], labels[4:, 3:, 2:] = 1, 2
    return labels


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Folders `predicted` and `truth` with the cases a, b and c; a labels.yaml."""
    for place, case in enumerate("abc"):
        tiny.nifti(tmp_path / "truth" / f"{case}.nii.gz", blocks(), CUBES)
        tiny.nifti(tmp_path / "predicted" / f"{case}.nii.gz", blocks(place % 2), CUBES)
    (tmp_path / "labels.yaml").write_text("left: 1\nright: 2\n")
    return tmp_path


def scored(work: Path, **how) -> evaluate.Scores:
    return evaluate.of_pairs(inputs.of_folders(work / "predicted", work / "truth"), TABLE, DICE, **how)


def csv(work: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = work / "cases.csv"
    path.write_text(text, encoding=encoding)
    return path


def command(work: Path, *words: object) -> tiny.Said:
    folders = ("evaluate", work / "predicted", "--truth", work / "truth", "--labels", work / "labels.yaml")
    return tiny.medseg_command(*folders, "--out", work / "out", *words)


# --- label maps ------------------------------------------------------------------------------------------------------


def test_a_missing_prediction_is_listed_and_means_say_what_they_are_over(work):
    (work / "predicted" / "b.nii.gz").unlink()
    said = command(work)
    assert said.code == 1
    assert (
        "All numbers are over the 2 cases that were scored, and leave out 1:\nnot scored: b: no prediction" in said.out
    )
    written = json.loads((work / "out" / "metrics.json").read_text())
    assert written["not scored"] == ["b: no prediction"]
    assert {row["cases"] for row in written["statistics"]} == {2}


def test_all_extra_predictions_are_named(work):
    for case in ("x", "y"):
        tiny.nifti(work / "predicted" / f"{case}.nii.gz", blocks(), CUBES)
    said = command(work)
    assert said.code == 2 and "label maps without truth: x, y" in said.err


def test_a_case_twice_in_a_folder(work):
    (work / "predicted" / "a.nii").write_bytes(b"")
    with pytest.raises(Refusal, match=r"case 'a' twice, as a\.nii and a\.nii\.gz"):
        scored(work)


@pytest.mark.parametrize("side", ["predicted", "truth"])
def test_numbers_that_are_no_labels_are_named_with_their_file(work, side):
    odd = blocks()
    odd[0, 0, :2] = 3, 7
    tiny.nifti(work / side / "b.nii.gz", odd, CUBES)
    found = scored(work)
    assert [row.case for row in found.rows] == ["a", "a", "c", "c"]
    (missing,) = found.missing
    named = "found the numbers 3, 7; needed only numbers that the label table names: left 1, right 2"
    assert missing.startswith(f"b: {work / side / 'b.nii.gz'}: {named}")


def test_a_file_that_cannot_be_read_does_not_end_the_others(work):
    (work / "predicted" / "c.nii.gz").write_bytes(b"no label map")
    said = command(work)
    assert said.code == 1 and "not scored: c: " in said.out and "c.nii.gz" in said.out
    assert len(json.loads((work / "out" / "metrics.json").read_text())["cases"]) == 4
    for case in "ab":
        (work / "predicted" / f"{case}.nii.gz").write_bytes(b"no label map")
    with pytest.raises(Refusal, match="none of 3 that could be scored"):
        scored(work)


def test_another_grid_is_refused_with_both_and_resampled_only_when_asked(work):
    fine = np.repeat(np.repeat(np.repeat(blocks(), 2, 0), 2, 1), 2, 2)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -0.5  # the corners of the field of view stay where they are
    tiny.nifti(work / "predicted" / "a.nii.gz", fine, affine)
    said = command(work)
    assert said.code == 1
    assert (
        "(12 x 10 x 8 voxels of 1 x 1 x 1 mm from (-0.5, -0.5, -0.5), not 6 x 5 x 4 voxels of 2 x 2 x 2 mm" in said.out
    )
    said = command(work, "--resample", "metrics=[dice]")
    assert said.code == 0
    written = json.loads((work / "out" / "metrics.json").read_text())
    (note,) = (note for note in written["notes"] if "resampled" in note)
    assert note.startswith(
        "a: the prediction was resampled onto the grid of the truth (nearest neighbour): 12 x 10 x 8"
    )
    assert [row["dice"] for row in written["cases"][:2]] == [1, 1]
    assert "resampled onto the grid" in said.out and "resampled onto the grid" in (work / "out/report.html").read_text()


def test_resampling_reads_the_nearest_voxel_and_background_outside(work):
    truth, coarse = np.zeros((8, 1, 1), np.uint8), np.array([0, 1, 2, 0], np.uint8).reshape(-1, 1, 1)
    truth[:] = np.array([0, 0, 1, 1, 2, 2, 0, 0], np.uint8).reshape(-1, 1, 1)
    here, there = np.eye(4), np.diag([2.0, 1, 1, 1])
    there[0, 3] = 0.5
    tiny.nifti(work / "predicted" / "a.nii.gz", coarse, there)
    tiny.nifti(work / "truth" / "a.nii.gz", truth, here)
    first = scored(work, resample=True).rows[:2]
    assert [row.values["dice"] for row in first] == [1, 1]
    tiny.nifti(work / "predicted" / "a.nii.gz", coarse[:2], there)  # the field of view ends before label 2
    assert [row.values["dice"] for row in scored(work, resample=True).rows[:2]] == [1, 0]


def test_metrics_are_chosen_once_and_fit_what_is_scored(work):
    said = command(work, "metrics=[dice, {name: dice}]")
    assert said.code == 2 and "two that give a number 'dice'" in said.err
    said = command(work, "metrics=[auroc]")
    assert said.code == 2 and "auroc; needed metrics of masks" in said.err
    said = command(work, "dataset.part=test")
    assert said.code == 2 and "needed metrics=[...] alone" in said.err
    said = command(work, "metrics=dice", "--workers", 1)
    assert said.code == 0 and set(json.loads((work / "out/metrics.json").read_text())["units"]) == {"dice"}


def test_work_for_other_processes_can_be_sent_there_and_back(work, monkeypatch):
    """And a small set, whose first case takes no time, is not worth a process."""
    monkeypatch.setattr(evaluate, "for_each", lambda work, items, **how: seen.append((work, items, how)) or {})
    seen: list = []
    monkeypatch.setattr(evaluate, "WORTH_S", -1)
    with pytest.raises(Refusal):
        scored(work)
    (work_of_first, items, how), (_, rest, others) = seen
    assert (how["workers"], len(items), len(rest)) == (1, 1, 2) and others["workers"] == available_cores()
    sent, one = pickle.loads(pickle.dumps((work_of_first, items[0][1])))
    assert pickle.loads(pickle.dumps(sent(one))) == work_of_first(one)
    (work / "predicted" / "a.nii.gz").write_bytes(b"")
    assert isinstance(pickle.loads(pickle.dumps(sent(one))), Refusal)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(work):
    alone, together = (scored(work, workers=count) for count in (1, 2))
    assert alone.to_json() == together.to_json()


# --- tables of cases -------------------------------------------------------------------------------------------------


def test_patients_come_from_a_table_and_their_absence_is_said_once(work):
    said = command(work)
    assert said.out.count("each case counts as a patient of its own") == 1
    table = csv(work, "case,patient,centre\na,P1,Ulm\nb,P1,Ulm\nc,P2,Bern\nother,P3,Ulm\n")
    said = command(work, "--cases", table)
    assert "each case counts" not in said.out
    written = json.loads((work / "out" / "metrics.json").read_text())
    assert [(row["patient"], row["label"], row["cases"]) for row in written["patients"]] == [
        ("P1", "left", 2),
        ("P1", "right", 2),
        ("P2", "left", 1),
        ("P2", "right", 1),
    ]
    left = [row["dice"] for row in written["cases"] if row["label"] == "left"]
    assert written["patients"][0]["dice"] == pytest.approx((left[0] + left[1]) / 2) and left[0] != left[1]
    said = command(work, "--cases", table, "--by", "scanner")
    assert said.code == 2 and "found 'scanner'; needed a column of the table of cases (centre), or size" in said.err
    said = command(work, "--cases", csv(work, "case,patient\na,P1\n"))
    assert said.code == 2 and "no line for b, c" in said.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"columns \(none\); needed also case, prediction, truth"),
        ("case,prediction,truth\n", "no lines below the header"),
        ("case,prediction\na,predicted/a.nii.gz\n", "columns case, prediction; needed also truth"),
        ("case,prediction,truth,truth\na,x,y,z\n", "two columns 'truth'"),
        ("case,prediction,truth\na,x\n", "line 2 with another number of cells"),
        ("case,prediction,truth\na,x,y\na,x,y\n", "case 'a' twice"),
        ("case,prediction,truth\n,x,y\n", "a line without a case"),
        ("case,prediction,truth\na,,y\n", "no case with prediction and truth"),
        ("case,prediction,truth,patient\na,x,y,\n", "no patient for case 'a'"),
    ],
)
def test_tables_that_are_refused(work, text, words):
    with pytest.raises(Refusal, match=words):
        inputs.of_table(csv(work, text))


def test_a_table_that_is_no_text(work):
    (work / "cases.csv").write_bytes(b"case,prediction,truth\n\xff\xfe,x,y\n")
    with pytest.raises(Refusal, match=r"cases\.csv: found UnicodeDecodeError.*needed a table"):
        inputs.of_table(work / "cases.csv")
    with pytest.raises(Refusal, match="no such file"):
        inputs.of_table(work / "absent.csv")


@pytest.mark.parametrize(("mark", "between"), [("utf-8", ","), ("utf-8-sig", ","), ("utf-8", ";"), ("utf-8-sig", ";")])
def test_tables_as_spreadsheets_write_them(work, mark, between):
    lines = ["case,patient,prediction,truth,,", "a,P1,predicted/a.nii.gz,truth/a.nii.gz,,", ",,,,,"]
    found = inputs.of_table(csv(work, "\r\n".join(lines).replace(",", between) + "\r\n", encoding=mark))
    assert found.pairs == (inputs.Pairing("a", "P1", work / "predicted/a.nii.gz", work / "truth/a.nii.gz", {}),)
    assert found.notes == ()


def test_a_table_of_label_maps(work):
    table = csv(
        work,
        "case,patient,prediction,truth,centre\n"
        "one,P1,predicted/a.nii.gz,truth/a.nii.gz,Ulm\n"
        "two,P2,predicted/b.nii.gz,truth/b.nii.gz,Bern\n"
        "three,P2,,truth/b.nii.gz,Bern\n"
        "four,P3,predicted/absent.nii.gz,truth/b.nii.gz,Bern\n",
    )
    said = tiny.medseg_command("evaluate", table)
    assert said.code == 2 and "needed --labels with it" in said.err
    said = tiny.medseg_command("evaluate", table, "--labels", work / "labels.yaml", "--by", "centre")
    assert said.code == 1 and "not scored: three: no prediction" in said.out and "not scored: four: " in said.out
    written = json.loads((work / "cases" / "metrics.json").read_text())
    assert [row["case"] for row in written["cases"]] == ["one", "one", "two", "two"]
    assert {row["over"] for row in written["statistics"]} == {"all cases", "centre Bern", "centre Ulm"}
    said = tiny.medseg_command("evaluate", table, "--truth", work / "truth")
    assert said.code == 2 and "a table, beside --truth" in said.err


# --- classes ---------------------------------------------------------------------------------------------------------

HEAD = "case,patient,site,truth,probability low,probability high\n"


def test_the_worst_cases_have_pictures_where_their_scans_are_known(work):
    scans = work / "scans"
    scans.mkdir()
    for name in ("a.nii.gz", "b_0000.nii.gz"):  # c has none
        tiny.nifti(scans / name, blocks().astype(np.float32), CUBES)
    tiny.nifti(work / "predicted" / "b.nii.gz", blocks(shift=2), CUBES)
    said = command(work, "--scans", scans)
    assert said.code == 0
    page = (work / "out" / "report.html").read_text()
    assert page.index("of case b:") < page.index("of case a:") and "of case c:" not in page
    by_table = csv(work, "case,prediction,truth,scan\nc,predicted/c.nii.gz,truth/c.nii.gz,scans/a.nii.gz\n")
    given = ("evaluate", by_table, "--labels", work / "labels.yaml", "--out", work / "table")
    assert tiny.medseg_command(*given).code == 0
    assert "of case c:" in (work / "table" / "report.html").read_text()


@pytest.mark.parametrize(("text", "words"), [("", "found an empty file"), ("- left\n", "found a list")])
def test_a_label_table_that_is_none(work, text, words):
    (work / "labels.yaml").write_text(text)
    said = command(work)
    assert said.code == 2 and words in said.err and "labels.yaml" in said.err


def test_scans_that_do_not_fit_are_said(work):
    scans = work / "scans"
    scans.mkdir()
    tiny.nifti(scans / "x.nii.gz", blocks(), CUBES)
    said = command(work, "--scans", scans)
    assert said.code == 2 and "no scan of any of these cases" in said.err
    tiny.nifti(scans / "a.nii.gz", blocks(), np.diag([9.0, 9, 9, 1]))
    said = command(work, "--scans", scans)
    assert said.code == 0 and "no picture of a: " in said.out and "label grid" in said.out


def test_maps_of_a_prediction_are_no_label_maps(work):
    before = scored(work)
    for kind in inputs.MAPS:
        tiny.nifti(work / "predicted" / f"a.{kind}.nii.gz", blocks(), CUBES)
    assert scored(work).table() == before.table()


def test_a_table_of_an_earlier_evaluation_does_not_stay(work):
    assert command(work).code == 0 and (work / "out" / "metrics.csv").exists()
    path = csv(work, "case,truth,probability a,probability b\nx,a,0.7,0.3\ny,b,0.4,0.6\n")
    assert tiny.medseg_command("evaluate", path, "--out", work / "out").code == 0
    assert not (work / "out" / "metrics.csv").exists()


def test_classes_of_a_table(work):
    rows = [("low", 0.9, "A"), ("high", 0.2, "A"), ("high", 0.4, "B"), ("low", 0.3, "B"), ("low", 0.7, "B")]
    lines = "".join(f"c{n},p{n},{site},{truth},{p},{1 - p:.1f}\n" for n, (truth, p, site) in enumerate(rows))
    said = tiny.medseg_command("evaluate", csv(work, HEAD + lines), "metrics=[auroc]", "--by", "site")
    assert said.code == 0, said.err
    found = json.loads((work / "cases" / "metrics.json").read_text())
    values = {(row["over"], row["row"]): row["value"] for row in found["over all cases"]}
    # of 3 x 2 pairs, 5 stand in the right order (0.4 of a high one is more than 0.3 of a low one)
    assert values["image", "high"] == values["image", "low"] == pytest.approx(5 / 6)
    assert values["site A", "high"] == 1 and values["site B", "high"] == pytest.approx(0.5)
    semicolons = (HEAD + lines).replace(",", ";").replace("0.", "0,")
    again = class_table.of_probabilities(csv(work, semicolons))
    assert again.table.exclusive and again.evidence[0].probabilities.ravel().tolist() == pytest.approx([0.9, 0.1])


def test_curves_of_reliability_reach_the_files(work):
    path = csv(work, HEAD + "x,P1,A,low,0.92,0.08\ny,P2,A,high,0.1,0.9\nz,P3,B,low,0.35,0.65\n")
    assert tiny.medseg_command("evaluate", path, "--out", work / "out").code == 0
    rows = json.loads((work / "out" / "metrics.json").read_text())["reliability"]
    high = {round(row["probability"], 4): row["share"] for row in rows if row["label"] == "high"}
    assert high == {0.08: 0, 0.65: 0, 0.9: 1}
    assert 'id="calibration"' in (work / "out" / "report.html").read_text()


def test_numbers_and_several_classes_in_a_cell(work):
    text = "case,truth,probability a,probability b\nx,0 + b,0.6,0.7\ny,,0.1,0.2\nz,1,0.5,0.5\n"
    found = class_table.of_probabilities(csv(work, text))
    assert [one.truth.ravel().tolist() for one in found.evidence] == [[1, 1], [0, 0], [0, 1]]
    assert not found.table.exclusive and found.table.unit == "image"
    assert found.notes == (inputs.NO_PATIENTS,)


def test_names_that_are_numbers_are_names(work):
    """Grades 1 to 3 are classes 0 to 2: a truth of 1 is the grade, and not class 1 as well."""
    text = "case,truth,probability 1,probability 2,probability 3\n"
    found = class_table.of_probabilities(csv(work, text + "x,1,0.8,0.1,0.1\ny,3,0.1,0.2,0.7\n"))
    assert [one.truth.ravel().tolist() for one in found.evidence] == [[1, 0, 0], [0, 0, 1]] and found.table.exclusive
    with pytest.raises(Refusal, match=r"class '0' of case 'x'; needed any of 1 \(0\), 2 \(1\), 3 \(2\)"):
        class_table.of_probabilities(csv(work, text + "x,0,0.8,0.1,0.1\n"))
    plus = "case,truth,probability HER2+,probability HER2-\nx,HER2+,0.8,0.2\ny,HER2-,0.1,0.9\n"
    assert [one.truth.ravel().tolist() for one in class_table.of_probabilities(csv(work, plus)).evidence] == [
        [1, 0],
        [0, 1],
    ]
    same = "case,truth,probability 0,probability 1\nx,01,0.2,0.8\n"
    assert class_table.of_probabilities(csv(work, same)).evidence[0].truth.ravel().tolist() == [0, 1]


def test_slices_of_a_case_belong_together(work):
    text = "case,patient,slice,truth,probability a\nx,P,0,a,0.6\nx,P,1,,0.2\ny,Q,0,,0.1\n"
    first, second = class_table.of_probabilities(csv(work, text)).evidence
    assert (first.truth.tolist(), first.patient, second.truth.tolist()) == ([[1, 0]], "P", [[0]])
    with pytest.raises(Refusal, match="case 'x, slice 1' twice"):
        class_table.of_probabilities(csv(work, text.replace("x,P,0", "x,P,1")))
    with pytest.raises(Refusal, match="case 'x' with the patients P, R"):
        class_table.of_probabilities(csv(work, text.replace("x,P,0", "x,R,0")))


def test_auroc_of_one_class_alone_is_undefined_and_says_why(work):
    said = tiny.medseg_command(
        "evaluate", csv(work, HEAD + "a,p,A,low,0.9,0.1\nb,q,A,low,0.4,0.6\n"), "metrics=[auroc]"
    )
    assert said.code == 0 and "undefined" in said.out.splitlines()[2]
    found = json.loads((work / "cases" / "metrics.json").read_text())
    assert {row["value"] for row in found["over all cases"]} == {None}
    assert found["notes"] == [
        "each image is truly 'low', so that nothing is to be told apart: its AUROC and the like are undefined",
        "no image is truly 'high', so that nothing is to be told apart: its AUROC and the like are undefined",
    ]


@pytest.mark.parametrize("cell", ["nan", "", "high", "1.2", "-0.1", "inf"])
def test_what_is_no_probability(work, cell):
    with pytest.raises(Refusal, match=rf"'{cell}' as probability of high of case 'a'; needed a number from 0 to 1"):
        class_table.of_probabilities(csv(work, HEAD + f"a,p,A,low,0.9,{cell}\n"))


def test_classes_that_the_table_or_its_labels_do_not_know(work):
    with pytest.raises(Refusal, match=r"class 'middle' of case 'a'; needed any of low \(0\), high \(1\)"):
        class_table.of_probabilities(csv(work, HEAD + "a,p,A,middle,0.9,0.1\n"))
    path = csv(work, HEAD + "a,p,A,7,0.9,0.1\n")
    known = LabelTable.classes({"high": 7, "low": 3})
    (one,) = class_table.of_probabilities(path, known).evidence
    assert one.truth.ravel().tolist() == [1, 0] and one.probabilities.ravel().tolist() == pytest.approx([0.1, 0.9])
    with pytest.raises(Refusal, match="probabilities of low, high; needed those of the label table: none"):
        class_table.of_probabilities(path, LabelTable.classes({"none": 0}))
    with pytest.raises(Refusal, match=r"class '' of case 'a'; needed one of high \(7\)"):
        class_table.of_probabilities(csv(work, HEAD + "a,p,A,,0.9,0.1\n"), known)
    said = tiny.medseg_command("evaluate", csv(work, HEAD + "a,p,A,low,0.9,0.1\n"), "metrics=[dice]")
    assert said.code == 2 and "dice; needed metrics over a whole set" in said.err
    said = tiny.medseg_command("evaluate", csv(work, HEAD + "a,p,A,low,0.9,0.1\n"), "--by", "size")
    assert said.code == 2 and "'size'; needed one of site" in said.err
    said = tiny.medseg_command("evaluate", csv(work, HEAD + "a,p,A,low,0.9,0.1\n"), "--by", "centre")
    assert said.code == 2 and "'centre'; needed one of site" in said.err


def test_classes_are_told_apart_by_thirds_of_many_numbers(work):
    lines = "".join(f"c{n},p{n},{n},{'low' if n % 2 else 'high'},0.6,0.4\n" for n in range(8)) + "x,x,,low,0.6,0.4\n"
    given = class_table.of_probabilities(csv(work, HEAD + lines))
    found = evaluate.of_classes(given, [config.choose("metrics", "classification")], by=["site"])
    accuracy = {one.over: one.value for one in found.pooled if one.row == "accuracy"}
    assert list(accuracy) == ["image", "site up to 2.333", "site 2.333 to 4.667", "site above 4.667", "site not stated"]
    assert list(accuracy.values()) == pytest.approx([5 / 9, 1 / 3, 1 / 2, 2 / 3, 1])


def test_a_tolerance_for_a_label_that_there_is_not_is_refused(work):
    nsd = config.choose("metrics", {"name": "nsd", "tolerances_mm": {"left": 1, "rigth": 1}})
    with pytest.raises(Refusal, match="tolerances_mm of rigth; needed names of labels: left, right"):
        evaluate.of_pairs(inputs.of_folders(work / "predicted", work / "truth"), TABLE, [nsd])


def test_what_is_written_says_with_which_options_each_number_was_made(work):
    assert command(work, "metrics=[dice, {name: nsd, tolerance_mm: 3}]").code == 0
    written = json.loads((work / "out" / "metrics.json").read_text())["metrics"]
    assert written["dice"] == {"name": "dice"} and written["nsd"]["tolerance_mm"] == 3
    page = (work / "out" / "report.html").read_text(encoding="utf-8")
    assert "dice; nsd (tolerance_mm 3.0" in page and "<dt>medseg</dt>" in page
    table = csv(work, HEAD + "a,p,A,low,0.9,0.1\nb,q,A,high,0.9,0.1\n")
    assert tiny.medseg_command("evaluate", table, "metrics=[{name: calibration, bins: 7}]").code == 0
    written = json.loads((work / "cases" / "metrics.json").read_text())["metrics"]
    assert written == {"calibration": {"name": "calibration", "bins": 7}}


def test_a_runs_truth_with_numbers_of_no_label_is_listed(tmp_path):
    run, other = tiny.untrained_run(tmp_path / "run"), tiny.data_set(tmp_path / "other")
    run.write("split.json", {"kind": "kfold", "stamp": "", "fold": 0, "folds": [{"train": ["z"], "validation": []}]})
    _, label = tiny.phantom(1)
    label[0, 0, 0] = 9
    tiny.nifti(other / "labels" / "p1_b.nii.gz", label)
    words = ("evaluate", run.folder, f"dataset.root={other}", "--device", "cpu", "--out", tmp_path / "out", "--by")
    said = tiny.medseg_command(*words, "scanner")
    assert said.code == 2 and "found 'scanner'" in said.err and not (tmp_path / "out").exists(), "before it predicts"
    said = tiny.medseg_command(*words, "size")
    assert said.code == 1 and "not scored: p1_b: " in said.out and "the numbers 9; needed only numbers" in said.out
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert sorted(written["truths"]) == ["p1_a", "p2_a", "p3_a"] and not written["chosen by these cases"]
    assert {row["patient"] for row in written["patients"]} == {"p1", "p2", "p3"}
    assert any(row["over"].startswith("size up to") for row in written["statistics"])
    assert (tmp_path / "out" / "metrics.csv").read_text().count("\n") == 7


@pytest.mark.parametrize("words", ["runs/typo", "runs/typo dataset.part=test --out scores", "typo.csv"])
def test_a_path_where_nothing_is_said_so(work, words):
    """And not taken for a folder of label maps that lacks options."""
    name, *others = words.split()
    said = tiny.medseg_command("evaluate", work / name, *others)
    assert said.code == 2 and f"{name}: found no such file or folder; needed a run, " in said.err
