"""Scores of label maps, with values that can be checked on paper."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from medseg import config
from medseg.engine import assess, evaluate, inputs
from medseg.engine.scores import Scores
from medseg.engine.scores_text import as_text
from medseg.labels import LabelTable
from medseg.prediction import Evidence
from medseg.refusal import Refusal
from tests import tiny

TABLE = LabelTable.of({"left": 1, "right": 2})
METRICS = tuple(config.choose("metrics", name) for name in ("dice", "hd95", "volume"))
CUBES = np.diag([2.0, 2.0, 2.0, 1.0])


def line(*values: int, kind: type = np.uint8) -> np.ndarray:
    return np.array(values, kind).reshape(-1, 1, 1)


@pytest.fixture
def folders(tmp_path):
    """`put("predicted" or "truth", name, voxels)`; and `scored()`."""

    class Folders:
        predicted, truth = tmp_path / "predicted", tmp_path / "truth"

        def put(self, side: str, name: str, array: np.ndarray, affine: np.ndarray = CUBES) -> None:
            tiny.nifti(tmp_path / side / f"{name}.nii.gz", array, affine)

        def scored(self, table: LabelTable = TABLE) -> Scores:
            return evaluate.of_pairs(inputs.of_folders(self.predicted, self.truth), table, METRICS)

    for side in ("predicted", "truth"):
        (tmp_path / side).mkdir()
    return Folders()


def test_values_on_paper(folders):
    """left: two voxels each, one shared; from each surface distances of 0 and 2 mm, of which the 95th percentile is
    1.9 mm. right: 2 against 1 voxels of 8 mm3."""
    folders.put("truth", "x", line(1, 1, 0, 2, 0))
    folders.put("predicted", "x", line(0, 1, 1, 2, 2))
    left, right = folders.scored().rows
    assert (left.case, left.label, right.label) == ("x", "left", "right")
    volumes = {"volume_truth_ml": 0.016, "volume_predicted_ml": 0.016}
    differences = {"volume_difference_ml": 0, "volume_difference_percent": 0}
    assert left.values == pytest.approx({"dice": 0.5, "hd95": 1.9, **volumes, **differences})
    assert right.values["dice"] == pytest.approx(2 / 3)
    assert right.values["volume_difference_ml"] == pytest.approx(0.008)


def test_means_leave_out_what_is_undefined_and_keep_what_is_infinite(folders, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # so that all numbers stand side by side
    folders.put("truth", "a", line(1, 0, 0))
    folders.put("predicted", "a", line(1, 0, 0))
    folders.put("truth", "b", line(1, 0, 0))
    folders.put("predicted", "b", line(0, 0, 0))
    scores = folders.scored()
    assert math.isinf(scores.rows[2].values["hd95"]) and math.isnan(scores.rows[1].values["dice"])
    assert scores.mean("dice", "left") == 0.5 and math.isinf(scores.mean("hd95", "left"))
    assert math.isnan(scores.mean("dice", "right")) and scores.mean("dice") == 0.5
    written = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert written["means"]["right"]["dice"] == "undefined" and written["means"]["mean of labels"]["dice"] == 0.5
    assert [row["hd95"] for row in written["cases"]] == [0, "undefined", "infinite", "undefined"]
    table = {row.split()[0]: row.split() for row in as_text(scores).splitlines()[1:]}
    assert table["left"] == ["left", "0.5000", "infinite", "-0.0040", "-50.0000", "2", "0"]
    assert table["right"][1] == "undefined"


def test_a_missing_prediction_is_noted_and_an_extra_one_refused(folders):
    for name in ("a", "b"):
        folders.put("truth", name, line(1, 0))
    folders.put("predicted", "a", line(1, 0))
    assert folders.scored().missing == ("b: no prediction",)
    folders.put("predicted", "c", line(1, 0))
    with pytest.raises(Refusal, match=r"predicted: found label maps without truth: c; needed a file of the same name"):
        folders.scored()


def test_nothing_to_score(folders):
    with pytest.raises(Refusal, match="no label map"):
        folders.scored()
    folders.truth.rmdir()
    with pytest.raises(Refusal, match="truth: found no such folder"):
        folders.scored()


def test_another_grid_is_refused_in_mm(folders):
    moved = CUBES.copy()
    moved[0, 3] = 3.5
    folders.put("truth", "x", line(1, 0))
    folders.put("predicted", "x", line(1, 0), moved)
    with pytest.raises(Refusal, match=r"predicted/x\.nii\.gz: found a label grid .*3\.5 mm.* from that of .*truth/x"):
        folders.scored()
    folders.put("predicted", "x", line(1, 0, 0))
    with pytest.raises(Refusal, match=r"predicted/x\.nii\.gz: found a label grid"):
        folders.scored()


def test_another_axis_order_of_the_same_grid_is_the_same(folders):
    turned = np.diag([-2.0, 2.0, 2.0, 1.0])
    turned[0, 3] = 8
    folders.put("truth", "x", line(1, 1, 0, 2, 0))
    folders.put("predicted", "x", line(1, 1, 0, 2, 0)[::-1], turned)
    assert folders.scored().mean("dice") == 1


def test_labels_stored_as_floats_are_whole_numbers_or_refused(folders):
    folders.put("truth", "x", line(1, 0))
    folders.put("predicted", "x", line(1, 0, kind=np.float32))
    assert folders.scored().mean("dice") == 1
    folders.put("predicted", "x", np.float32([[[0.5]], [[0.25]]]))
    with pytest.raises(Refusal, match=r"predicted/x\.nii\.gz: found the value 0\.5; needed whole numbers"):
        folders.scored()


def test_regions(folders):
    """whole = 1, 2 and 4; core = 1 and 4. Painted with numbers of the files, the map says all of it."""
    folders.put("truth", "x", line(1, 2, 4, 0))
    folders.put("predicted", "x", line(1, 2, 2, 0))
    table = LabelTable.of({"whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]}, paint=[2, 1, 4])
    assert [row.values["dice"] for row in folders.scored(table).rows] == pytest.approx([1, 2 / 3, 0])


@pytest.mark.parametrize("paint", [None, [1, 2, 4], [2, 3, 4]])
def test_regions_whose_painted_numbers_mean_something_else_are_refused(folders, paint):
    folders.put("truth", "x", line(1, 2, 4, 0))
    folders.put("predicted", "x", line(1, 2, 2, 0))
    table = LabelTable.of({"whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]}, paint=paint)
    with pytest.raises(Refusal, match=r"regions painted so that . does not say"):
        folders.scored(table)


def test_label_tables(tmp_path):
    run = tiny.untrained_run(tmp_path / "run")
    assert inputs.table_from(run.folder) == run.table
    assert inputs.table_from(run.path("labels.json")) == run.table
    (tmp_path / "labels.yaml").write_text("labels:\n  left: 1\n  right: 2\n")
    assert inputs.table_from(tmp_path).names == ("left", "right")
    (tmp_path / "plain.yaml").write_text("left: 1\n")
    assert inputs.table_from(tmp_path / "plain.yaml").names == ("left",)
    with pytest.raises(Refusal, match="no label table"):
        inputs.table_from(tmp_path / "absent.yaml")


@pytest.mark.parametrize("content", ["a: [", "- 1", "", "labels: {a: one}", '{"exclusive": true}'])
def test_damaged_label_tables(tmp_path, content):
    (tmp_path / "labels.yaml").write_text(content)
    with pytest.raises(Refusal, match=r"labels\.yaml"):
        inputs.table_from(tmp_path / "labels.yaml")


def test_the_command(folders, tmp_path):
    folders.put("truth", "x", line(1, 1, 0, 2, 0))
    folders.put("predicted", "x", line(0, 1, 1, 2, 2))
    (tmp_path / "labels.yaml").write_text("left: 1\nright: 2\n")
    words = ["evaluate", folders.predicted, "--truth", folders.truth]
    said = tiny.medseg_command(*words)
    assert said.code == 2 and "needed --truth and --labels" in said.err
    said = tiny.medseg_command(*words, "--labels", tmp_path / "labels.yaml", "--out", tmp_path / "out")
    assert said.code == 0 and "0.5000" in said.out
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["units"]["hd95"] == "mm" and written["means"]["left"]["dice"] == 0.5


def test_results_stand_apart_by_quality_and_by_source():
    """Healthy people from another collection: low against high grade is judged within the one collection."""
    table = LabelTable.classes({"low": 0, "high": 1, "healthy": 2})
    rows = [("BraTS", 0, (0.6, 0.4, 0)), ("BraTS", 1, (0.7, 0.3, 0)), ("IXI", 2, (0, 0, 1)), ("IXI", 2, (0, 0, 1))]
    cases = [
        Evidence(
            f"{number}",
            f"{number}",
            np.eye(3, dtype=np.uint8)[:, [kind]],
            np.array(chances, np.float32)[:, None],
            attributes={"source": source, "quality": "good"},
        )
        for number, (source, kind, chances) in enumerate(rows)
    ]
    found = {
        (one.over, one.row): one.value for one in assess.measure(cases, [config.choose("metrics", "auroc")], table)
    }
    assert found["image", "healthy"] == 1 and found["image", "low"] == pytest.approx(2 / 3)
    assert found["source BraTS", "low"] == found["source BraTS", "high"] == 0
    assert not any(over.startswith("quality") for over, _ in found), "one quality alone is no stratum"


def test_columns_are_as_wide_as_their_words():
    one = assess.Pooled("slices divided at random", "auroc", "tumour", 0.5, 0.4, 0.6)
    assert assess.as_text([one]).splitlines() == [
        "over                      metric              value   95 % interval by patient",
        "slices divided at random  auroc   tumour     0.5000   0.4000 to 0.6000",
    ]
