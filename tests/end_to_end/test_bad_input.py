"""What people really give to a program: refused with file, found, needed and remedy, and nothing half is left."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image

from tests import dicom_series, tiny
from tests.tiny import Said, medseg_command


def assert_refused(said: Said, *parts: str, code: int = 2) -> None:
    """Exit code, the four things, every one of `parts`, and no traceback."""
    assert said.code == code, said.err
    assert "Traceback" not in said.err + said.out
    assert re.search(r"(?s): found .+; needed .+\. What to do: .+\.", said.err), said.err
    for part in parts:
        assert part in said.err


def assert_nothing_half_written(*folders: Path) -> None:
    for folder in folders:
        assert not list(folder.rglob(".partial-*"))


@pytest.fixture
def data(tmp_path) -> Path:
    return tiny.data_set(tmp_path / "data")


@pytest.fixture
def recipe(tmp_path, data) -> Path:
    return tiny.recipe(tmp_path / "recipe.yaml", data)


def predict(run: Path, *words: object) -> Said:
    return medseg_command("predict", run, *words, "--threads", 1)


def cut(path: Path, share: float = 0.5) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def test_a_truncated_scan(untrained, tmp_path):
    scan = tiny.nifti(tmp_path / "scan.nii.gz", tiny.phantom(0)[0])
    cut(scan)
    said = predict(untrained, scan, tmp_path / "out")
    assert_refused(said, str(scan), "damaged or truncated gzip stream", "copy or download it again", code=1)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predict.json"]
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["cases"][0]["state"] == "refused"


def test_a_truncated_scan_in_training(recipe, data, tmp_path):
    cut(data / "images" / "p1_a.nii.gz")
    assert_refused(medseg_command("train", recipe, "--out", tmp_path / "run"), "images/p1_a.nii.gz", "truncated")
    assert not (tmp_path / "run" / "plan.json").exists()
    assert_nothing_half_written(tmp_path)


def test_voxels_without_a_value(untrained, recipe, data, tmp_path):
    image = tiny.phantom(0)[0].astype(np.float32)
    image[3, 4, 5] = np.nan
    scan = tiny.nifti(data / "images" / "p1_a.nii.gz", image)
    for said, code in (
        (predict(untrained, scan, tmp_path / "out"), 1),
        (medseg_command("train", recipe, "--out", tmp_path / "run"), 2),
    ):
        assert_refused(said, str(scan), "1 voxels that are NaN or infinite", "(0, 3, 4, 5)", code=code)
    assert medseg_command("check", recipe, "--json", tmp_path / "new" / "problems.json").code == 1
    [problem] = json.loads((tmp_path / "new" / "problems.json").read_text())
    assert problem["case"] == "p1_a" and "NaN" in problem["found"] and problem["fatal"]
    assert not (tmp_path / "out" / "p1_a.nii.gz").exists()
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"  # as /dev/stdout is one, or what a shell's >(...) gives
    link.symlink_to(tmp_path / "linked.json")
    os.mkfifo(pipe)
    with pipe.open("r+b", buffering=0) as reading:
        for target in (link, pipe):
            medseg_command("check", recipe, "--json", target)
        assert link.is_symlink() and pipe.is_fifo()
        expected = (tmp_path / "new" / "problems.json").read_bytes()
        assert link.read_bytes() == reading.read(2**16) == expected


@pytest.mark.parametrize("verb", ["prepare", "train"])
def test_labels_on_another_grid(recipe, data, tmp_path, verb):
    moved = tiny.AFFINE.copy()
    moved[2, 3] += 7.5
    tiny.nifti(data / "labels" / "p2_a.nii.gz", tiny.phantom(2)[1], moved)
    words = ["--out", tmp_path / "run"] if verb == "train" else []
    said = medseg_command(verb, recipe, *words)
    assert_refused(said, "labels/p2_a.nii.gz", "a label grid up to 7.5 mm away from that of", "images/p2_a.nii.gz")
    assert_nothing_half_written(tmp_path)


def test_labels_of_another_shape(recipe, data, tmp_path):
    tiny.nifti(data / "labels" / "p2_a.nii.gz", tiny.phantom(2)[1][:-1, :, :], tiny.AFFINE + 0.3)
    assert_refused(medseg_command("train", recipe, "--out", tmp_path / "run"), "labels/p2_a.nii.gz", "label grid")


def test_two_series_and_no_choice(untrained, tmp_path):
    first = [dicom_series.slice_(place, series="1.2.3", number=n) for n, place in enumerate(dicom_series.places(6))]
    second = [
        dicom_series.slice_(place, series="1.2.4", number=n, SeriesDescription="bone", SeriesNumber=8)
        for n, place in enumerate(dicom_series.places(5))
    ]
    dicom_series.write(tmp_path / "ct", [*first, *second])
    said = predict(untrained, tmp_path / "ct", tmp_path / "out")
    assert_refused(said, str(tmp_path / "ct"), "1.2.3", "1.2.4", "bone", "series=", code=1)
    assert not (tmp_path / "out" / "ct.nii.gz").exists()
    assert predict(untrained, tmp_path / "ct", tmp_path / "out", "--series", "bone").code == 0
    assert nib.load(tmp_path / "out" / "ct.nii.gz").shape[2] == 5


def test_a_wide_gap(untrained, tmp_path):
    dicom_series.series(tmp_path / "ct", np.delete(dicom_series.places(9), [3, 4, 5], axis=0))
    said = predict(untrained, tmp_path / "ct", tmp_path / "out")
    assert_refused(said, str(tmp_path / "ct"), "found 3 missing slices of", "after", "a gap of 12 mm", code=1)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predict.json"]


def test_an_empty_folder(untrained, tmp_path):
    (tmp_path / "empty").mkdir()
    for said in (predict(untrained, tmp_path / "empty", tmp_path / "out"), medseg_command("info", tmp_path / "empty")):
        assert_refused(said, str(tmp_path / "empty"), "an empty folder")
    assert not (tmp_path / "out").exists()
    assert_refused(predict(untrained, tmp_path / "nowhere", tmp_path / "out"), "nowhere", "no such file or folder")
    assert_refused(medseg_command("info", tmp_path / "nowhere"), "nowhere: found nothing there")
    assert_refused(predict(tmp_path / "empty", tmp_path / "x", tmp_path / "out"), "no recipe.yaml in it")


def test_an_empty_data_set(recipe, data, tmp_path):
    for folder in ("images", "labels"):
        shutil.rmtree(data / folder)
        (data / folder).mkdir()
    assert_refused(medseg_command("train", recipe, "--out", tmp_path / "run"), str(data))
    assert_refused(medseg_command("train", recipe, f"dataset.root={tmp_path / 'no'}", "--out", tmp_path / "run"), "no")


@pytest.mark.parametrize("name", ["weights.safetensors", "last.safetensors"])
def test_a_checkpoint_cut_in_half(trained, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    cut(run / name)
    (run / "former.safetensors").unlink()  # or training would go on from that one
    if name.startswith("weights"):
        said = predict(run, trained.data / "images", tmp_path / "out")
    else:
        said = medseg_command("train", trained.recipe, "--out", run)
    assert_refused(said, str(run / name), "a damaged file", "a whole checkpoint", "backup")
    assert not (tmp_path / "out").exists()


def test_a_changed_weight(trained, tmp_path):
    shutil.copytree(trained.run, tmp_path / "run")
    path = tmp_path / "run" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    said = predict(tmp_path / "run", trained.data / "images", tmp_path / "out")
    assert_refused(said, str(path), "content that differs from its checksum")


def test_a_recipe_with_three_mistakes(recipe, tmp_path):
    words = ["train.lr=-1", "model.name=residual_nuet", "prepar.patch=auto"]
    for verb, out in (("train", ["--out", tmp_path / "run"]), ("prepare", []), ("check", [])):
        said = medseg_command(verb, recipe, *words, *out)
        assert_refused(said, str(recipe), "3 mistakes", "train.lr: found -1", "did you mean 'residual_unet'")
        assert "prepar: no such key; did you mean 'prepare'" in said.err
    assert not (tmp_path / "run").exists()
    assert_refused(medseg_command("train", tmp_path / "no.yaml"), "no.yaml: found no such file")


def test_a_patient_on_both_sides(recipe, tmp_path):
    split = {"folds": [{"train": ["p1_a", "p2_a"], "validation": ["p1_b", "p3_a"]}]}
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(split))
    words = ["split.kind=file", f"split.file={tmp_path / 'split.yaml'}"]
    said = medseg_command("train", recipe, *words, "--out", tmp_path / "run")
    assert_refused(said, str(tmp_path / "split.yaml"), "case 'p1_a' in train and case 'p1_b' in validation")
    assert not (tmp_path / "run" / "split.json").exists() and not (tmp_path / "cache").exists()
    said = medseg_command("check", recipe, *words)
    assert said.code == 1 and "p1_a" in said.out and "p1_b" in said.out


def test_brackets_in_the_table_of_problems(recipe, data):
    (data / "patients.csv").unlink()
    (data / "images" / "p1_a.nii.gz").rename(data / "images" / "p[copy].nii.gz")
    (data / "labels" / "p1_a.nii.gz").unlink()
    tiny.nifti(data / "labels" / "p[copy].nii.gz", np.zeros(tiny.SHAPE, np.uint8))
    said = medseg_command("check", recipe, "split.folds=2")
    assert said.code == 0 and "p[copy]" in said.out and "1 problem in 1 of 4 cases" in said.out, said


def limited(limit: int, *words: object) -> Said:
    """medseg in a process that may write no file longer than `limit` bytes: writes fail as on a full disk."""
    done = subprocess.run(
        [sys.executable, "-m", "medseg", *map(str, words)],
        env=tiny.ENVIRONMENT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    return Said(done.returncode, done.stdout, done.stderr)


def test_a_full_disk_while_preparing(recipe, tmp_path):
    """A prepared image takes 34 kB."""
    said = limited(20_000, "prepare", recipe)
    assert_refused(said, str(tmp_path / "cache"), "a full disk", "MiB free", "free some space")
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == [".lock", "sources.json"]
    assert medseg_command("prepare", recipe).code == 0


def test_a_full_disk_while_training(recipe, tmp_path):
    """The weights take 17 kB, the state with AdamW's moments 50 kB."""
    run = tmp_path / "run"
    assert medseg_command("prepare", recipe).code == 0
    said = limited(30_000, "train", recipe, "train.examples=0", "--out", run)
    assert_refused(said, str(run / "last.safetensors"), "cannot be written", "room on the disk", "free some space")
    assert (run / "weights.safetensors").exists() and not (run / "last.safetensors").exists()
    assert_nothing_half_written(tmp_path)
    assert medseg_command("train", recipe, "train.examples=0", "--out", run).code == 0


