"""A temperature from validation cases: found, worth something on others, applied, and never a change of labels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg import config
from medseg.engine import calibrate, calibration, plausible
from medseg.engine.calibrate import Sample
from medseg.engine.predict import Predictor
from medseg.engine.run import Run, export
from medseg.labels import LabelTable
from medseg.plan import Normalisation
from medseg.readers import read
from medseg.refusal import Refusal
from tests import tiny

MEANS, SD, SHARES = (0.0, 60.0, -60.0), 40.0, (0.6, 0.2, 0.2)
SURE = 3.0
"""How many times too large the network's logits are."""
CASES = ("p1_a", "p2_a", "p3_a", "p3_b", "p4_a")
"""The first trains; three patients validate."""
TABLE = LabelTable.of({"left": 1, "right": 2})
VOXELS = LabelTable.of({"left": 1})


class Bayes(nn.Module):
    """Knows the logits of the truth, voxel by voxel, and multiplies them."""

    def __init__(self, sure: float = SURE):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(sure))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = [image * m / SD**2 - m**2 / (2 * SD**2) + float(np.log(p)) for m, p in zip(MEANS, SHARES, strict=True)]
        return self.weight * torch.cat(logits, dim=1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Of a network whose probabilities would be right, were it not three times too sure."""
    root = tmp_path / "data"
    for seed, case in enumerate(CASES):
        draws = np.random.default_rng(seed)
        labels = draws.choice(3, size=(20, 18, 16), p=SHARES).astype(np.uint8)
        image = draws.normal(np.array(MEANS)[labels], SD).astype(np.float32)
        tiny.nifti(root / "images" / f"{case}.nii.gz", image)
        tiny.nifti(root / "labels" / f"{case}.nii.gz", labels)
    (root / "labels.yaml").write_text("labels:\n  left: 1\n  right: 2\n", encoding="utf-8")
    rows = "".join(f"{case},{case[:2]}\n" for case in CASES)
    (root / "patients.csv").write_text(f"case,patient\n{rows}", encoding="utf-8")
    made = tiny.untrained_run(tmp_path / "run", changes=(f"dataset.root={root}", "predict.skip_air=false"))
    plan = made.plan.model_copy(update={"normalisation": (Normalisation(kind="none"),)})
    made.write("plan.json", plan.model_dump(mode="json"))
    split_of(made, CASES[:1], CASES[1:])
    monkeypatch.setattr(Run, "load_network", lambda self: (Bayes(), "abc"))
    return Run(made.folder)


def split_of(run: Run, train: tuple[str, ...], validation: tuple[str, ...], kind: str = "kfold") -> None:
    sides = {"train": list(train), "validation": list(validation)}
    run.write("split.json", {"kind": kind, "stamp": "", "seed": 0, "fold": 0, "folds": [sides]})


def predicted(run: Run, **how: object):
    predictor = Predictor.load([run.folder], device="cpu")
    scan = read(Path(run.recipe.dataset.options.root) / "images" / f"{CASES[0]}.nii.gz")
    return predictor, predictor.predict_volume(scan, "a", probabilities=True, **how)


def test_a_network_that_is_too_sure_is_found_out_and_put_right(run: Run) -> None:
    before_file = predicted(run)[1]
    said: list[str] = []
    found = calibrate.calibrate(run.folder, device="cpu", announce=said.append)
    assert found.temperature == pytest.approx(SURE, rel=0.06)
    assert all(one == pytest.approx(SURE, rel=0.1) for one in found.parts) and len(found.parts) == 3
    assert len({*found.parts, found.temperature}) == 4, "each part was scored by what others say"
    assert found.after.ece < 0.25 * found.before.ece and found.after.ece < 0.02
    assert found.after.nll < found.before.nll and found.after.brier < found.before.brier
    assert (found.cases, found.patients, found.unit) == (4, 3, "voxel") and found.places > 10_000
    assert run.parsed("calibration.json", calibration.Calibration) == found
    assert not any(case in run.path("calibration.json").read_text() for case in CASES), "it may be exported"
    predictor, after = predicted(run)
    assert predictor.temperature == found.temperature
    assert after.provenance["temperature"] == f"{found.temperature:.4g}" and "temperature" not in before_file.provenance
    assert np.array_equal(after.target.array, before_file.target.array)
    bright = after.probabilities, before_file.probabilities
    odds = [np.log(p[0] / p[1]) for p in bright if p is not None]
    fine = np.isfinite(odds[0]) & np.isfinite(odds[1]) & (np.abs(odds[1]) < 10)
    np.testing.assert_allclose(odds[1][fine], odds[0][fine] * found.temperature, rtol=1e-3, atol=1e-3)
    assert "temperature 2" in calibration.as_text("run", found) or "temperature 3" in calibration.as_text("run", found)
    assert any("quality.json" in one for one in said)
    reference = predictor.reference
    assert reference is not None and (reference.cases, reference.validated) == (1, 4)


def test_entropy_is_that_of_the_honest_probabilities(run: Run) -> None:
    plain = predicted(run, uncertainty=["entropy"])[1]
    calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    honest = predicted(run, uncertainty=["entropy"])[1]
    assert honest.entropy is not None and plain.entropy is not None
    assert honest.entropy.mean() > 1.5 * plain.entropy.mean()


def test_it_goes_with_an_export_and_names_nobody(run: Run, tmp_path: Path) -> None:
    calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    export(run, tmp_path / "model.zip")
    there = Predictor.load([tmp_path / "model.zip"], device="cpu")
    here = Predictor.load([run.folder], device="cpu")
    assert there.temperature == here.temperature != 1 and there.reference == here.reference is not None
    with pytest.raises(Refusal, match=r"no split\.json"):
        calibrate.calibrate(tmp_path / "model.zip", device="cpu")


def test_ensembles_take_the_geometric_mean_or_nothing(run: Run, tmp_path: Path) -> None:
    calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    content = json.loads((other / "calibration.json").read_text())
    first = content["temperature"]
    (other / "calibration.json").write_text(json.dumps(content | {"temperature": 4 * first}))
    both = Predictor.load([run.folder, other], device="cpu")
    assert both.temperature == pytest.approx(2 * first)
    (other / "calibration.json").write_text(json.dumps(content | {"weights_sha256": "of other weights"}))
    assert calibration.of_runs([Run(run.folder), Run(other)], ["abc", "abc"]) == (
        1.0,
        "none: 1 of 2 runs were not calibrated with these weights",
    )


def test_too_few_patients_are_refused_and_plausibility_is_kept(run: Run) -> None:
    split_of(run, ("p1_a", "p2_a"), ("p3_a", "p3_b", "p4_a"))
    with pytest.raises(Refusal, match="2 validation patients; needed at least 3"):
        calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    assert run.path("quality.json").exists() and not run.path("calibration.json").exists()


def test_mirrored_passes_are_asked_how_far_they_disagree(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored = config.load(run.path("recipe.yaml"), ["predict.mirror=[left-right]"])
    run.path("recipe.yaml").write_text(config.dump(mirrored), encoding="utf-8")
    known: list[plausible.Known] = []
    settled = plausible.settled
    monkeypatch.setattr(plausible, "settled", lambda one, cases: known.extend(cases) or settled(one, cases))
    calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    assert [sorted(case.dice) for case in known] == [["left", "right"]] * 4
    assert all(set(case.traits["left"]) >= {"disagreement", "certainty", "volume"} for case in known)


def test_cases_that_were_trained_on_say_nothing(run: Run) -> None:
    split_of(run, CASES, CASES, kind="none")
    with pytest.raises(Refusal, match="no case that the run was not trained on"):
        calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)


def test_slices_of_the_training_side_are_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"kind": "slice", "stamp": "x", "seed": 0, "fold": 0, "share": 0.3}
    run.write("split.json", content | {"folds": [{"train": list(CASES), "validation": list(CASES)}]})
    seen: list[Sample] = []
    fitted = calibrate.fitted
    monkeypatch.setattr(calibrate, "fitted", lambda samples, *rest: seen.extend(samples) or fitted(samples, *rest))
    found = calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    assert found.temperature == pytest.approx(SURE, rel=0.1)
    assert run.read("quality.json")["validated"] == 0, "the network has learned from slices of each case"
    sizes = [one.scores.shape[1] for one in seen]
    assert 0 < max(sizes) < 0.6 * 20 * 18 * 16, "about three tenths of the slices"


@pytest.mark.parametrize("exclusive", [True, False], ids=["one of them", "any of them"])
@given(sure=st.floats(0.3, 6), seed=st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_the_temperature_is_how_much_too_large_logits_are(exclusive: bool, sure: float, seed: int) -> None:
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 1.5, (3, 12_000))
    if exclusive:
        p = np.exp(logits) / np.exp(logits).sum(0)
        truth = (p.cumsum(0) > draws.random(12_000)).argmax(0) == np.arange(3)[:, None]
    else:
        truth = draws.random(logits.shape) < 1 / (1 + np.exp(-logits))
    values = truth.astype(np.uint8)
    values[:, ::7] = 255  # not known
    sample = Sample("a", "a", (sure * logits).astype(np.float32), values)
    assert calibrate.temperature([sample], exclusive=exclusive) == pytest.approx(sure, rel=0.08)


def test_each_case_counts_alike() -> None:
    draws = np.random.default_rng(0)

    def of(sure: float, count: int) -> Sample:
        logits = draws.normal(0, 2, count)
        truth = (draws.random(count) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
        return Sample("a", "a", (sure * logits).astype(np.float32)[None], truth[None])

    one, other = of(1, 5_000), of(4, 50_000)
    mixed = calibrate.temperature([one, other], exclusive=False)
    assert mixed == pytest.approx(
        calibrate.temperature([one, replace(other, scores=other.scores[:, :5000], truth=other.truth[:, :5000])],
                              exclusive=False), rel=0.05
    )  # fmt: skip


def test_what_is_no_better_is_left_alone() -> None:
    draws = np.random.default_rng(1)
    samples = []
    for patient, sign in (("a", 1), ("b", -1), ("c", 1), ("d", -1)):  # what helps one half spoils the other
        logits = draws.normal(0, 2, (1, 3_000)).astype(np.float32)
        truth = (draws.random(logits.shape) < 1 / (1 + np.exp(-logits * sign))).astype(np.uint8)
        samples.append(Sample(patient, patient, logits * 0.01, truth))
    found = calibrate.fitted(samples, LabelTable.classes({"x": 0, "y": 1}, exclusive=False), "abc")
    assert found.temperature == 1 or found.after.nll < found.before.nll
    assert found.temperature != 1 or "no better" in calibration.as_text("run", found)


def test_classes_that_exclude_each_other_are_calibrated() -> None:
    """Its logits are three times the truth's; ECE falls on patients that the temperature was not fitted on."""
    draws, samples = np.random.default_rng(2), []
    for number in range(60):
        logits = draws.normal(0, 1.2, (2, 8))
        p = np.exp(logits) / np.exp(logits).sum(0)
        truth = (draws.random(8) < p[1]) == np.arange(2)[:, None]
        samples.append(
            Sample(f"{number}", f"{number // 2}", (SURE * logits).astype(np.float32), truth.astype(np.uint8))
        )
    found = calibrate.fitted(samples, LabelTable.classes({"no": 0, "yes": 1}, unit="slice"), "abc")
    assert found.after.ece < 0.6 * found.before.ece and found.unit == "slice" and len(found.parts) == 5


class Brightness(nn.Module):
    """A slice's logit is three times what it should be: its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(SURE))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.weight * image.mean((2, 3, 4), keepdim=True)


def test_a_slice_classifier_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, shape = tmp_path / "data", (8, 8, 150)
    for seed, case in enumerate(CASES):
        draws = np.random.default_rng(seed)
        values = draws.normal(0, 1.5, shape[2])
        there = draws.random(shape[2]) < 1 / (1 + np.exp(-values))
        tiny.nifti(root / "images" / f"{case}.nii.gz", np.broadcast_to(values, shape).astype(np.float32))
        labels = np.zeros(shape, np.uint8)
        labels[2:4, 2:4] = there
        tiny.nifti(root / "labels" / f"{case}.nii.gz", labels)
    (root / "labels.yaml").write_text("labels:\n  left: 1\n", encoding="utf-8")
    rows = "".join(f"{case},{case[:2]}\n" for case in CASES)
    (root / "patients.csv").write_text(f"case,patient\n{rows}", encoding="utf-8")
    made = tiny.untrained_run(tmp_path / "run", changes=(f"dataset.root={root}",))
    update = {"normalisation": (Normalisation(kind="none"),), "patch": (8, 8, 1)}
    made.write("plan.json", made.plan.model_copy(update=update).model_dump(mode="json"))
    table = LabelTable.classes({"left": 1}, exclusive=False, unit="slice")
    made.write("labels.json", table.to_json())
    split_of(made, CASES[:1], CASES[1:])
    monkeypatch.setattr(Run, "load_network", lambda self: (Brightness(), "abc"))
    found = calibrate.calibrate(made.folder, device="cpu", announce=lambda text: None)
    assert found.temperature == pytest.approx(SURE, rel=0.25) and found.places == 4 * shape[2]
    assert found.unit == "slice" and not (made.folder / "quality.json").exists()
    assert found.after.ece < 0.7 * found.before.ece
    predictor = Predictor.load([made.folder], device="cpu")
    scan = read(root / "images" / f"{CASES[0]}.nii.gz")
    told = predictor.classify(scan, "a")
    plain = replace(predictor, temperature=1.0).classify(scan, "a")
    assert np.array_equal(told.decisions, plain.decisions)
    expected = 1 / (1 + np.exp(-np.array(plain.scores) / found.temperature))
    np.testing.assert_allclose(told.probabilities, expected, atol=1e-5)


def test_the_command_tells_what_it_is_worth(run: Run) -> None:
    said = tiny.medseg_command("calibrate", run.folder, "--device", "cpu", "--threads", "1")
    assert said.code == 0, said.err
    assert "of patients that it was not fitted on" in said.out and "ECE" in said.out
    assert config.load(run.path("recipe.yaml")).name == "tiny"


def test_a_report_shows_what_is_thought_of_each_case(run: Run, tmp_path: Path) -> None:
    calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    said = tiny.medseg_command("evaluate", run.folder, "--device", "cpu", "--out", tmp_path / "scores")
    assert said.code == 0, said.err
    page = (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
    assert page.count("too few training cases to judge by: 1") >= 4, "a row for each validation case"
    assert "Quality control was set up by these same cases" in page


def test_results_are_judged_by_what_was_learned_of_the_same_numbers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges are learned before there is a temperature: what is compared with them must not be divided by it."""
    found: list[dict[str, dict[str, float]]] = []
    measured = plausible.measured
    monkeypatch.setattr(plausible, "measured", lambda *given: found.append(measured(*given)) or found[-1])
    calibrate.calibrate(run.folder, device="cpu", announce=lambda text: None)
    learned = found[0]
    found.clear()
    scan = read(Path(run.recipe.dataset.options.root) / "images" / f"{CASES[1]}.nii.gz")
    Predictor.load([run.folder], device="cpu").predict_volume(scan, CASES[1])
    for name in ("left", "right"):
        assert 0.1 < learned[name]["certainty"] < 0.95
        assert found[0][name]["certainty"] == pytest.approx(learned[name]["certainty"], abs=1e-6)
