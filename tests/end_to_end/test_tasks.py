"""Every kind of task through the one pipeline: classes of images and of slices, photographs, slices with context."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg import config
from medseg.engine import gather
from tests.tiny import ROOT, medseg_command, nifti

CASES = [f"p{patient}_{scan}" for patient in range(6) for scan in "ab"]
COMMON = """
name: task
seed: 1
split: {{kind: kfold, folds: 3, stratify: centre}}
cache: {root}/cache
dataset: {{name: folder, root: {root}{files_hold}}}
"""


def write(root: Path, labels: str, recipe: str, *, files_hold: str = "", classes: dict[str, int] | None = None) -> Path:
    (root / "labels.yaml").write_text(labels, encoding="utf-8")
    rows = "".join(f"{case},{case[:2]},{'north' if case < 'p3' else 'south'}\n" for case in CASES)
    (root / "patients.csv").write_text(f"case,patient,centre\n{rows}", encoding="utf-8")
    if classes:
        rows = "".join(f"{case},{number}\n" for case, number in classes.items())
        (root / "classes.csv").write_text(f"case,class\n{rows}", encoding="utf-8")
    held = f", files_hold: [{files_hold}]" if files_hold else ""
    path = root / "recipe.yaml"
    path.write_text(COMMON.format(root=root, files_hold=held) + recipe, encoding="utf-8")
    return path


def run(recipe: Path) -> Path:
    folder = recipe.parent / "run"
    said = medseg_command("train", recipe, "--out", folder)
    assert said.code == 0, said.err
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


VOLUMES = """
prepare: {normalisation: [{kind: zscore}], batch: 4, workers: 0}
model: {name: video_resnet, kind: r3d_18, width: 4}
loss: {name: ce}
augment: {rotate_p: 0, scale_p: 0, gamma_p: 0, low_resolution_p: 0, blur_p: 0}
train: {epochs: 4, steps: 12, optimiser: adamw, lr: 3e-3, validate_every: 2, threads: 1, device: cpu, balance: class}
"""


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class 1 has stripes, class 0 has none; the mean is the same. Two sizes of scan."""
    root, classes = tmp_path_factory.mktemp("volumes"), {}
    for number, case in enumerate(CASES):
        generator = np.random.default_rng(number)
        shape = (12, 12, 10) if number % 3 else (10, 12, 12)
        stripes = np.arange(shape[0])[:, None, None] % 2 * 200 - 100
        classes[case] = number % 2
        nifti(root / "images" / f"{case}.nii.gz", generator.normal(0, 30, shape) + stripes * classes[case], np.eye(4))
    return run(write(root, "labels: {plain: 0, striped: 1}\nunit: image\n", VOLUMES, classes=classes))


def test_classes_of_volumes_are_learned_and_told(volumes: Path, tmp_path: Path) -> None:
    log = [json.loads(line) for line in (volumes / "log.jsonl").read_text().splitlines()]
    assert log[-1]["auroc"] == 1 and set(log[-1]["auroc_per_label"]) == {"plain", "striped"}
    scans = volumes.parent / "images"
    said = medseg_command("predict", volumes, scans / "p0_a.nii.gz", scans / "p0_b.nii.gz", tmp_path)
    assert said.code == 0, said.err
    plain, striped = (rows(tmp_path / f"{case}.csv") for case in ("p0_a", "p0_b"))
    assert [len(plain), len(striped)] == [1, 1]
    assert (plain[0]["decision"], striped[0]["decision"]) == ("plain", "striped")
    assert sum(float(plain[0][f"probability {name}"]) for name in ("plain", "striped")) == pytest.approx(1, abs=1e-5)
    facts = {case["case"]: case["facts"] for case in json.loads((tmp_path / "predict.json").read_text())["cases"]}
    assert facts["p0_b"]["probability"]["striped"] > 0.5


def test_a_label_format_is_refused_for_classes(volumes: Path, tmp_path: Path) -> None:
    scan = volumes.parent / "images" / "p0_a.nii.gz"
    said = medseg_command("predict", volumes, scan, tmp_path / "out", "--output", "nifti")
    assert said.code != 0 and "choose scores" in said.err and not (tmp_path / "out").exists()


