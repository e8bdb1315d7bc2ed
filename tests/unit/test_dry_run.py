"""`medseg predict --dry-run`: what it promises is what the prediction then does, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from medseg.engine import checkpoint, outlook, scans
from medseg.engine.bench import Bench
from medseg.engine.gate import Gate
from medseg.engine.memory import MIB
from medseg.engine.predict import Predictor
from medseg.engine.run import Run, build_network
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.volume import Volume
from tests import tiny
from tests.tiny import medseg_command

FLIPPED = np.array([[0, 0, -2.0, 20], [1.5, 0, 0, -30], [0, -1.5, 0, 5.5], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.untrained_run(tmp_path_factory.mktemp("täst ordner") / "run").folder


def scan(path: Path, shape: tuple[int, int, int] = (40, 36, 28), affine: np.ndarray = tiny.AFFINE) -> Path:
    return tiny.nifti(path, tiny.phantom(0, shape)[0], affine)


def told(*words: object, code: int = 0) -> Any:
    said = medseg_command("predict", *words, "--dry-run", "--progress", "json", "--device", "cpu")
    assert said.code == code, said.err
    return json.loads(said.out)


def test_it_promises_what_the_prediction_does(run: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "a.nii.gz")
    before = sorted(tmp_path.rglob("*"))
    said = told(run, image, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before
    assert said["model"] == {"name": "tiny", "labels": ["left", "right"], "kind": "voxel"}
    assert said["device"] == "cpu"
    [case] = said["cases"]
    assert (case["case"], case["state"], case["error"], case["warnings"]) == ("a", "fits", None, [])
    assert case["shape"] == [40, 36, 28]
    assert case["spacing_mm"] == pytest.approx([1.5, 1.5, 2])
    assert medseg_command("predict", run, image, tmp_path / "out", "--device", "cpu").code == 0
    [real] = json.loads((tmp_path / "out" / "predict.json").read_text(encoding="utf-8"))["cases"]
    assert case["tiles"] == real["facts"]["tiles"] > 20
    assert case["memory"]["needed"] / MIB == pytest.approx(real["facts"]["memory_estimate_mib"], rel=0.15)
    assert case["memory"]["needed"] < case["memory"]["free"]
    assert (case["memory"]["gpu_needed"], case["memory"]["gpu_free"]) == (None, None)
    assert 0 < case["seconds"] < 600


def test_people_get_a_line_a_case(run: Path, tmp_path: Path) -> None:
    said = medseg_command("predict", run, scan(tmp_path / "a.nii.gz"), tmp_path / "out", "--dry-run")
    assert said.out.startswith("a: fits, 40 x 36 x 28 voxels of 1.5 x 1.5 x 2, ")
    assert said.code == 0


def test_a_gate_that_is_none_is_refused_as_the_prediction_would(run: Path, tmp_path: Path) -> None:
    words = ("predict", run, scan(tmp_path / "a.nii.gz"), tmp_path / "out", "--gate", run, "--device", "cpu")
    said, real = medseg_command(*words, "--dry-run"), medseg_command(*words)
    assert said.code == real.code == 2
    assert said.err == real.err and "needed a slice classifier" in said.err


def test_what_would_be_refused_is_told_with_its_reason_and_the_others_go_on(run: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    scan(images / "good.nii.gz")
    tiny.nifti(images / "two.nii.gz", np.zeros((8, 8, 8, 2), np.int16))
    (images / "zut.nii.gz").write_bytes(b"no image")
    cases = {case["case"]: case for case in told(run, images, tmp_path / "out", code=1)["cases"]}
    assert [case["state"] for case in cases.values()] == ["fits", "refused", "refused"]
    assert (cases["two"]["error"]["code"], cases["two"]["seconds"]) == ("channels", None)
    assert cases["two"]["error"]["found"] == "2 channels"
    assert "a file with those that the model needs" in cases["two"]["error"]["remedy"]
    assert cases["zut"]["error"]["found"]


def test_too_little_memory_is_told_with_the_size_of_the_scan(run: Path, tmp_path: Path) -> None:
    [case] = told(run, scan(tmp_path / "a.nii.gz"), tmp_path / "out", "--max-memory", "20MiB", code=1)["cases"]
    assert (case["state"], case["error"]["code"], case["shape"]) == ("refused", "memory", [40, 36, 28])
    assert "MiB" in case["error"]["remedy"]


def test_an_output_that_could_not_be_written_is_told_before(run: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "a.nii.gz")
    [case] = told(run, image, tmp_path / "out", "--output", "dicom_seg", code=1)["cases"]
    assert case["error"]["code"] == "no-identifiers"


def test_voxels_far_coarser_than_the_models_are_worth_a_word(run: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "a.nii.gz", (14, 12, 10), np.diag([1.5, 4.5, 2, 1]))
    [case] = told(run, image, tmp_path / "out")["cases"]
    [warning] = case["warnings"]
    assert warning.startswith("voxels of 1.5 x 4.5 x 2 mm, and the model works at 1.5 x 1.5 x 2 mm")


def test_another_modality_than_the_models_is_refused(tmp_path: Path) -> None:
    from tests import dicom_series as ds

    run = tiny.untrained_run(tmp_path / "run", changes=("prepare.modalities=[MR]",)).folder
    series = ds.series(tmp_path / "scan", ds.places(8))
    [case] = told(run, series, tmp_path / "out", code=1)["cases"]
    assert (case["state"], case["error"]["code"]) == ("refused", "channels")
    said = tiny.medseg_command("predict", run, series, tmp_path / "out", "--threads", 1)
    assert said.code == 1 and "found CT as channel image; needed MR, as the model was trained on" in said.err
    assert tiny.medseg_command("convert", series, tmp_path / "like.nii.gz").code == 0  # NIfTI says no modality
    [case] = told(run, tmp_path / "like.nii.gz", tmp_path / "out")["cases"]
    assert case["state"] == "fits"


def test_time_grows_with_tiles_networks_and_mirrored_passes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a piece of which every stage takes a second."""

    def second(work: Any) -> dict[str, float]:
        work()
        return {"network": 1.0, "prepare": 1.0}

    monkeypatch.setattr(outlook, "_twice", second)
    image = scan(tmp_path / "a.nii.gz")

    def seconds(runs: list[Path], *changes: str) -> float:
        predictor = Predictor.load(runs, device="cpu", changes=["skip_air=false", *changes])
        bench = Bench.of(predictor, announce=lambda text: None)
        [one] = outlook.look(bench, scans.find([image], ("image",), {}), tmp_path / "out")
        assert one.seconds is not None and one.tiles == 4 * 4 * 3
        return one.seconds

    piece = 40 * 36 * 28 / (16 * 16 * 24)
    alone = seconds([run])
    assert alone == pytest.approx(48 / 2 + piece, abs=0.5)
    assert seconds([run], "mirror=[left-right]") == pytest.approx(48 / 2 * 2 + piece, abs=0.5)
    assert seconds([run, run]) == pytest.approx(48 / 2 * 2 + 2 * piece, abs=0.5)


