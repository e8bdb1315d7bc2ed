"""Every small recipe on the sample data: prepare, train, predict, evaluate; over three seeds better than thresholds.

`pytest tests/end_to_end -m slow -k small --small-runs docs/small-runs.md` writes the table.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from medseg import config, ranking
from medseg.case import Case, CaseSet
from medseg.data import splits
from medseg.engine import gather, validate
from medseg.engine.baseline import apply_thresholds, fit_thresholds
from medseg.engine.load import load_case
from medseg.labels import IGNORE
from medseg.readers import read
from tests.tiny import ROOT, medseg_command

SMALL = sorted((ROOT / "pipelines" / "small").glob("*.yaml"))
SEEDS = (1, 2, 3)
MARGIN = 0.10
"""By how much the mean over the seeds must be better than the baseline; the worst seed must be better at all."""


def ids(path: Path) -> str:
    return path.stem


def commands(recipe: Path, folder: Path, *overrides: str) -> Path:
    """All four verbs; the run's folder."""
    words = (f"cache={folder / 'cache'}", "prepare.workers=0", *overrides)
    run = folder / "run"
    case = gather.cases(config.load(recipe)).cases[0]
    named = [word for name, path in case.images.items() for word in ("--channel", f"{name}={path}")]
    channels = named if len(case.images) > 1 else [next(iter(case.images.values()))]
    for command in (
        ("prepare", recipe, *words),
        ("train", recipe, *words, "--out", run),
        ("predict", run, *channels, folder / "predictions"),
        ("evaluate", run, "--out", folder / "scores"),
    ):
        said = medseg_command(*command)
        assert said.code == 0, f"{command[0]}: {said.err}"
    return run


@pytest.mark.parametrize("recipe", SMALL, ids=ids)
def test_small_recipe_runs_from_end_to_end(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run = commands(recipe, tmp_path, "train.epochs=1", "train.steps=2", "train.validate_every=1", "train.threads=2")
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["not scored"] == []
    assert (run / "card.md").is_file() and (tmp_path / "scores" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", SMALL, ids=ids)
def test_small_recipe_beats_a_trivial_baseline(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property
) -> None:
    monkeypatch.chdir(ROOT)
    trivial = baseline(config.load(recipe))
    found, started = [], time.monotonic()
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        commands(recipe, folder, f"seed={seed}")
        found.append(main_metric(folder / "scores" / "metrics.json"))
    minutes = (time.monotonic() - started) / 60 / len(SEEDS)
    row = {"recipe": recipe.stem, "baseline": trivial, "seeds": found, "minutes": minutes}
    record_property("small run", json.dumps(row))
    assert np.mean(found) >= trivial + MARGIN and min(found) > trivial, row


def main_metric(path: Path) -> float:
    """Mean Dice over labels and cases, or mean AUROC over classes."""
    scores = json.loads(path.read_text())
    if scores["cases"]:
        return float(scores["means"]["mean of labels"]["dice"])
    return next(
        float(row["value"]) for row in scores["over all cases"] if (row["metric"], row["row"]) == ("auroc", "mean")
    )


def baseline(recipe: config.Recipe) -> float:
    """What thresholds on intensity alone achieve in the main metric, fitted on the training side."""
    cases = gather.cases(recipe)
    split = splits.make(cases.cases, recipe.split)
    sides = [[case for case in cases.cases if case.id in side] for side in (split.train, split.validation)]
    if validate.measure(cases.labels) == "dice":
        return threshold_dice(cases, *sides)
    return threshold_auroc(cases, *sides)


def threshold_dice(cases: CaseSet, train: Sequence[Case], held_out: Sequence[Case]) -> float:
    """For each label the channel and interval of highest Dice over the training voxels; mean Dice on the others."""
    table = cases.labels
    loaded = {case.id: load_case(case, read, table=table) for case in [*train, *held_out]}
    means = []
    for place, name in enumerate(table.names):

        def masks(case: Case, place: int = place) -> tuple[np.ndarray, np.ndarray]:
            image, labels = loaded[case.id]
            target = table.encode(labels.array[0])  # type: ignore[union-attr]
            known = table.known(target, place)
            inside = np.ones(image.shape, bool) if known is None else known
            return image.array[:, inside], table.mask(target, place)[inside]

        fitted = []
        for channel in range(len(cases.channels)):
            pairs = [(image[channel], truth.astype(int)) for image, truth in map(masks, train)]
            limits = fit_thresholds(pairs, {name: 1})
            score = np.mean([dice(apply_thresholds(image, limits)[name], truth > 0) for image, truth in pairs])
            fitted.append((score, channel, limits))
        _, channel, limits = max(fitted, key=lambda entry: entry[0])
        found = [dice(apply_thresholds(image[channel], limits)[name], truth) for image, truth in map(masks, held_out)]
        means.append(np.nanmean(found))
    return float(np.nanmean(means))


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    total = predicted.sum() + truth.sum()
    return 2 * float((predicted & truth).sum()) / float(total) if total else math.nan


def threshold_auroc(cases: CaseSet, train: Sequence[Case], held_out: Sequence[Case]) -> float:
    """For each class the simple feature (mean, spread, highest values of a channel) that orders the training side best,
    in its direction there; mean AUROC on the others, and at least one half, the majority class's."""
    features, truths = zip(*(units(cases, side) for side in (train, held_out)), strict=True)
    found = []
    for place in range(len(cases.labels.labels)):
        scores = [ranking.auroc(truths[0][place], feature) for feature in features[0]]
        best = int(np.nanargmax(np.abs(np.array(scores) - 0.5)))
        sign = 1 if scores[best] >= 0.5 else -1
        found.append(ranking.auroc(truths[1][place], sign * features[1][best]))
    return max(0.5, float(np.nanmean(found)))


def units(cases: CaseSet, side: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    """(features, n) and (classes, n) over images or slices."""
    table, features, truths = cases.labels, [], []
    for case in side:
        image, labels = load_case(case, read, table=table)
        if table.unit == "image":
            pixels = image.array.reshape(1, len(image.array), -1)
            target = table.encode_classes(case.classes)  # type: ignore[arg-type]
            truths.append(np.stack([table.mask(target, place) for place in range(len(table.labels))]).reshape(-1, 1))
        else:
            pixels = np.moveaxis(image.array, 3, 0).reshape(image.shape[2], len(image.array), -1)
            truths.append(table.encode_slices(labels.array[0])[:, 0, 0])  # type: ignore[union-attr]
        kinds = (pixels.mean(2), pixels.std(2), np.percentile(pixels, 95, axis=2), pixels.max(2), pixels.min(2))
        features.append(np.concatenate(kinds, axis=1).T)
    truth = np.concatenate(truths, axis=1)
    assert not (truth == IGNORE).any()
    return np.concatenate(features, axis=1), truth