def test_a_disk_too_full_for_the_recipe(recipe, tmp_path):
    said = limited(100, "train", recipe, "--out", tmp_path / "run")
    assert_refused(said, "room on the disk", "free some space")
    assert not (tmp_path / "run").exists()


def test_a_disk_too_full_for_the_labels(untrained, tmp_path):
    scan = tiny.nifti(tmp_path / "scan.nii.gz", tiny.phantom(0)[0])
    said = limited(400, "predict", untrained, scan, tmp_path / "out", "--threads", 1)
    assert_refused(said, "room on the disk")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["predict", "RUN", "SCAN"], "found one path"),
        (["predict", "SCAN", "RUN", "OUT"], "scan.nii.gz: found a file; needed a run folder"),
        (["predict", "RUN", "SCAN", "SCAN"], "scan.nii.gz: found a file; needed a folder for the results"),
        (["predict", "RUN", "SCAN", "OUT", "--output", "nift"], "did you mean 'nifti'"),
        (["predict", "RUN", "SCAN", "OUT", "--set", "overlap=2"], "overlap: found 2"),
        (["predict", "RUN", "SCAN", "OUT", "--set", "mirror=[left]"], "mirror"),
        (["predict", "RUN", "SCAN", "OUT", "--device", "gpu"], "found 'gpu'; needed auto, or what this machine has: "),
        (["predict", "RUN", "SCAN", "OUT", "--with", "OUT"], "no such folder"),
        (["evaluate", "RUN", "--truth", "OUT", "--labels", "OUT"], "found a run, beside --truth and --labels"),
        (["evaluate", "FOLDER", "--gate", "RUN"], "found a folder of label maps, beside --gate"),
        (["list", "modles"], "did you mean 'models'"),
        (["export", "OUT", "x.zip"], "no such folder"),
        (["convert", "OUT", "x.nii"], "nothing there"),
    ],
)
def test_words_that_the_command_line_does_not_know(untrained, tmp_path, words, part):
    scan = tiny.nifti(tmp_path / "scan.nii.gz", tiny.phantom(0)[0])
    places = {"RUN": untrained, "SCAN": scan, "OUT": tmp_path / "out", "FOLDER": tmp_path}
    assert_refused(medseg_command(*(places.get(word, word) for word in words)), part)
    assert {file.name for file in tmp_path.iterdir()} == {"scan.nii.gz"}