@pytest.mark.parametrize("affine", [tiny.AFFINE, FLIPPED], ids=["plain", "turned"])
def test_the_piece_lies_where_it_was_cut_from(run: Path, affine: np.ndarray) -> None:
    shape = (40, 36, 28)
    whole = Volume(np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape), affine)
    predictor = Predictor.load([run], device="cpu")
    forecast, _ = predictor.forecast(whole, roi=None)
    piece = outlook._piece(whole, forecast, 0.5)
    corner = np.unravel_index(int(piece.array[0, 0, 0, 0]), shape)
    np.testing.assert_allclose(piece.affine[:3, 3], affine[:3, :3] @ corner + affine[:3, 3])
    middle = np.array(corner) + np.array(piece.shape) / 2
    np.testing.assert_allclose(middle, np.array(shape) / 2, atol=1.1)
    trial, tiles = predictor.trial(1), []
    assert trial.planner.need is predictor.planner.need, "a network is not measured twice"
    trial.predict_volume(piece, "a", lambda done, total: tiles.append(total))
    assert tiles[-1] == outlook.PASSES


@pytest.mark.parametrize("affine", [tiny.AFFINE, FLIPPED], ids=["plain", "turned"])
def test_the_piece_is_of_what_is_cropped_and_not_of_the_emptiness_around_it(tmp_path: Path, affine: np.ndarray) -> None:
    run = tiny.untrained_run(tmp_path / "run")
    run.write("plan.json", run.read("plan.json") | {"crop": "nonzero"})
    whole = Volume(np.zeros((1, 60, 60, 60), np.int16), affine)
    whole.array[0, :30, 30:, 2:32] = 7
    forecast, _ = (predictor := Predictor.load([run.folder], device="cpu")).forecast(whole, roi=None)
    piece = outlook._piece(whole, forecast, predictor.settings.overlap)
    assert piece.array.min() == 7


