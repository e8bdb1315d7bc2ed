"""`medseg calibrate`: what a run's validation cases say of its answers: a temperature, and how to judge results.

The temperature is the one that makes the truth likeliest (least negative log-likelihood), each case counting alike.
What it is worth is told by cross-fitting: patients are divided, and each part is scored by the temperature of the
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import optimize, special

from medseg import config, progress, scratch
from medseg.case import Case
from medseg.data import splits
from medseg.data.split import Split
from medseg.engine import assess, gather, plausible
from medseg.engine.budget import SCRATCH_SHARE
from medseg.engine.calibration import Calibration, Fit
from medseg.engine.fingerprint import Fingerprint, fingerprint
from medseg.engine.load import load_truth, load_valid
from medseg.engine.material import reader, workers
from medseg.engine.predict import Predictor
from medseg.engine.run import CALIBRATION, PLAUSIBLE, Run
from medseg.engine.validate import overlaps
from medseg.labels import IGNORE, LabelTable
from medseg.prediction import Evidence
from medseg.quality import Reference
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms import prepare as transform
from medseg.transforms.kept import Draw
from medseg.volume import Volume

PATIENTS = 3
"""Fewest that a temperature is fitted on."""
PARTS = 5
"""Most parts of the cross-fitting."""
VOXELS = 20_000
"""Drawn from a case, at most."""
NUMBERS = 2**26
"""Scores of all cases, at most."""
MARGIN_MM = 20.0
"""Around the true labels, in which voxels are drawn: of the air around a patient there is nothing to learn."""
LOWEST, HIGHEST = 0.05, 20.0
SEED = 20240229


@dataclass(frozen=True, eq=False)
class Sample:
    """Places of a validation case.

    Attributes:
        scores: (channels, n) float32 logits.
        truth: (channels, n) uint8: 1 where a channel holds, 0 where not, IGNORE where it is not known.
    """

    case: str
    patient: str
    scores: np.ndarray
    truth: np.ndarray


def calibrate(folder: Path, *, device: str = "auto", announce: Callable[[str], None] = print) -> Calibration:
    """Predict a run's validation cases; write quality.json, where labels are of voxels, and calibration.json.

    Raises:
        Refusal: the run does not say which cases it held out, or there are too few patients for a temperature. What was
            learned of plausibility is kept all the same.
    """
    run = Run.open(folder)
    cases, split = _held_out(run, folder)
    predictor = replace(Predictor.load([folder], device=device), temperature=1.0, reference=None)
    table, voxels = run.table, run.table.unit == "voxel"
    samples: list[Sample] = []
    known: list[plausible.Known] = []
    above = predictor.limits.host_bytes() // SCRATCH_SHARE
    with progress.counting("validation cases", total=len(cases)) as done, scratch.on_disk(None, above=above):
        for number, case in enumerate(cases):
            scan = predictor.read_scan(case)
            truth = load_truth(case, scan, read, table, run.plan.steps)
            if voxels and truth is not None:
                sample, one = _of_voxels(predictor, case, scan, truth, split, number, len(cases))
                known.append(one)
            else:
                sample = _of_classes(predictor, case, scan, truth, split)
            samples.append(sample)
            done()
    if voxels:
        reference = plausible.settled(_reference(run), known)
        run.write(PLAUSIBLE, reference.model_dump(mode="json"))
        announce(f"{PLAUSIBLE}: learned from {reference.cases} training and {len(known)} validation cases")
    patients = {sample.patient for sample in samples}
    if len(patients) < PATIENTS:
        raise Refusal(
            run.folder,
            found=f"{len(patients)} validation patients",
            needed=f"at least {PATIENTS} to fit a temperature" + f"; {PLAUSIBLE} is written all the same" * voxels,
            remedy="train with a split that validates more patients",
        )
    found = fitted(samples, table, run.load_network()[1])
    run.write(CALIBRATION, found.model_dump(mode="json"))
    return found


def _held_out(run: Run, folder: Path) -> tuple[list[Case], Split]:
    if not folder.is_dir() or not run.path("split.json").exists():
        raise Refusal(
            folder,
            found="no split.json, which zipped, exported and imported runs do not have",
            needed="to know which cases were held out",
            remedy="calibrate the run folder that was trained, and export it then",
        )
    cases = gather.cases(run.recipe)
    split = splits.load(run.path("split.json"), cases.cases)
    chosen = [case for case in cases.cases if case.id in set(split.validation) - set(split.train)]
    if split.settings.kind == "slice":
        chosen = [case for case in cases.cases if case.id in set(split.validation)]
    if not chosen:
        raise Refusal(
            folder,
            found="no case that the run was not trained on",
            needed="validation cases: of those that it knows a network is too sure",
            remedy="train with split.kind=kfold or holdout",
        )
    return chosen, split


def _reference(run: Run) -> Reference:
    """What training noted of its cases, or what is found now by reading them."""
    if run.path("fingerprint.json").exists():
        seen = Fingerprint.from_json(run.read("fingerprint.json"))
        own = {name: case for name, case in seen.cases.items() if name in run.learned_from}
        if found := plausible.learned(replace(seen, cases=own), run.table):
            return found
    cases = gather.cases(run.recipe)
    training = tuple(case for case in cases.cases if case.id in run.learned_from)
    with progress.counting("measuring training cases", total=len(training)) as done:
        seen = fingerprint(
            replace(cases, cases=training, labels=run.table),
            read=reader(run.recipe),
            orientation=run.plan.orientation,
            policy=run.recipe.prepare.channels_on_other_grids,
            workers=workers(run.recipe),
            progress=lambda number, total, case: done(),
        )
    found = plausible.learned(seen, run.table)
    if found is None:
        raise Refusal(run.folder, found="training cases without labels", needed="labels", remedy="check the data set")
    return found


def _of_voxels(
    predictor: Predictor, case: Case, scan: Volume, truth: Volume, split: Split, number: int, cases: int
) -> tuple[Sample, plausible.Known]:
    """Scores and truth of some voxels, and what the prediction is like."""
    table = predictor.table
    target = table.encode(truth.array[0])
    columns = min(VOXELS, NUMBERS // (table.network_channels * cases))
    places = _drawn(target, scan, columns, np.random.default_rng([SEED, number]))
    if split.settings.kind == "slice":
        places = places[_validates(places, predictor, scan, case, split)]
    numbered = scratch.zeros((1, *scan.shape), np.int32)
    numbered[(0, *places.T)] = np.arange(1, len(places) + 1)
    draw = Draw.of(numbered, len(places), table.network_channels, exclusive=table.exclusive)
    valid = load_valid(case, scan, read)
    maps = ["disagreement"] if predictor.settings.mirror else []  # of passes, there is a single network
    found = predictor.predict_volume(scan, case.id, valid=valid, centre=case.centre, draw=draw, uncertainty=maps)
    there = np.isfinite(draw.scores).all(axis=0)  # the others lie outside of what the network saw
    values = _channels(target[(slice(None), *places[there].T)], table)
    counts = overlaps(target, found.target.array, table)
    dice = {name: float(both / sizes) for name, (both, sizes) in zip(table.names, counts, strict=True) if sizes > 0}
    traits = plausible.measured(found, draw.certainty.dice(len(table.labels)))
    return Sample(case.id, case.patient, draw.scores[:, there], values), plausible.Known(traits, dice)


def _drawn(target: np.ndarray, scan: Volume, count: int, generator: np.random.Generator) -> np.ndarray:
    """(n, 3) voxels, each once, in the box around the labels."""
    margin = np.ceil(MARGIN_MM / scan.spacing_mm).astype(int)
    there = ((target != 0) & (target != IGNORE)).any(axis=0)
    box = []
    for axis, size in enumerate(there.shape):
        [along] = np.nonzero(there.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (along[0], along[-1]) if len(along) else (0, size - 1)
        box.append((max(0, first - margin[axis]), min(size, last + 1 + margin[axis])))
    picks = np.stack([generator.integers(first, stop, size=count) for first, stop in box], axis=1)
    return np.unique(picks, axis=0)


def _validates(places: np.ndarray, predictor: Predictor, scan: Volume, case: Case, split: Split) -> np.ndarray:
    """Which voxels lie in slices of the validation side; slices lie along the last canonical axis of the crop."""
    undo = transform.way_back(scan, predictor.plan)
    along = undo.permutation[2]
    canonical = places[:, along]
    if undo.flips[2]:
        canonical = scan.shape[along] - 1 - canonical
    slices = canonical - undo.crop[2][0]
    return np.array([split.slice_side(case.id, int(k)) == "validation" for k in slices], bool)


def _of_classes(predictor: Predictor, case: Case, scan: Volume, truth: Volume | None, split: Split) -> Sample:
    found = predictor.classify(scan, case.id, centre=case.centre)
    slices = split if split.settings.kind == "slice" else None
    evidence = assess.evidence(case, found, truth, predictor.plan, slices)
    if found.scores is None:
        raise ValueError("a classifier's own answer comes with its scores")
    return Sample(case.id, case.patient, found.scores, evidence.truth)


def _channels(target: np.ndarray, table: LabelTable) -> np.ndarray:
    """(channels, n) truth of a network target (1 or R, n)."""
    if not table.exclusive:
        return target
    numbers = np.arange(table.network_channels, dtype=target.dtype)[:, None]
    return np.where(target == IGNORE, IGNORE, numbers == target).astype(np.uint8)


def fitted(samples: Sequence[Sample], table: LabelTable, weights: str) -> Calibration:
    """The temperature of all samples, and what it is worth on patients that it was not fitted on.

    Where it makes them no better, the temperature is 1.
    """
    patients = sorted({sample.patient for sample in samples})
    parts = min(PARTS, len(patients))
    temperatures, before, after = [], [], []
    for part in range(parts):
        held = set(patients[part::parts])
        found = temperature([one for one in samples if one.patient not in held], exclusive=table.exclusive)
        temperatures.append(round(found, 4))
        for one in samples:
            if one.patient in held:
                before.append(_evidence(one, 1.0, table))
                after.append(_evidence(one, found, table))
    better = _fit(after, table).nll < _fit(before, table).nll
    whole = temperature(samples, exclusive=table.exclusive) if better else 1.0
    return Calibration(
        temperature=round(whole, 4),
        weights_sha256=weights,
        cases=len(samples),
        patients=len(patients),
        places=sum(one.scores.shape[1] for one in samples),
        unit=table.unit,
        parts=tuple(temperatures),
        before=_fit(before, table),
        after=_fit(after, table),
    )


def temperature(samples: Sequence[Sample], *, exclusive: bool) -> float:
    """That of the least negative log-likelihood, each sample counting alike."""

    def loss(logarithm: float) -> float:
        return float(np.mean([_nll(one, math.exp(logarithm), exclusive=exclusive) for one in samples]))

    found = optimize.minimize_scalar(
        loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded", options={"xatol": 1e-4}
    )
    return math.exp(found.x)


def _nll(one: Sample, temperature: float, *, exclusive: bool) -> float:
    """Mean negative log-likelihood: of the class that holds, or of each yes or no."""
    scores, known = one.scores.astype(np.float64) / temperature, one.truth != IGNORE
    if exclusive:
        known = known.all(axis=0)
        losses = special.logsumexp(scores, axis=0) - (scores * (one.truth == 1)).sum(axis=0)
    else:
        losses = np.logaddexp(0, scores) - scores * (one.truth == 1)
    return float(losses[known].mean()) if known.any() else 0.0


def _evidence(one: Sample, temperature: float, table: LabelTable) -> tuple[Evidence, float]:
    """Probabilities of a sample under a temperature, and their loss."""
    scores = one.scores.astype(np.float64) / temperature
    chances = special.softmax(scores, axis=0) if table.exclusive else special.expit(scores)
    evidence = Evidence(one.case, one.patient, one.truth, chances.astype(np.float32))
    return evidence, _nll(one, temperature, exclusive=table.exclusive)


def _fit(scored: Sequence[tuple[Evidence, float]], table: LabelTable) -> Fit:
    """As the calibration metric has it, over all channels, background too."""
    metric = config.choose("metrics", "calibration")
    rows = metric.module().compute(
        [evidence for evidence, _ in scored], names=table.channel_names, options=metric.options
    )
    brier = [value for name, value in rows.items() if name.endswith(": Brier")]
    return Fit(ece=rows["ECE"], nll=float(np.mean([loss for _, loss in scored])), brier=float(np.mean(brier)))