def test_an_image_larger_than_the_classifier_sees_is_refused(volumes: Path, tmp_path: Path) -> None:
    nifti(tmp_path / "large.nii.gz", np.zeros((40, 12, 12), np.float32), np.eye(4))
    said = medseg_command("predict", volumes, tmp_path / "large.nii.gz", tmp_path / "out")
    assert said.code == 1 and "which the classifier sees at once" in said.err


SLICES = """
prepare: {normalisation: [{kind: window, lower: 0, upper: 100}], spacing_mm: native, batch: 8, workers: 0}
model: {name: resnet18, width: 8}
loss: {name: ce}
augment: {rotate_p: 0, scale_p: 0, gamma_p: 0, low_resolution_p: 0, blur_p: 0, noise_p: 0, contrast_p: 0}
train: {epochs: 3, steps: 12, optimiser: adamw, lr: 3e-3, validate_every: 1, threads: 1, device: cpu, foreground: 0.5}
"""


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright square in some slices. Stored with the slices first, so that an axis order is to be undone."""
    root = tmp_path_factory.mktemp("slices")
    affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [3, 0, 0, 7], [0, 0, 0, 1.0]])
    for number, case in enumerate(CASES):
        generator = np.random.default_rng(number)
        array, label = generator.uniform(0, 40, (9, 20, 18)), np.zeros((9, 20, 18), np.uint8)
        first = int(generator.integers(1, 6))
        label[first : first + 3, 6:12, 5:11] = 1
        array[label > 0] += 60
        nifti(root / "images" / f"{case}.nii.gz", array.astype(np.float32), affine)
        nifti(root / "labels" / f"{case}.nii.gz", label, affine)
    return run(write(root, "labels: {tumour: 1}\nunit: slice\nexclusive: false\n", SLICES))


def test_classes_of_slices_are_learned_and_told_in_order(slices: Path, tmp_path: Path) -> None:
    root = slices.parent
    assert medseg_command("predict", slices, root / "images" / "p0_a.nii.gz", tmp_path).code == 0
    table = rows(tmp_path / "p0_a.csv")
    assert [float(row["position_mm"]) for row in table] == pytest.approx([7 + 3 * k for k in range(9)])
    truth = np.asarray(nib.load(root / "labels" / "p0_a.nii.gz").dataobj).any(axis=(1, 2))
    said = np.array([float(row["probability tumour"]) for row in table])
    assert said[truth].min() > said[~truth].max()


def test_mirrored_images_and_folds_say_how_far_they_disagree(slices: Path, tmp_path: Path) -> None:
    """The mean is over logits, so that it lies between the answers; the same network twice agrees with itself."""
    scan = slices.parent / "images" / "p0_a.nii.gz"
    words = {"once": (), "mirrored": ("--set", "mirror=[left-right]"), "twice": ("--with", slices)}
    for out, more in words.items():
        said = medseg_command("predict", slices, scan, tmp_path / out, *more)
        assert said.code == 0, said.err
    once, mirrored, twice = (rows(tmp_path / out / "p0_a.csv") for out in words)
    assert "spread tumour" not in once[0] and float(once[0]["entropy"]) > 0
    assert any(float(row["spread tumour"]) > 0 for row in mirrored)
    for alone, both in zip(once, mirrored, strict=True):
        # of two answers the standard deviation is half of what lies between them
        gap = abs(float(alone["probability tumour"]) - float(both["probability tumour"]))
        assert gap <= 2 * float(both["spread tumour"]) + 1e-5
    assert all(float(row["spread tumour"]) == 0 for row in twice)
    assert [row["probability tumour"] for row in twice] == [row["probability tumour"] for row in once]


LESIONS = """
prepare: {normalisation: [{kind: window, lower: 0, upper: 100}], spacing_mm: native, patch: [16, 16, 8], workers: 0}
model: {name: residual_unet, channels: [4, 8], blocks: 1}
loss: {name: dice_ce}
train: {epochs: 1, steps: 1, threads: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def lesions(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation of the same scans, of which hardly anything is learned: it says tumour almost everywhere."""
    root = tmp_path_factory.mktemp("lesions")
    for name in ("images", "labels"):
        (root / name).symlink_to(slices.parent / name)
    return run(write(root, "labels: {tumour: 1}\n", LESIONS))


def test_a_gate_limits_labels_to_flagged_slices(slices: Path, lesions: Path, tmp_path: Path) -> None:
    """A segmentation that says tumour almost everywhere keeps only the slices that the classifier flags."""
    scan = slices.parent / "images" / "p0_a.nii.gz"
    for out, extra in (("free", ()), ("gated", ("--gate", slices, "--gate-threshold", 0.5))):
        said = medseg_command("predict", lesions, scan, tmp_path / out, *extra)
        assert said.code == 0, said.err
    free, gated = (np.asarray(nib.load(tmp_path / out / "p0_a.nii.gz").dataobj) for out in ("free", "gated"))
    medseg_command("predict", slices, scan, tmp_path / "flags")
    flagged = np.array([row["decision"] == "tumour" for row in rows(tmp_path / "flags" / "p0_a.csv")])
    assert 0 < flagged.sum() < 9 and (free[~flagged] > 0).any()
    assert np.array_equal(gated[flagged], free[flagged]) and not gated[~flagged].any()
    [case] = json.loads((tmp_path / "gated" / "predict.json").read_text())["cases"]
    assert case["facts"]["gate"]["slices flagged"] == flagged.sum()
    assert case["facts"]["gate"]["voxels taken away"] == (free[~flagged] > 0).sum()


def test_a_gate_says_what_its_own_evaluation_found(slices: Path, lesions: Path, tmp_path: Path) -> None:
    gate = shutil.copytree(slices, tmp_path / "gate")
    words = ("predict", lesions, slices.parent / "images" / "p0_a.nii.gz", tmp_path / "out", "--gate", gate)
    assert "was not measured" in medseg_command(*words).err
    assert medseg_command("evaluate", gate).code == 0
    rows_ = json.loads((gate / "metrics.json").read_text())["over all cases"]
    found = next(row["value"] for row in rows_ if (row["over"], row["row"]) == ("slice", "tumour: sensitivity"))
    said = medseg_command(*words)
    assert f"it flags {found:.3f} (" in said.err and "of the slices with tumour; the others are lost" in said.err
    assert "at 0.4 was not measured" in medseg_command(*words, "--gate-threshold", 0.4).err


def test_what_a_gate_costs_is_told_with_intervals(slices: Path, lesions: Path, tmp_path: Path) -> None:
    """A threshold of 0 lets everything through, one of 1 nothing."""
    found = {}
    for threshold in (0, 0.5, 1):
        said = medseg_command(
            "evaluate", lesions, "--gate", slices, "--gate-threshold", threshold, "--out", tmp_path / str(threshold)
        )
        assert said.code == 0 and "estimate of generalisation" not in said.out, said.err
        scores = json.loads((tmp_path / str(threshold) / "metrics.json").read_text())
        found[threshold] = {row["row"]: row for row in scores["over all cases"] if row["metric"] == "gate"}
    assert found[0]["sensitivity"]["value"] == 1 and found[0]["labelled voxels kept"]["value"] == 1
    assert found[1]["sensitivity"]["value"] == 0 and found[1]["specificity"]["value"] == 1
    half = found[0.5]["sensitivity"]
    assert 0 <= half["low"] <= half["value"] <= half["high"] <= 1 and half["value"] > 0.5


def test_a_gate_that_has_learned_from_the_patients_stamps_the_scores(
    slices: Path, lesions: Path, tmp_path: Path
) -> None:
    """The same classifier, of another fold."""
    known = tmp_path / "known"
    shutil.copytree(slices, known)
    split = json.loads((known / "split.json").read_text())
    (known / "split.json").write_text(json.dumps(split | {"fold": 1}))
    said = medseg_command("evaluate", lesions, "--gate", known, "--out", tmp_path / "scores")
    assert said.code == 0 and "the gate has learned from cases of these names" in said.out, said.err
    assert "the gate has learned" in (tmp_path / "scores" / "report.html").read_text()


def test_classes_cannot_be_limited_by_a_gate(slices: Path, tmp_path: Path) -> None:
    scan = slices.parent / "images" / "p0_a.nii.gz"
    for words in (("predict", slices, scan, tmp_path / "out"), ("evaluate", slices, "--out", tmp_path / "out")):
        said = medseg_command(*words, "--gate", slices)
        assert said.code == 2 and "a class for every slice" in said.err and not (tmp_path / "out").exists()


PHOTOGRAPHS = """
prepare: {size: [32, 32, 0], patch: [32, 32, 1], antialias: true, orientation: LPS, batch: 4, workers: 0}
model: {name: swin_unet, img_size: 32, embed_dim: 8, depths: [2, 2], num_heads: [1, 2], window_size: 4}
augment: {rotate_p: 0, scale_p: 0, gamma_p: 0, low_resolution_p: 0, blur_p: 0}
train: {epochs: 3, steps: 10, optimiser: adamw, lr: 3e-3, validate_every: 3, threads: 1, device: cpu}
"""


def test_photographs_of_any_size_come_back_in_their_own(tmp_path: Path) -> None:
    for number, case in enumerate(CASES):
        generator = np.random.default_rng(number)
        rows_, columns = 40 + number, 56
        picture = generator.integers(0, 120, (rows_, columns, 3)).astype(np.uint8)
        mask = np.zeros((rows_, columns), np.uint8)
        mask[5:30, 8:40] = 255
        picture[mask > 0, 0] += 120
        for kind, array in (("images", picture), ("labels", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / kind / f"{case}.png")
    model = run(write(tmp_path, "labels: {lesion: 255}\n", PHOTOGRAPHS, files_hold="red, green, blue"))
    said = medseg_command("predict", model, tmp_path / "images" / "p0_b.png", tmp_path / "out")
    assert said.code == 0, said.err
    found = np.asarray(nib.load(tmp_path / "out" / "p0_b.nii.gz").dataobj)[..., 0].T
    truth = np.asarray(Image.open(tmp_path / "labels" / "p0_b.png"))
    assert found.shape == truth.shape
    assert 2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum()) > 0.8


NEIGHBOURS = """
prepare:
  normalisation: [{kind: window, lower: 0, upper: 100}]
  spacing_mm: native
  patch: [32, 32, 1]
  batch: 8
  workers: 0
model:
  name: swtr_unet
  neighbours: 1
  encoder_depths: [1, 1, 1]
  encoder_width: 8
  embed_dim: 16
  blocks: 2
  num_heads: 2
  window_size: 2
  bridge_width: 16
  decoder_widths: [16, 8, 8, 8]
train: {epochs: 3, steps: 25, optimiser: adamw, lr: 3e-3, schedule: cosine, threads: 1, device: cpu}
augment:
  {rotate_p: 0, scale_p: 0, gamma_p: 0, low_resolution_p: 0, blur_p: 0, noise_p: 0, brightness_p: 0, contrast_p: 0}
"""


def test_photographs_are_seen_as_they_look_and_scans_towards_right_anterior_superior(tmp_path: Path) -> None:
    skin, head = (ROOT / "pipelines" / "small" / name for name in ("resnet18_dr.yaml", "video_resnet_brain.yaml"))
    for recipe, root, orientation in ((skin, "fundus_dr", "LPS"), (head, "brain_grades", "RAS")):
        words = (f"cache={tmp_path / root}", f"dataset.root={ROOT / 'sample_data' / root}", "prepare.workers=0")
        said = medseg_command("prepare", recipe, *words, "prepare.orientation=auto")
        assert said.code == 0 and json.loads(said.out)["orientation"] == orientation, said.err


def test_a_patch_that_the_network_is_not_made_for_is_refused_before_the_data_are_prepared(tmp_path: Path) -> None:
    recipe, root = ROOT / "pipelines" / "small" / "att_swin_unet_skin.yaml", ROOT / "sample_data" / "skin"
    words = (f"cache={tmp_path / 'cache'}", f"dataset.root={root}", "prepare.size=[128,128,0]")
    said = medseg_command("prepare", recipe, *words, "prepare.patch=[128,128,1]")
    assert said.code == 2 and "128 x 128 pixels; needed 64 x 64" in said.err, said.err
    assert not (tmp_path / "cache").exists()


def test_slices_with_their_neighbours_make_a_whole_volume(tmp_path: Path) -> None:
    """A structure is labelled where the slice below is bright: without the neighbours it cannot be found."""
    for number, case in enumerate(CASES):
        generator = np.random.default_rng(number)
        bright = generator.integers(0, 2, 8)
        array = np.repeat(bright[None, None] * 100.0, 36, 0).repeat(36, 1) + generator.normal(0, 5, (36, 36, 8))
        label = np.zeros((36, 36, 8), np.uint8)
        label[:, :, 1:] = bright[:-1]
        nifti(tmp_path / "images" / f"{case}.nii.gz", array.astype(np.float32), np.eye(4))
        nifti(tmp_path / "labels" / f"{case}.nii.gz", label, np.eye(4))
    model = run(write(tmp_path, "labels: {thing: 1}\n", NEIGHBOURS))
    assert medseg_command("predict", model, tmp_path / "images" / "p0_a.nii.gz", tmp_path / "out").code == 0
    found = np.asarray(nib.load(tmp_path / "out" / "p0_a.nii.gz").dataobj) > 0
    truth = np.asarray(nib.load(tmp_path / "labels" / "p0_a.nii.gz").dataobj) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_classes_of_volumes_are_evaluated(volumes: Path, tmp_path: Path) -> None:
    said = medseg_command("evaluate", volumes, "--out", tmp_path)
    assert said.code == 0, said.err
    scores = json.loads((tmp_path / "metrics.json").read_text())
    found = {(row["over"], row["metric"], row["row"]): row for row in scores["over all cases"]}
    assert found["image", "auroc", "striped"]["value"] == 1
    assert {"image", "patient (highest)", "patient (mean)"} <= {over for over, _, _ in found}
    assert "auroc" in said.out and "95 % interval by patient" in said.out
    assert "Over all cases" in (tmp_path / "report.html").read_text()


def test_classes_of_slices_are_evaluated_by_slice_patient_and_centre(slices: Path, tmp_path: Path) -> None:
    assert medseg_command("evaluate", slices, "--out", tmp_path).code == 0
    rows_ = json.loads((tmp_path / "metrics.json").read_text())["over all cases"]
    by_slice = next(row for row in rows_ if (row["over"], row["metric"], row["row"]) == ("slice", "auroc", "tumour"))
    assert by_slice["value"] > 0.9 and by_slice["low"] <= by_slice["value"] <= by_slice["high"]
    assert {"centre north", "centre south"} <= {row["over"] for row in rows_}


def test_cases_of_another_data_set_are_evaluated(slices: Path, tmp_path: Path) -> None:
    """All of them, whichever side they would be on; an exported run can be asked this way too."""
    root, archive = tmp_path / "other", tmp_path / "run.zip"
    for name in ("images", "labels"):
        for case in ("p0_a", "p3_b"):
            (root / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(slices.parent / name / f"{case}.nii.gz", root / name / f"new_{case}.nii.gz")
    (root / "labels.yaml").write_text((slices.parent / "labels.yaml").read_text())
    assert medseg_command("export", slices, archive).code == 0
    for model in (slices, archive):
        out = tmp_path / f"scores of {model.name}"
        words = ("evaluate", model, f"dataset={{name: folder, root: {root}}}", "metrics=[auroc]", "--out", out)
        said = medseg_command(*words)
        assert said.code == 0 and "estimate of generalisation" not in said.out, said.err
        assert sorted(path.stem for path in (out / "predictions").glob("*.csv")) == ["new_p0_a", "new_p3_b"]
        table = json.loads((out / "metrics.json").read_text())["over all cases"]
        assert {row["metric"] for row in table} == {"auroc"}
        page = (out / "report.html").read_text()
        assert str(root) in page and "chosen by these same cases" not in page


def test_other_metrics_and_mirrored_images_leave_the_held_out_cases(slices: Path, tmp_path: Path) -> None:
    said = [
        medseg_command(
            "evaluate", slices, "metrics=[uncertainty, screening]", *more, "--out", tmp_path / str(len(more))
        )
        for more in ((), ("predict.mirror=[left-right]",))
    ]
    assert [one.code for one in said] == [0, 0], said[0].err + said[1].err
    held_out = json.loads((slices / "split.json").read_text())["folds"][0]["validation"]
    found = []
    for number in ("0", "1"):
        assert sorted(path.stem for path in (tmp_path / number / "predictions").glob("*.csv")) == held_out
        table = json.loads((tmp_path / number / "metrics.json").read_text())["over all cases"]
        assert {row["metric"] for row in table} == {"uncertainty", "screening"}
        found.append([row["value"] for row in table])
        assert "chosen by these same cases" in (tmp_path / number / "report.html").read_text()
    assert found[0] != found[1], "the images are mirrored"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.lr=1", "--out", "{tmp}"), "changes of train"),
        (("metrics=[auroc]",), "--out"),
        (("dataset={{name: folder, root: {lesions}}}", "--out", "{tmp}"), "of each voxel"),
    ],
)
def test_other_changes_of_an_evaluation_are_refused(
    slices: Path, lesions: Path, words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    filled = [word.format(tmp=tmp_path / "out", lesions=lesions.parent) for word in words]
    said = medseg_command("evaluate", slices, *filled)
    assert said.code == 2 and message in said.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("override", ["prepare.centres=[north, south]", "model.centres=2"])
def test_centres_of_preparation_and_network_must_agree(slices: Path, override: str, tmp_path: Path) -> None:
    said = medseg_command("train", slices.parent / "recipe.yaml", override, "--out", tmp_path / "run")
    assert said.code == 2 and "model.centres" in said.err and "the same number" in said.err


def test_classes_of_images_are_not_divided_by_slice(volumes: Path, tmp_path: Path) -> None:
    said = medseg_command("train", volumes.parent / "recipe.yaml", "split={kind: slice}", "--out", tmp_path / "run")
    assert said.code == 2 and "cannot be divided" in said.err


def test_check_reads_classes(volumes: Path, tmp_path: Path) -> None:
    root = volumes.parent
    assert medseg_command("check", root / "recipe.yaml").code == 0
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "images").symlink_to(root / "images")
    for name in ("labels.yaml", "patients.csv"):
        (broken / name).write_text((root / name).read_text())
    rows_ = (root / "classes.csv").read_text().replace("p0_a,0", "p0_a,7")
    (broken / "classes.csv").write_text(rows_)
    said = medseg_command("check", root / "recipe.yaml", f"dataset.root={broken}")
    assert said.code != 0 and "p0_a" in said.out + said.err and "7" in said.out + said.err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss={name: dice_ce}", "loss: found dice_ce"),
        ("metrics=[dice]", "metrics: found dice"),
        ("postprocess=[keep_largest]", "postprocess: found keep_largest"),
        ("model={name: residual_unet}", "a 3-D segmentation network"),
        ("model={name: resnet18, width: 8}", "a 2-D classifier for images of"),
    ],
)
def test_parts_that_do_not_suit_classes_are_refused(volumes: Path, override: str, words: str, tmp_path: Path) -> None:
    said = medseg_command("train", volumes.parent / "recipe.yaml", override, "--out", tmp_path / "run")
    assert said.code == 2 and words in said.err


def test_a_recipe_that_renames_labels_keeps_what_is_not_known(tmp_path: Path) -> None:
    for name in ("images", "labels", "valid"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "p0_a.png")
    described = "labels: {artery: [1, 3], vein: [2, 3]}\nunknown: {artery: [4], vein: [4]}\nignore: 8\n"
    path = write(tmp_path, described, "model: {name: swin_unet}\n", files_hold="red, green, blue")
    (tmp_path / "patients.csv").write_text("case,patient\np0_a,p0\n")
    table = gather.cases(config.load(path, ["paint=[1, 2]"])).labels
    assert table.ignore == 8 and [label.unknown for label in table.labels] == [(4,), (4,)]
