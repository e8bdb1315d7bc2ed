"""`medseg tune` measures, judges and remembers; `predict` takes it, for that model and machine alone."""

from __future__ import annotations

import json

import pytest
import torch

from medseg.engine import backends, tuning
from medseg.engine.predict import Predictor
from medseg.engine.run import Run
from medseg.engine.tuning import Measured, Tuned
from medseg.refusal import Refusal
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)


@pytest.fixture
def run(tmp_path) -> Run:
    return tiny.untrained_run(tmp_path / "run")


def about(run: Run, precision: str = "32") -> dict[str, str]:
    return tuning.identity(run.load_network()[1], run.plan, precision, CPU)


def remembered(run: Run, backend: str = "compile") -> Tuned:
    found = Tuned(identity=about(run), backend=backend, measured=())
    tuning.remember(found)
    return found


def test_nothing_is_measured_or_remembered_by_itself(run, tmp_path):
    assert tuning.chosen("auto", about(run)) == ("eager", "no other was measured for this model on this machine")
    predictor = Predictor.load([run.folder], device="cpu")
    assert predictor.provenance["backend"].startswith(f"eager {torch.__version__} (no other was measured")
    assert not (tmp_path / "cache").exists()


def test_what_was_remembered_is_taken_unless_the_settings_say_otherwise(run):
    remembered(run)
    assert tuning.chosen("auto", about(run)) == ("compile", "the fastest by `medseg tune`")
    assert tuning.chosen("eager", about(run)) == ("eager", "as the settings say")


@pytest.mark.parametrize(
    "change",
    [
        "other weights",
        "other patch",
        "other number format",
        "other threads",
        "other CPU",
        "other torch",
        "other medseg",
    ],
)
def test_it_is_forgotten_for_anything_else(run, tmp_path, monkeypatch, change):
    remembered(run)
    asked, precision = run, "32"
    if change == "other weights":
        asked = tiny.untrained_run(tmp_path / "other", seed=1)
    elif change == "other patch":
        run.write("plan.json", run.plan.model_copy(update={"patch": (16, 16, 8)}).model_dump(mode="json"))
        asked = Run.open(run.folder)
    elif change == "other number format":
        precision = "bf16"
    elif change == "other threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    elif change == "other CPU":
        monkeypatch.setattr(tuning, "_processor", lambda: "another one")
    elif change == "other torch":
        machine = tuning.devices.described(CPU) | {"torch": "99.0"}
        monkeypatch.setattr(tuning.devices, "described", lambda device: machine)
    else:
        monkeypatch.setattr(tuning.medseg, "__version__", "99.0")
    assert tuning.chosen("auto", about(asked, precision))[0] == "eager"


def test_a_damaged_memory_is_refused_with_what_to_do(run):
    remembered(run)
    path = tuning.remember(remembered(run))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(Refusal, match=r"remove it, or run `medseg tune` again"):
        tuning.chosen("auto", about(run))


EAGER = Measured(backend="eager", precision="bf16", seconds=1.0, equal=0.998)


@pytest.mark.parametrize(
    ("seconds", "equal", "reason"),
    [
        (0.5, 0.9981, ""),
        (0.5, 0.9970, ""),
        (0.5, 0.9968, "0.32% of its labels are others, of eager's 0.20%"),
        (0.96, 0.998, "it is not 5% faster than eager"),
        (0.94, 0.998, ""),
    ],
)
def test_the_bar(seconds, equal, reason):
    other = Measured(backend="openvino", precision="bf16", seconds=seconds, equal=equal)
    eager, judged = tuning.judged([EAGER, other])
    assert eager.reason == "" and judged.reason == reason


@pytest.mark.parametrize(("equal", "fine"), [(1.0, True), (0.99991, True), (0.9998, False)])
def test_in_float32_one_label_in_ten_thousand_may_differ(equal, fine):
    eager = Measured(backend="eager", precision="32", seconds=1.0)
    other = Measured(backend="openvino", precision="32", seconds=0.5, equal=equal)
    assert (tuning.judged([eager, other])[1].reason == "") == fine


def test_all_take_turns_and_the_fastest_tile_counts():
    now, order = [0.0], []

    def costing(name, costs):
        def run(tile):
            order.append(name)
            now[0] += costs[min(order.count(name), len(costs)) - 1]
            return tile

        return run

    shown = []
    found = tuning.race(
        {("a", "32"): costing("a", [5, 2, 3]), ("b", "32"): costing("b", [1])},
        torch.zeros(1),
        seconds=12,
        on_time=lambda done, total: shown.append((done, total)),
        clock=lambda: now[0],
    )
    assert found == {("a", "32"): 2, ("b", "32"): 1}
    assert order == ["a", "b"] * 3 and shown == [(6, 12), (9, 12), (12, 12)]


