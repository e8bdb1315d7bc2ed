"""Comparisons of evaluations: what is paired, tested, ranked, refused and written."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medseg import paired
from medseg.engine import compare, told
from medseg.engine.score import Score
from medseg.engine.scores import Scores, save
from medseg.metrics import Number
from medseg.refusal import Refusal
from tests import tiny

NAN, INF = math.nan, math.inf
NUMBERS = {
    "dice": Number("", "higher"),
    "hd95": Number("mm", "lower"),
    "volume_error": Number("ml", "nearer zero"),
    "count": Number("", "neither"),
}
PATIENTS = 10


def evaluation(folder: Path, lift: float = 0.0, *, labels=("left",), change=None, **how) -> Path:
    """Two cases of each patient; `lift` raises Dice, lowers distances and shrinks errors. `change(case, label, values)`
    may alter any."""
    generator, rows = np.random.default_rng(0), []
    for patient in range(PATIENTS):
        for case in "ab":
            for label in labels:
                base, own = generator.uniform(0.5, 0.8), generator.normal(0, 0.02)
                values = {"dice": base + lift + own * lift, "hd95": 9 - 10 * lift, "count": 3.0}
                values["volume_error"] = (-1 if patient % 2 else 1) * (2 - lift)
                if change:
                    change(f"{patient}{case}", label, values)
                rows.append(Score(f"{patient}{case}", f"p{patient}", label, values))
    truths = {row.case: f"truth of {row.case}" for row in rows}
    save(Scores(tuple(rows), NUMBERS, **{"truths": truths, **how}), folder)
    return folder


def row_of(found: compare.Comparison, number: str, label: str = "left", first: str = "") -> dict:
    (row,) = (
        row for row in found.rows if (row["number"], row["label"]) == (number, label) and row["first"].endswith(first)
    )
    return row


def test_which_is_better_by_the_direction_of_each_number(tmp_path):
    found = compare.compare([evaluation(tmp_path / "worse"), evaluation(tmp_path / "better", 0.1)])
    for number, sign in (("dice", -1), ("hd95", 1), ("volume_error", 1)):
        row = row_of(found, number)
        assert np.sign(row["difference"]) == sign and row["better"] == str(tmp_path / "better"), number
        assert (row["first_better"], row["second_better"], row["equal"]) == (0, PATIENTS, 0)
        assert (row["cases"], row["patients"], row["left_out"]) == (20, PATIENTS, 0)
    assert row_of(found, "volume_error")["difference"] == pytest.approx(0.1), "of magnitudes"
    assert row_of(found, "hd95")["first_mean"] == 9 and row_of(found, "hd95")["second_mean"] == 8
    assert {row["number"] for row in found.rows} == {"dice", "hd95", "volume_error"}
    assert any("neither more nor less is better: count" in note for note in found.shared.notes)
    swapped = compare.compare([tmp_path / "better", tmp_path / "worse"])
    for number in ("dice", "hd95", "volume_error"):
        row, other = row_of(found, number), row_of(swapped, number)
        assert other["difference"] == pytest.approx(-row["difference"]) and other["p"] == pytest.approx(row["p"])
        assert other["better"] == row["better"]


def test_tests_see_one_value_a_patient(tmp_path):
    """20 cases of 10 patients: the p is that of SciPy on 10 means."""
    generator = np.random.default_rng(6)
    noise = {f"{p}{c}": float(generator.normal(0.01, 0.03)) for p in range(PATIENTS) for c in "ab"}

    def change(case, label, values):
        values["dice"] += noise[case]

    first, second = evaluation(tmp_path / "a", change=change), evaluation(tmp_path / "b")
    means = [(noise[f"{p}a"] + noise[f"{p}b"]) / 2 for p in range(PATIENTS)]
    found = compare.compare([first, second])
    row = row_of(found, "dice")
    assert row["p"] == pytest.approx(stats.wilcoxon(means).pvalue)
    assert row["difference"] == pytest.approx(np.mean(means)) and row["low"] < row["difference"] < row["high"]
    permuted = row_of(compare.compare([first, second], test="permutation"), "dice")
    assert permuted["p"] == pytest.approx(paired.permutation(np.array(means)).p) != pytest.approx(row["p"])
    with pytest.raises(Refusal, match="'t'; needed one of wilcoxon, permutation"):
        compare.compare([first, second], test="t")


def test_p_is_corrected_within_labels_and_within_their_means(tmp_path):
    labels = ("left", "right")
    found = compare.compare([evaluation(tmp_path / "a", labels=labels), evaluation(tmp_path / "b", 0.1, labels=labels)])
    smallest = 2 / 2**PATIENTS
    assert [row["p"] for row in found.rows] == pytest.approx([smallest] * 9)
    assert [row["p_holm"] for row in found.rows] == pytest.approx([6 * smallest] * 6 + [3 * smallest] * 3)
    assert [row["label"] for row in found.rows[6:]] == ["mean of labels"] * 3


def test_nothing_is_called_better_without_evidence(tmp_path):
    def change(case, label, values):
        values["dice"] += 0.05 if int(case[0]) % 2 else -0.05

    found = compare.compare([evaluation(tmp_path / "a"), evaluation(tmp_path / "b", change=change)])
    assert row_of(found, "dice")["better"] == "" and row_of(found, "dice")["p_holm"] == 1
    assert row_of(found, "hd95")["equal"] == PATIENTS and row_of(found, "hd95")["p"] == 1


def test_missed_structures_count_and_undefined_ones_are_left_out(tmp_path):
    def missed(case, label, values):
        if case[0] in "0123":
            values["hd95"] = INF

    def undefined(case, label, values):
        if case[0] in "01":
            values["dice"] = NAN
        if case == "0a":
            values["hd95"] = INF

    found = compare.compare([evaluation(tmp_path / "a", change=missed), evaluation(tmp_path / "b", change=undefined)])
    row = row_of(found, "hd95")
    assert row["difference"] == INF and math.isnan(row["low"]) and (row["first_better"], row["second_better"]) == (0, 4)
    row = row_of(found, "dice")
    assert (row["cases"], row["left_out"], row["patients"]) == (16, 4, 8)
    assert "4 cases of a number are left out, because it is undefined" in compare.as_text(found)


def test_what_one_lacks_is_named_and_left_out(tmp_path):
    first, second = evaluation(tmp_path / "a", labels=("left", "right")), evaluation(tmp_path / "b")
    content = json.loads((second / "metrics.json").read_text())
    content["cases"] = [row for row in content["cases"] if row["case"] not in ("0a", "3b")]
    (second / "metrics.json").write_text(json.dumps(content))
    found = compare.compare([first, second])
    assert f"left out, because {second} has no such case: 0a, 3b" in found.shared.notes
    assert f"left out, because {second} has no such label: right" in found.shared.notes
    assert {row["cases"] for row in found.rows} == {18} and {row["label"] for row in found.rows} == {"left"}


def test_runs_that_were_chosen_on_these_cases_are_warned_of(tmp_path):
    found = compare.compare([evaluation(tmp_path / "a", chosen=True), evaluation(tmp_path / "b", stamp="no estimate")])
    assert found.shared.notes[0].startswith(f"{tmp_path / 'a'}: its weights were chosen by these same cases")
    assert found.shared.notes[1] == f"{tmp_path / 'b'}: no estimate"
    assert "chosen by these same cases" in compare.as_text(found)


def test_numbers_made_in_another_way_are_refused(tmp_path):
    near, far = (
        {"dice": {"name": "dice"}, "hd95": {"name": "hd95", "surface": kind}} for kind in ("voxels", "elements")
    )
    folders = [evaluation(tmp_path / name, metrics=way) for name, way in (("a", near), ("b", near), ("c", far))]
    assert compare.compare(folders[:2]).rows
    with pytest.raises(Refusal, match=r"hd95 with another surface \(.*a: voxels, .*c: elements\)"):
        compare.compare(folders[::2])


def test_another_truth_or_patient_is_refused(tmp_path):
    first = evaluation(tmp_path / "a")
    truths = {**json.loads((first / "metrics.json").read_text())["truths"], "4b": "another"}
    other = evaluation(tmp_path / "b", truths=truths)
    with pytest.raises(Refusal, match=r"another truth of the same case \(4b\)"):
        compare.compare([first, other])
    text = (first / "metrics.json").read_text().replace('"p3"', '"p4"')
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(Refusal, match=r"another patient of the same case \(3a, 3b\)"):
        compare.compare([first, tmp_path / "c.json"])


def test_what_is_no_evaluation_is_refused(tmp_path):
    first = evaluation(tmp_path / "a")
    with pytest.raises(Refusal, match="two evaluations or more, each once"):
        compare.compare([first, first])
    with pytest.raises(Refusal, match=r"found no metrics\.json"):
        compare.compare([first, tmp_path])
    for text, words in (("{", "JSONDecodeError"), ('{"cases": []}', "no 'units'")):
        (tmp_path / "metrics.json").write_text(text)
        with pytest.raises(Refusal, match=words):
            told.load(tmp_path)
    save(Scores((), {}), tmp_path)
    with pytest.raises(Refusal, match="no numbers by case: those over whole sets are not compared"):
        told.load(tmp_path)
    text = (first / "metrics.json").read_text()
    (tmp_path / "metrics.json").write_text(text.replace('"count": 3.0', '"count": "many"'))
    with pytest.raises(Refusal, match="ValueError"):
        told.load(tmp_path)
    evaluation(tmp_path, labels=("other",))
    with pytest.raises(Refusal, match="no label in common"):
        compare.compare([first, tmp_path])


def test_three_are_ranked(tmp_path):
    paths = [evaluation(tmp_path / name, lift) for name, lift in (("a", 0), ("b", 0.2), ("c", 0.1))]
    found = compare.compare(paths)
    assert len(found.rows) == 9
    ranking = {row["evaluation"]: row for row in found.rankings if row["number"] == "all numbers"}
    assert [ranking[str(path)]["place"] for path in paths] == [3, 1, 2]
    assert ranking[str(paths[1])]["shares"] == {"1": 1, "2": 0, "3": 0}
    assert {row["number"] for row in found.rankings} == {"dice", "hd95", "volume_error", "all numbers"}
    assert compare.compare(paths[:2]).rankings == []


def test_the_command(tmp_path):
    paths = [evaluation(tmp_path / name, lift) for name, lift in (("a", 0), ("b", 0.2), ("c", 0.1))]
    assert "\n      medseg compare a b\n" in tiny.medseg_command("compare", "--help").out
    said = tiny.medseg_command("compare", *paths, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "cases: 20, of patients: 10" in said.out and "A - B" in said.out and "1: 100 %" in said.out
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert written["test"] == "wilcoxon" and written["patients"] == PATIENTS and len(written["differences"]) == 9
    with (tmp_path / "out" / "compare.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["number"] for row in rows[:3]] == ["dice", "hd95", "volume_error"] and float(rows[0]["p"]) < 0.01


def test_evaluations_made_by_the_command_compare(tmp_path):
    """The fingerprint of the truth is the same however its file is turned, and another when a voxel is."""
    _, label = tiny.phantom(1)
    worse = label.copy()
    worse[label == 1] = np.where(np.arange((label == 1).sum()) % 3, 1, 0)
    (tmp_path / "labels.yaml").write_text("left: 1\nright: 2\n")
    turned = tiny.AFFINE @ np.diag([-1.0, 1, 1, 1])
    turned[:3, 3] = (tiny.AFFINE @ [label.shape[0] - 1, 0, 0, 1])[:3]
    other = label.copy()
    other[0, 0, 0] = 1
    truths = {"same": (label, tiny.AFFINE), "turned": (label[::-1], turned), "other": (other, tiny.AFFINE)}
    for name, (array, affine) in truths.items():
        tiny.nifti(tmp_path / name / "x.nii.gz", array, affine)
        tiny.nifti(tmp_path / "predicted" / "x.nii.gz", worse)
        words = ("--truth", tmp_path / name, "--labels", tmp_path / "labels.yaml", "--out", tmp_path / f"of_{name}")
        assert tiny.medseg_command("evaluate", tmp_path / "predicted", *words).code == 0
    said = tiny.medseg_command("compare", tmp_path / "of_same", tmp_path / "of_turned")
    assert said.code == 0 and "cases: 1, of patients: 1" in said.out
    said = tiny.medseg_command("compare", tmp_path / "of_same", tmp_path / "of_other")
    assert said.code == 2 and "another truth of the same case (x)" in said.err
