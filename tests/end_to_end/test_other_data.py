"""Imported runs at work: scored by `medseg evaluate RUN dataset...=` on data of other label numbers; maps of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medseg import models
from medseg.engine import unseen
from medseg.engine.run import Run
from tests import tiny
from tests.published import bring_in
from tests.tiny import ROOT, medseg_command

RETINA = f"dataset={{name: retina_av, root: {ROOT / 'sample_data' / 'retina'}, layout: rite, part: test}}"
SMALL = {"base_channels": 2, "iterations": 1}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """RRWNet as if published: with the label numbers of its authors' files, red 1, green 2 and blue 4."""
    folder = tmp_path_factory.mktemp("imported")
    torch.manual_seed(0)
    torch.save(models.build("rrwnet", in_channels=3, out_channels=3, **SMALL).state_dict(), folder / "w.pth")
    settings = [*(f"model.{key}={value}" for key, value in SMALL.items()), "prepare.patch=[96, 96, 1]"]
    said = bring_in(folder / "w.pth", "rrwnet-rite", settings=settings)
    assert said.code == 0, said.err
    return Run(folder / "run")


def test_an_imported_run_is_scored_on_any_data(imported: Run, tmp_path: Path) -> None:
    metrics = "metrics=[dice, artery_vein, {name: vessel_paths, paths: 10}]"
    said = medseg_command("evaluate", imported.folder, RETINA, metrics, "--out", tmp_path)
    assert said.code == 0, said.err
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert sorted({row["case"] for row in scores["cases"]}) == [f"{number:02}_test" for number in range(1, 7)]
    assert {row["metric"] for row in scores["over all cases"]} == {"artery_vein", "vessel_paths"}
    assert "scored on" in (tmp_path / "report.html").read_text()
    assert not imported.path("metrics.json").exists()


def test_label_maps_mean_what_their_data_set_says(imported: Run) -> None:
    """In RITE's files green is a crossing and blue a vein; in those that the weights come from, a vein and a vessel."""
    assert imported.table.labels[1].members == (6, 7)
    cases = unseen.sample(imported, [RETINA]).cases
    assert cases.labels.names == imported.table.names and cases.labels.labels[1].members == (2, 4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("metrics=[dice]",), "data set"),  # an imported run has no data of its own
        ((RETINA, "labels={vessel: [1, 4], vein: [4], artery: [1]}"), "labels vessel, vein, artery"),
    ],
)
def test_what_does_not_fit_is_refused(imported: Run, tmp_path: Path, changes: tuple[str, ...], words: str) -> None:
    said = medseg_command("evaluate", imported.folder, *changes, "--out", tmp_path)
    assert said.code == 2 and words in said.err, said.err


def test_without_a_folder_the_runs_own_scores_stay(imported: Run) -> None:
    said = medseg_command("evaluate", imported.folder, RETINA)
    assert said.code == 2 and "--out" in said.err


def test_cases_that_were_trained_on_are_refused(tmp_path: Path) -> None:
    run = tiny.untrained_run(tmp_path / "run")
    run.write("split.json", {"kind": "kfold", "stamp": "", "fold": 0, "folds": [{"train": ["p1_a"], "validation": []}]})
    other = tiny.data_set(tmp_path / "other")
    words = ("evaluate", run.folder, f"dataset.root={other}", "--out", tmp_path / "out", "--device", "cpu")
    said = medseg_command(*words)
    assert said.code == 2 and "such as p1_a" in said.err
    for folder in ("images", "labels"):
        (other / folder / "p1_a.nii.gz").rename(other / folder / "new.nii.gz")
    (other / "patients.csv").unlink()
    said = medseg_command(*words)
    assert said.code == 0, said.err
    assert "patients could not be compared" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    tiny.data_set(run.folder / "no-data")  # what it was trained on is there now: p1_a is a scan of p1
    (other / "patients.csv").write_text("case,patient\nnew,p1\np1_b,p4\np2_a,p5\np3_a,p6\n", encoding="utf-8")
    said = medseg_command(*words)
    assert said.code == 2 and "such as new" in said.err, said.err


def test_predicted_maps_can_be_refined(imported: Run, tmp_path: Path) -> None:
    photographs = ROOT / "sample_data" / "retina" / "test" / "images"
    said = medseg_command("predict", imported.folder, photographs, tmp_path / "maps", "--output", "maps")
    assert said.code == 0, said.err
    assert medseg_command("refine", imported.folder, tmp_path / "maps", tmp_path / "refined").code == 0
    assert len(list((tmp_path / "refined").glob("*.png"))) == 6