def test_there_are_three_rounds_however_short_the_time():
    asked = []
    tuning.race({("a", "32"): lambda tile: asked.append(1) or tile}, torch.zeros(1), seconds=0)
    assert len(asked) == 3


def test_the_tile_is_always_the_same_and_like_a_normalised_scan():
    tile = tuning.noise((2, 20, 17, 9))
    assert tile.shape == (1, 2, 20, 17, 9) and torch.equal(tile, tuning.noise((2, 20, 17, 9)))
    assert abs(float(tile.std()) - 1) < 1e-3 and not torch.equal(tile[:, 0], tile[:, 1])


def with_fakes(monkeypatch, **delta: float) -> None:
    """Back ends in the place of the real ones, which answer like eager but for a number, and are said to be faster."""

    def maker(amount):
        def make(network, precision, device):
            plain = backends._eager(network, precision, device)
            return lambda tiles: plain(tiles) + amount * torch.tensor([-1.0, 1, 0])[:, None, None, None]

        return make

    def absent(network, precision, device):
        raise Refusal("openvino", found="no package", needed="it", remedy="install it")

    makers = {"eager": backends._eager, "openvino": absent} | {name: maker(amount) for name, amount in delta.items()}
    monkeypatch.setattr(backends, "MAKERS", makers)
    speed = {"eager": 2.0, "compile": 1.0}
    monkeypatch.setattr(tuning, "race", lambda runs, tile, **options: {key: speed[key[0]] for key in runs})


@pytest.mark.parametrize(("amount", "winner"), [(0.0, "compile"), (5.0, "eager")])
def test_the_fastest_whose_labels_agree_is_what_predict_takes(run, monkeypatch, amount, winner):
    with_fakes(monkeypatch, compile=amount)
    said = tiny.medseg_command("tune", run.folder, "--device", "cpu", "--seconds", "0")
    assert said.code == 0, said.err
    (file,) = (backends.user_cache() / "backends").glob("*.json")
    kept = json.loads(file.read_text())
    assert kept["backend"] == winner and kept["identity"] == about(run)
    rows = {row["backend"]: row for row in kept["measured"]}
    assert rows["compile"]["seconds"] == 1 and rows["openvino"]["seconds"] is None
    assert rows["openvino"]["reason"] == "openvino: no package" and "no package" in said.out
    assert (rows["compile"]["equal"] == 1) == (winner == "compile") and "fastest" in said.out
    predictor = Predictor.load([run.folder], device="cpu")
    assert predictor.provenance["backend"] == f"{winner} {torch.__version__} (the fastest by `medseg tune`)"


def test_the_number_format_is_settled_on_scans(run, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    with_fakes(monkeypatch, compile=0.0)
    scan = tiny.nifti(tmp_path / "scans" / "one.nii.gz", tiny.phantom(0)[0])
    said = tiny.medseg_command("tune", run.folder, scan, "--device", "cpu", "--seconds", "0")
    assert said.code == 0, said.err
    evidence = json.loads(run.path("precision.json").read_text())
    assert evidence["cases"] == ["one"] and Run.open(run.folder).plan.inference_precision == evidence["verdict"]
    kept = [json.loads(file.read_text())["identity"] for file in (backends.user_cache() / "backends").glob("*.json")]
    assert {one["precision"] for one in kept} == {"32", "bf16"}


def test_scans_that_the_model_was_trained_on_prove_nothing(run, tmp_path):
    folds = [{"train": ["one", "two"], "validation": ["three"]}]
    run.write("split.json", {"kind": "kfold", "fold": 0, "folds": folds})
    for name in ("one", "three"):
        tiny.nifti(tmp_path / "scans" / f"{name}.nii.gz", tiny.phantom(0)[0])
    said = tiny.medseg_command("tune", run.folder, tmp_path / "scans", "--device", "cpu", "--seconds", "0")
    assert said.code == 2 and "found 1 with the names of cases that the model was trained on, such as one;" in said.err
    assert not run.path("precision.json").exists()


def test_a_zipped_run_cannot_be_pinned(run, tmp_path):
    said = tiny.medseg_command("export", run.folder, tmp_path / "run.zip")
    said = tiny.medseg_command("tune", tmp_path / "run.zip", tmp_path, "--device", "cpu")
    assert said.code == 2 and "found a zipped run" in said.err
