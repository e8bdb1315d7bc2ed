"""Rows of statistics about scores, with numbers worked out on paper; strata; what is written and printed of them."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from medseg.engine import summary
from medseg.engine.score import Score
from medseg.engine.scores import Scores, save
from medseg.engine.scores_text import as_text
from medseg.metrics import Number
from medseg.refusal import Refusal

NAN, INF = math.nan, math.inf
NUMBERS = {"dice": Number("", "higher"), "hd95": Number("mm", "lower")}
ML = 0.001


def scores(*rows: tuple[str, str, str, float, float], by: tuple[str, ...] = (), facts=None) -> Scores:
    """(case, patient, label, dice, hd95), each of as many ml as its place in the list."""
    made = tuple(
        Score(case, patient, label, {"dice": dice, "hd95": hd95}, (1000 * place, 500), ML)
        for place, (case, patient, label, dice, hd95) in enumerate(rows, 1)
    )
    return Scores(made, NUMBERS, by=by, facts=facts or {})


def found(given: Scores, over: str, label: str, number: str) -> dict:
    (row,) = (row for row in given.statistics if (row["over"], row["label"], row["number"]) == (over, label, number))
    return row


def many(patients: int = 8, **how) -> Scores:
    """Two cases a patient, two labels."""
    generator = np.random.default_rng(0)
    rows = []
    for patient in range(patients):
        own = generator.uniform(0.7, 0.9)
        for case in "ab":
            values = {label: own + generator.uniform(0, 0.1) for label in ("left", "right")}
            rows += [(f"{patient}{case}", f"p{patient}", label, value, 2.0) for label, value in values.items()]
    return scores(*rows, **how)


def test_a_row_on_paper():
    given = scores(
        ("a", "p", "left", 0.5, 1),
        ("b", "p", "left", 0.7, 3),
        ("c", "q", "left", NAN, INF),
        ("d", "r", "left", 0.9, 5),
    )
    row = found(given, "all cases", "left", "dice")
    assert (row["cases"], row["patients"], row["undefined"], row["infinite"], row["unit"]) == (3, 2, 1, 0, "")
    told = [row[key] for key in ("mean", "sd", "median", "q1", "q3")]
    assert told == pytest.approx([0.7, 0.2, 0.7, 0.6, 0.8])
    assert math.isnan(row["low"]), "two patients have no interval"
    row = found(given, "all cases", "left", "hd95")
    assert (row["cases"], row["infinite"], row["mean"], row["median"], row["q3"]) == (4, 1, INF, 4, INF)
    assert row["sd"] == pytest.approx(2) and row["unit"] == "mm"
    assert {row["label"] for row in given.statistics} == {"left"}, "one label alone needs no mean of labels"
    assert "mean of labels" not in as_text(given) and "mean of labels" in as_text(many())


def test_a_single_case_has_no_spread():
    row = found(scores(("a", "p", "left", 0.5, 1)), "all cases", "left", "dice")
    assert row["mean"] == row["median"] == 0.5 and math.isnan(row["sd"])


def test_the_mean_of_labels_is_that_of_the_table_and_lies_in_its_interval():
    given = many()
    row = found(given, "all cases", "mean of labels", "dice")
    assert row["mean"] == pytest.approx(given.mean("dice")) and row["low"] < row["mean"] < row["high"]
    assert (row["cases"], row["patients"]) == (16, 8) and math.isnan(row["sd"])


def test_numbers_that_no_case_has_are_named_once():
    text = as_text(scores(("a", "a", "left", 0.5, NAN), ("b", "b", "left", NAN, NAN)))
    assert "undefined in every case: hd95" in text and "hd95 [mm]" not in text
    assert text.splitlines()[1].split() == ["left", "0.5000", "2", "1"], "one undefined Dice"
    assert "undefined in every case" not in as_text(scores(("a", "a", "left", NAN, 3.0), ("b", "b", "left", 0.5, NAN)))


def test_intervals_take_patients_for_one():
    rows = many().rows
    alone = Scores(tuple(Score(row.case, row.case, row.label, row.values) for row in rows), NUMBERS)
    by_patient, by_case = (found(one, "all cases", "left", "dice") for one in (many(), alone))
    assert by_patient["mean"] == by_case["mean"]
    assert by_patient["high"] - by_patient["low"] > 1.2 * (by_case["high"] - by_case["low"])


def test_intervals_hold_nothing_that_no_mean_can_be():
    values = [1.0] * 7 + [0.0]
    given = scores(*((f"{n}", f"{n}", "left", value, 10 * (1 - value)) for n, value in enumerate(values)))
    share, distance = (found(given, "all cases", "left", name) for name in NUMBERS)
    assert 0 <= share["low"] < 0.875 < share["high"] <= 1
    assert 0 <= distance["low"] < 1.25 < distance["high"]
    errors = {"dice": Number("", "neither"), "hd95": Number("ml", "nearer zero")}
    free = Scores(given.rows, errors)
    assert found(free, "all cases", "left", "dice")["high"] > 1 and found(free, "all cases", "left", "hd95")["low"] < 0


def test_strata_of_words_and_of_numbers():
    ages = {
        f"{n}{case}": {"centre": "Ulm" if n % 2 else "Bern", "age": str(20 + 10 * n)} for n in range(8) for case in "ab"
    }
    del ages["7b"]["centre"]
    given = many(by=("centre", "age"), facts=ages)
    overs = list(dict.fromkeys(row["over"] for row in given.statistics))
    assert overs == [
        *("all cases", "centre Bern", "centre Ulm", "centre not stated"),
        *("age up to 40", "age 40 to 70", "age above 70"),
    ]
    assert [found(given, over, "left", "dice")["cases"] for over in overs] == [16, 8, 7, 1, 6, 6, 4]
    expected = np.mean([row.values["dice"] for row in given.rows if row.label == "left" and row.case[0] in "0246"])
    assert found(given, "centre Bern", "left", "dice")["mean"] == pytest.approx(expected)
    few = many(by=("age",), facts={case: {"age": str(int(case[0]) % 3)} for case in ages})
    assert {row["over"] for row in few.statistics} == {"all cases", "age 0", "age 1", "age 2"}
    assert "centre Bern" in as_text(given) and "age above 70" in as_text(given)


def test_strata_of_size_are_thirds_of_each_label_where_it_is():
    rows = [(f"{n}", f"{n}", label, 0.1 * n, 1.0) for n in range(6) for label in ("left", "right")]
    given = scores(*rows, by=("size",))
    empty = Scores(
        (Score("x", "x", "left", {"dice": 0.0, "hd95": INF}, (0, 9), ML), *given.rows), NUMBERS, by=("size",)
    )
    for one in (given, empty):
        assert [row["over"] for row in one.statistics if row["label"] == "left" and row["number"] == "dice"] == [
            *("all cases", "size up to 4.333 ml", "size 4.333 to 7.667 ml", "size above 7.667 ml")
        ]
    two = Scores(tuple(row for row in given.rows if row.case in "01"), NUMBERS, by=("size",))
    assert {row["over"] for row in two.statistics} == {"all cases"}
    row = found(given, "size up to 4.333 ml", "left", "dice")
    assert row["cases"] == 2 and row["mean"] == pytest.approx(0.05)
    assert "size above 7.667 ml left" in as_text(given)
    photographs = Scores(
        tuple(Score(*r[:3], {"dice": r[3], "hd95": NAN}, (n, 5)) for n, r in enumerate(rows)), NUMBERS, by=("size",)
    )
    assert any(row["over"].endswith("px") for row in photographs.statistics)
    assert photographs.volumes() == [] and given.volumes()[1] == {
        "case": "0",
        "patient": "0",
        "label": "right",
        "truth_ml": pytest.approx(2),
        "predicted_ml": pytest.approx(0.5),
    }


def test_a_column_that_is_not_there():
    facts = {"a": {"centre": "Ulm", "age": "1"}, "b": {}}
    summary.refuse_unknown(["age", "size"], facts)
    words = r"--by: found 'scanner'; needed a column of the table of cases \(age, centre\), or size"
    with pytest.raises(Refusal, match=words):
        summary.refuse_unknown(["age", "scanner"], facts)


def test_means_of_patients():
    given = scores(("a", "p", "left", 0.5, 1), ("b", "p", "left", 0.7, INF), ("c", "q", "left", NAN, 2))
    first, second = summary.of_patients(given.rows, list(NUMBERS))
    assert first == {"patient": "p", "label": "left", "cases": 2, "dice": pytest.approx(0.6), "hd95": INF}
    assert math.isnan(second["dice"]) and second["hd95"] == 2


def test_files_and_table(tmp_path):
    given = scores(("a, b", "p", 'the "left"', 0.5, INF), ("c", "q", 'the "left"', NAN, 2))
    save(given, tmp_path)
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as handle:
        text = handle.read()
    assert text.startswith("case,patient,label,dice,hd95\r\n") and text.endswith("\r\n")
    first, second = csv.DictReader(text.splitlines())
    assert first == {"case": "a, b", "patient": "p", "label": 'the "left"', "dice": "0.5", "hd95": "inf"}
    assert second["dice"] == "" and float(second["hd95"]) == 2
    written = json.loads((tmp_path / "metrics.json").read_text())
    row = written["statistics"][1]
    assert (row["number"], row["mean"], row["low"], row["infinite"]) == ("hd95", "infinite", "undefined", 1)
    assert written["better"] == {"dice": "higher", "hd95": "lower"}


def test_the_table_has_intervals_under_the_means():
    given = many()
    lines = as_text(given).splitlines()
    row = found(given, "all cases", "left", "dice")
    assert lines[1].split()[:2] == ["left", f"{row['mean']:.4f}"]
    assert f"{row['low']:.4f} to {row['high']:.4f}" in lines[2] and "95 % by patient" in lines[2]


def test_numbers_that_do_not_fit_stand_below_one_another(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = as_text(many()).splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.split()[1] for line in lines if line.startswith("label")] == ["dice", "hd95"]
    monkeypatch.setenv("COLUMNS", "120")
    assert [line.split()[1:3] for line in as_text(many()).splitlines() if line.startswith("label")] == [
        ["dice", "hd95"]
    ]