def test_a_box_takes_less(run: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "a.nii.gz")
    [whole] = told(run, image, tmp_path / "out")["cases"]
    [part] = told(run, image, tmp_path / "out", "--roi", "0:8,0:8,0:8")["cases"]
    assert part["tiles"] < whole["tiles"] / 4


def classifier(folder: Path, unit: Literal["slice", "image"], **plan: object) -> Run:
    run = tiny.untrained_run(folder, changes=("model={name: resnet18, width: 8}", "loss={name: ce}"))
    table = LabelTable.classes({"no": 0, "yes": 1}, unit=unit)
    made = Plan.model_validate(run.read("plan.json") | plan)
    run.write("plan.json", made.model_dump(mode="json"))
    run.write("labels.json", table.to_json())
    network = build_network(run.recipe, made, table)
    checkpoint.save(run.path("weights.safetensors"), network.state_dict(), {"epoch": 1, "dice": 0.0})
    return run


def test_a_classifier_knows_memory_and_time(tmp_path: Path) -> None:
    run = classifier(tmp_path / "run", "image", size=(32, 32, 1), patch=(32, 32, 1))
    image = tiny.nifti(tmp_path / "a.nii.gz", tiny.phantom(0, (40, 30, 1))[0], np.diag([1.5, 1.5, 2, 1]))
    said = told(run.folder, image, tmp_path / "out")
    assert said["model"]["kind"] == "image"
    [case] = said["cases"]
    assert (case["state"], case["tiles"]) == ("fits", 1)
    assert case["seconds"] > 0
    assert 0 < case["memory"]["needed"] < case["memory"]["free"]


def test_a_gate_counts(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pass comes when the labels are there; what it takes beyond the segmentation, and beyond what there is."""
    image = scan(tmp_path / "a.nii.gz")
    gate = Gate.load(classifier(tmp_path / "gate", "slice", patch=(48, 48, 1)).folder, device="cpu")
    predictor = Predictor.load([run], device="cpu")
    [case] = scans.find([image], predictor.plan.channels, {})

    def seen(gate: Gate | None) -> outlook.Outlook:
        return next(outlook.look(Bench.of(predictor, [], gate=gate), [case], tmp_path / "out"))

    def timed(work: Callable[[], object]) -> dict[str, float]:
        work()
        return {"network": 100.0, "prepare": 50.0}

    monkeypatch.setattr(outlook, "_twice", timed)
    alone, gated = seen(None), seen(gate)
    assert alone.seconds and gated.seconds and gated.seconds - alone.seconds == pytest.approx(150, abs=20)
    assert alone.needed and gated.needed == pytest.approx(alone.needed, rel=0.05)  # the segmentation takes more
    monkeypatch.setattr(Predictor, "memory_of_classes", lambda self, scan: (1, alone.needed))
    more = seen(gate)
    assert more.refusal is None and more.needed and more.needed > alone.needed
    monkeypatch.setattr(Predictor, "memory_of_classes", lambda self, scan: (1, 2**50))
    refusal = seen(gate).refusal
    assert refusal and refusal.code == "memory" and "the gate takes it to" in refusal.found