def test_a_photograph_where_a_volume_is_needed(untrained, tmp_path):
    plan = json.loads((untrained / "plan.json").read_text())
    run = shutil.copytree(untrained, tmp_path / "run")
    (run / "plan.json").write_text(json.dumps({**plan, "unit": "mm"}))
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(tmp_path / "xray.png")
    said = predict(run, tmp_path / "xray.png", tmp_path / "out")
    assert_refused(said, "xray.png", "a photograph", "a size in millimetres", "not a picture of it", code=1)


def test_a_photograph_has_other_channels_than_a_scan(untrained, tmp_path):
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(tmp_path / "photo.png")
    said = predict(untrained, tmp_path / "photo.png", tmp_path / "out")
    assert_refused(said, "photo.png", "3 channels", "1: image", "a file with those that the model needs", code=1)


def test_a_label_that_no_training_case_has_is_told_and_none_at_all_is_refused(data: Path, recipe: Path, tmp_path: Path):
    for case in tiny.CASES:
        tiny.nifti(data / "labels" / f"{case}.nii.gz", np.minimum(tiny.phantom(0)[1], 1))
    said = medseg_command("train", recipe, "--out", tmp_path / "some")
    assert said.code == 0 and "no training case has right: the network will not learn it" in said.err, said.err
    assert "It does not know right" in (tmp_path / "some" / "card.md").read_text(encoding="utf-8")
    for case in tiny.CASES:
        tiny.nifti(data / "labels" / f"{case}.nii.gz", np.zeros(tiny.SHAPE, np.uint8))
    said = medseg_command("train", recipe, "--out", tmp_path / "none")
    assert_refused(said, "labels: found none of them (left, right) in any of", "medseg check")
