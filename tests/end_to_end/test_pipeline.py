"""From a recipe to a report, through the command line and from Python, on a tiny data set."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image

import medseg
from medseg.engine import checkpoint, fit
from medseg.engine.run import Run
from medseg.volume import Volume
from tests import tiny
from tests.tiny import medseg_command

OBLIQUE = np.array([[0.1, -1.5, 0.2, 31], [1.4, 0.1, -0.1, -7], [0.05, 0.15, 2.1, 99.5], [0, 0, 0, 1]])


def labels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def weights(run: Path) -> str:
    return checkpoint.load(run / "weights.safetensors")[2]


def succeed(*words: object) -> tiny.Said:
    said = medseg_command(*words)
    assert said.code == 0, said.err
    return said


def test_training_leaves_a_complete_run_folder(trained):
    names = {file.name for file in trained.run.iterdir()}
    assert names >= {
        *("recipe.yaml", "plan.json", "labels.json", "split.json", "fingerprint.json"),
        *("weights.safetensors", "last.safetensors", "log.jsonl", "card.md"),
    }
    assert not [name for name in names if name.startswith(".partial")]
    log = [json.loads(line) for line in (trained.run / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2]
    assert all({"loss", "lr", "dice", "dice_per_label", "seconds"} <= set(entry) for entry in log)
    assert all(0 <= entry["wait"] < 1 and entry["seconds_a_step"] > 0 for entry in log)
    split = json.loads((trained.run / "split.json").read_text())["folds"][0]
    patients = {side: {case[:2] for case in split[side]} for side in ("train", "validation")}
    assert not patients["train"] & patients["validation"]
    waited = round(100 * log[1]["wait"])
    assert re.search(rf"epoch 2/2 .* s a step, ({waited - 1}|{waited}|{waited + 1})% of it waiting", trained.said.err)
    assert str(trained.run) in trained.said.out


def test_the_same_command_again_says_that_it_is_done(trained):
    before = {file: file.read_bytes() for file in trained.run.iterdir() if file.is_file()}
    said = succeed("train", trained.recipe, "--out", trained.run)
    assert "the training is complete" in said.err and "epoch" not in said.err.replace("train.epochs", "")
    assert {file: file.read_bytes() for file in trained.run.iterdir() if file.is_file()} == before


def test_labels_lie_on_the_grid_of_the_scan(trained, tmp_path):
    image, _ = tiny.phantom(7, (21, 17, 19))
    scan = tiny.nifti(tmp_path / "scan.nii.gz", image, OBLIQUE)
    said = succeed("predict", trained.run, scan, tmp_path / "out", "--threads", 1)
    made = nib.load(tmp_path / "out" / "scan.nii.gz")
    assert made.shape == image.shape and made.get_data_dtype() == np.uint8
    assert np.array_equal(made.affine, nib.load(scan).affine)
    assert set(np.unique(labels(tmp_path / "out" / "scan.nii.gz"))) <= {0, 1, 2}
    report = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert report["cases"][0]["state"] == "done" and set(report["cases"][0]["facts"]["volume_ml"]) == {"left", "right"}
    assert report["provenance"]["weights sha256"] == weights(trained.run)
    assert "1 done, 0 not" in said.out


def test_evaluation_of_a_run(trained, tmp_path):
    said = succeed("evaluate", trained.run, "--out", tmp_path)
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert scores["stamp"] == "" and set(scores["means"]) == {"left", "right", "mean of labels"}
    # native and prepared grid are the same here, so the Dice is the one that training reported
    log = [json.loads(line) for line in (trained.run / "log.jsonl").read_text().splitlines()]
    best = max(entry["dice"] for entry in log)
    assert scores["means"]["mean of labels"]["dice"] == pytest.approx(best, abs=1e-4)
    assert "mean of labels" in said.out and "<html" in (tmp_path / "report.html").read_text()


def test_python_gives_what_the_command_line_gives(trained, tmp_path):
    scan = trained.data / "images" / "p3_a.nii.gz"
    succeed("predict", trained.run, scan, tmp_path, "--threads", 1)
    prediction = medseg.predict(trained.run, scan)
    assert np.array_equal(prediction.painted().array[0], labels(tmp_path / "p3_a.nii.gz"))
    assert np.array_equal(prediction.target.affine, medseg.read(scan).affine)


def test_training_from_python_gives_the_same_weights(trained, tmp_path, monkeypatch):
    assert weights(medseg.train(trained.recipe, tmp_path / "run")) == weights(trained.run)
    monkeypatch.chdir(tmp_path)
    other = medseg.train(trained.recipe, overrides=["seed=1"])
    assert other == Path("runs/tiny") and weights(other) != weights(trained.run)


def test_resume_with_more_epochs_goes_on(trained, tmp_path):
    shutil.copytree(trained.run, tmp_path / "run")
    changed = ["train", trained.recipe, "train.epochs=3", "--out", tmp_path / "run"]
    said = medseg_command(*changed)
    assert said.code == 2 and "it differs in: train" in said.err and "--resume" in said.err
    said = succeed(*changed, "--resume")
    assert "going on after step 4 of 6" in said.err and "epoch 3/3" in said.err and "epoch 2/3" not in said.err
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("change", ["train.steps=3", "train.optimiser=sgd", "train.ema=0.9", "model.channels=[4,12]"])
def test_resume_refuses_what_the_saved_state_does_not_fit(trained, tmp_path, change):
    shutil.copytree(trained.run, tmp_path / "run")
    said = medseg_command("train", trained.recipe, change, "train.epochs=9", "--out", tmp_path / "run", "--resume")
    assert said.code == 2 and "found a run of another recipe" in said.err and "choose another --out" in said.err
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == (trained.run / "recipe.yaml").read_bytes()


def test_resume_needs_something_to_resume(trained, tmp_path):
    said = medseg_command("train", trained.recipe, "--out", tmp_path / "new", "--resume")
    assert said.code == 2 and "no checkpoint to resume" in said.err and not (tmp_path / "new").exists()


def test_a_folder_that_is_no_run_is_left_alone(trained, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    said = medseg_command("train", trained.recipe, "--out", tmp_path)
    assert said.code == 2 and "files that are not a run's" in said.err
    said = medseg_command("train", trained.recipe, "--out", tmp_path / "thesis.txt")
    assert said.code == 2 and "found a file" in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_recipe_corrected_before_the_first_checkpoint_gets_its_own_plan(trained, tmp_path, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "fit", stopped)
        assert medseg_command("train", trained.recipe, "--out", tmp_path / "run").code == 130
    assert Run(tmp_path / "run").plan.patch == (16, 16, 16)
    succeed("train", trained.recipe, "prepare.patch=[8,8,8]", "split.fold=1", "--out", tmp_path / "run")
    assert Run(tmp_path / "run").plan.patch == (8, 8, 8)
    assert json.loads((tmp_path / "run" / "split.json").read_text())["fold"] == 1


def test_a_split_that_does_not_separate_is_stamped_everywhere(trained, tmp_path):
    run = tmp_path / "run"
    succeed("train", trained.recipe, "split.kind=none", "train.epochs=1", "--out", run)
    said = succeed("evaluate", run)
    stamp = "not an estimate of generalisation"
    assert stamp in said.out and json.loads((run / "metrics.json").read_text())["stamp"] == stamp
    for name in ("card.md", "report.html", "split.json"):
        assert stamp in (run / name).read_text(), name


def test_an_ensemble_of_two_folds(trained, tmp_path):
    succeed("train", trained.recipe, "split.fold=1", "--out", tmp_path / "fold1")
    scan = trained.data / "images" / "p1_a.nii.gz"
    for name, more in (("both", [trained.run, "--with", tmp_path / "fold1"]), ("twice", [trained.run, "--with"])):
        runs = more if name == "both" else [*more, trained.run]
        succeed("predict", runs[0], scan, tmp_path / name, *runs[1:], "--threads", 1)
    alone = medseg.predict(trained.run, scan).painted().array[0]
    assert np.array_equal(labels(tmp_path / "twice" / "p1_a.nii.gz"), alone)
    report = json.loads((tmp_path / "both" / "predict.json").read_text())
    assert report["provenance"]["weights sha256"] == f"{weights(trained.run)}, {weights(tmp_path / 'fold1')}"


def test_a_zipped_run_gives_the_same_labels(trained, tmp_path):
    succeed("export", trained.run, tmp_path / "model.zip")
    scan = trained.data / "images" / "p1_a.nii.gz"
    for name, run in (("folder", trained.run), ("zip", tmp_path / "model.zip")):
        succeed("predict", run, scan, tmp_path / name, "--threads", 1)
    assert (tmp_path / "folder" / "p1_a.nii.gz").read_bytes() == (tmp_path / "zip" / "p1_a.nii.gz").read_bytes()
    assert "labels       left, right" in succeed("info", tmp_path / "model.zip").out
    said = medseg_command("evaluate", tmp_path / "model.zip")  # the zip does not say which cases were held out
    assert said.code == 2 and "found no split.json" in said.err and "evaluate the run folder" in said.err


def test_several_channels(tmp_path):
    data = tiny.data_set(tmp_path / "data", channels=("T1", "T2"))
    recipe = tiny.recipe(tmp_path / "recipe.yaml", data)
    run = tmp_path / "run"
    succeed("train", recipe, "dataset.channels=[T1, T2]", "train.epochs=1", "--out", run)
    t1, t2 = (data / "images" / name / "p3_a.nii.gz" for name in ("T1", "T2"))
    succeed("predict", run, tmp_path / "a", "--channel", f"T2={t2}", "--channel", f"T1={t1}", "--threads", 1)
    (tmp_path / "in").mkdir()
    shutil.copy(t1, tmp_path / "in" / "x_T1.nii.gz")
    shutil.copy(t2, tmp_path / "in" / "x_T2.nii.gz")
    succeed("predict", run, tmp_path / "in", tmp_path / "b", "--threads", 1)
    both = np.stack([labels(t1), labels(t2)], axis=-1)
    whole = medseg.predict(run, tiny.nifti(tmp_path / "4d.nii.gz", both)).painted().array[0]
    assert np.array_equal(labels(tmp_path / "a" / "p3_a.nii.gz"), whole)
    assert np.array_equal(labels(tmp_path / "b" / "x.nii.gz"), whole)
    said = medseg_command("predict", run, t1, tmp_path / "c")
    assert said.code == 1 and "found 1 channels; needed 2: T1, T2" in said.err
    assert "needed NAME=FILE" in medseg_command("predict", run, tmp_path / "c", "--channel", "T1").err
    said = medseg_command("predict", run, tmp_path / "c", "--channel", f"T1={t1}", "--channel", f"T1={t2}")
    assert said.code == 2 and "--channel: found T1 twice" in said.err


def test_regions_that_overlap(tmp_path):
    data = tiny.data_set(tmp_path / "data", labels="whole: [1, 2]\n  core: [2]")
    recipe = tiny.recipe(tmp_path / "recipe.yaml", data)
    succeed("train", recipe, "train.epochs=1", "--out", tmp_path / "run")
    scores = json.loads(succeed("evaluate", tmp_path / "run").out and (tmp_path / "run" / "metrics.json").read_text())
    assert set(scores["means"]) == {"whole", "core", "mean of labels"}
    prediction = medseg.predict(tmp_path / "run", data / "images" / "p3_a.nii.gz")
    assert prediction.target.array.shape == (2, *tiny.SHAPE)
    assert set(np.unique(prediction.target.array)) <= {0, 1}


def test_a_bad_scan_among_good_ones(untrained, tmp_path):
    image, _ = tiny.phantom(3)
    for name in ("a", "c"):
        tiny.nifti(tmp_path / "in" / f"{name}.nii.gz", image)
    (tmp_path / "in" / "b.nii.gz").write_bytes((tmp_path / "in" / "a.nii.gz").read_bytes()[:300])
    said = medseg_command("predict", untrained, tmp_path / "in", tmp_path / "out", "--threads", 1)
    assert said.code == 1 and "2 done, 1 not" in said.out and "Traceback" not in said.err
    cases = json.loads((tmp_path / "out" / "predict.json").read_text())["cases"]
    assert [(case["case"], case["state"]) for case in cases] == [("a", "done"), ("b", "refused"), ("c", "done")]
    assert "b.nii.gz: found a damaged or truncated gzip stream" in cases[1]["reason"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a.nii.gz", "c.nii.gz", "predict.json"}


def test_a_scan_is_never_replaced_by_its_labels(untrained, tmp_path):
    scan = tiny.nifti(tmp_path / "ct.nii.gz", tiny.phantom(3)[0])
    before = scan.read_bytes()
    said = medseg_command("predict", untrained, scan, tmp_path, "--threads", 1)
    assert said.code == 1 and "found the scan itself" in said.err
    assert scan.read_bytes() == before


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.uint8])
def test_convert_keeps_voxels_and_geometry(tmp_path, suffix, kind):
    array = tiny.phantom(5)[0].astype(kind)
    turn = np.linalg.qr(OBLIQUE[:3, :3])[0] @ np.diag([1.5, 2.0, 0.8])
    affine = np.eye(4)
    affine[:3] = np.column_stack([turn, [31, -7, 99.5]])
    source = tiny.nifti(tmp_path / "in.nii.gz", array, affine)
    succeed("convert", source, tmp_path / f"out{suffix}")
    before, after = medseg.read(source), medseg.read(tmp_path / f"out{suffix}")
    assert np.array_equal(before.array, after.array) and before.array.dtype == after.array.dtype
    np.testing.assert_allclose(after.affine, before.affine, atol=2e-5)  # NIfTI keeps single precision
    assert {file.name for file in tmp_path.iterdir()} == {"in.nii.gz", f"out{suffix}"}


def test_convert_several_channels(tmp_path):
    both = np.stack([tiny.phantom(5)[0], tiny.phantom(6)[0]], axis=-1)
    source = tiny.nifti(tmp_path / "in.nii.gz", both)
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        succeed("convert", source, tmp_path / f"out{suffix}")
        assert np.array_equal(medseg.read(tmp_path / f"out{suffix}").array, np.moveaxis(both, 3, 0))


def test_convert_says_that_pixels_get_a_size(tmp_path, caplog):
    Image.fromarray(tiny.phantom(5)[0][:, :, 0].astype(np.uint8)).save(tmp_path / "photo.png")
    succeed("convert", tmp_path / "photo.png", tmp_path / "out.nii.gz")
    assert "written with pixels of 1 mm, though their size is not known" in caplog.text
    caplog.clear()
    succeed("convert", tiny.nifti(tmp_path / "in.nii.gz", tiny.phantom(5)[0]), tmp_path / "out.nii.gz")
    assert "pixels" not in caplog.text


def test_convert_refuses_what_it_does_not_write(tmp_path):
    source = tiny.nifti(tmp_path / "in.nii.gz", tiny.phantom(5)[0])
    for name in ("out.mhd", "out.png"):  # .mhd would be two files
        said = medseg_command("convert", source, tmp_path / name)
        assert said.code == 2 and "needed one of .nii.gz" in said.err and not (tmp_path / name).exists()


def test_info_describes_a_scan_and_a_run(trained):
    said = succeed("info", trained.data / "images" / "p1_a.nii.gz").out
    for line in ("voxels       24 x 20 x 18  int16", "spacing      1.5 x 1.5 x 2 mm", "orientation  LAS"):
        assert line in said
    said = succeed("info", trained.run).out
    plan = "plan         spacing 1.5 x 1.5 x 2 mm, patch 16 x 16 x 16, orientation RAS"
    for line in ("tiny: residual_unet", "labels       left, right", plan, "weights      yes", "licence      CC0-1.0"):
        assert line in said


def test_prepare_prints_the_plan_and_check_finds_no_problem(trained):
    plan = json.loads(succeed("prepare", trained.recipe).out)
    assert plan["patch"] == [16, 16, 16] and plan["spacing_mm"] == [1.5, 1.5, 2]
    assert "4 cases, no problem" in succeed("check", trained.recipe).out
    said = succeed("check", trained.recipe, "labels={first: 1, second: 2, third: 7}")
    assert "1 problem of the data set as a whole; none of its 4 cases has one" in said.out


def test_check_cuts_no_path_short_and_says_how_photographs_are_read(tmp_path):
    data = tiny.data_set(tmp_path / "data")
    recipe = tiny.recipe(tmp_path / "recipe.yaml", data)
    for case in tiny.CASES:
        for folder, channels in (("images", 3), ("labels", 1)):
            (data / folder / f"{case}.nii.gz").unlink()
            picture = np.squeeze(np.ones((30, 40, channels), np.uint8))
            picture[0, 0] = channels  # or it would be blank
            Image.fromarray(picture).save(data / folder / f"{case}.png")
    said = medseg_command("check", recipe)
    assert "8 problems in 4 of 4 cases" in said.out  # channels; three are the same as the first; a label that none has
    assert said.code == 1 and "1 (image)" in said.out and "\N{HORIZONTAL ELLIPSIS}" not in said.out
    said = medseg_command("check", recipe, "dataset.files_hold=[red,green,blue]")
    assert "1 (image)" not in said.out and "4 problems in 4 of 4 cases" in said.out


def test_the_printed_plan_can_be_pasted_into_the_recipe(trained, tmp_path):
    before = succeed("prepare", trained.recipe).out
    content = yaml.safe_load(trained.recipe.read_text())
    (tmp_path / "pinned.yaml").write_text(yaml.safe_dump({**content, "prepare": yaml.safe_load(before)}))
    assert succeed("prepare", tmp_path / "pinned.yaml").out == before


def test_a_data_set_without_labels_cannot_be_trained_on(tmp_path):
    data = tiny.data_set(tmp_path / "data")
    shutil.rmtree(data / "labels")
    recipe = tiny.recipe(tmp_path / "recipe.yaml", data)
    said = medseg_command("train", recipe, "--out", tmp_path / "run")
    assert said.code == 2 and "case p1_a: found no label map, nor in 3 other cases" in said.err


def test_training_that_stops_early_stays_stopped(trained, tmp_path):
    words = ["train", trained.recipe, "train.epochs=9", "train.lr=1e-12", "train.patience=1", "train.save_every=5"]
    said = succeed(*words, "--out", tmp_path / "run")
    assert "epoch 2/9" in said.err and "epoch 3/9" not in said.err
    said = succeed(*words, "--out", tmp_path / "run")
    assert "stopped early at step 4" in said.err and "epoch 2/9" not in said.err
    assert "trained for 2 epochs of 2 steps." in (tmp_path / "run" / "card.md").read_text(encoding="utf-8")


def test_the_last_epoch_is_always_saved(trained, tmp_path):
    words = ["train", trained.recipe, "train.save_every=5", "--out", tmp_path / "run"]
    succeed(*words)
    assert "the training is complete" in succeed(*words).err and weights(tmp_path / "run") == weights(trained.run)


def test_a_loss_that_is_no_number_stops_the_training(trained, tmp_path):
    words = ["train", trained.recipe, "train.lr=1e30", "train.optimiser=sgd", "train.schedule=constant"]
    said = medseg_command(*words, "train.epochs=9", "--out", tmp_path / "run")
    assert said.code == 2 and "found loss nan on the cases p" in said.err and "lower train.lr" in said.err


def test_tensorboard_logs_are_written_and_closed(trained, tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    closed = []
    close = SummaryWriter.close
    monkeypatch.setattr(SummaryWriter, "close", lambda writer: (closed.append(1), close(writer)))
    succeed("train", trained.recipe, "train.loggers=[tensorboard]", "--out", tmp_path / "run")
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert closed and all(name in events.read_bytes() for name in (b"loss", b"dice/left", b"wait", b"seconds_a_step"))


def test_a_volume_reaches_the_network_and_comes_back(untrained):
    """Without files in between."""
    from medseg.engine.predict import Predictor

    predictor = Predictor.load([untrained], device="cpu")
    image, _ = tiny.phantom(1)
    steps: list[tuple[int, int]] = []
    found = predictor.predict_volume(Volume(image[None], OBLIQUE), "x", lambda *step: steps.append(step))
    assert found.target.shape == image.shape and steps[-1][0] == steps[-1][1] > 1
