"""`medseg demo`: the whole path on the sample data, from training to a DICOM SEG of an unseen patient."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np

from medseg import config, report
from medseg.case import Case
from medseg.engine import evaluate, gather, reporting
from medseg.engine.baseline import fit_thresholds, threshold_dice
from medseg.engine.batch import predict_all
from medseg.engine.pairs import numbers
from medseg.engine.predict import Predictor
from medseg.engine.scans import single
from medseg.engine.score import Score
from medseg.engine.scores import Scores, save
from medseg.engine.scores_text import as_text
from medseg.engine.train import train
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume

PHANTOMS = "The scans are synthetic phantoms: the numbers show that the pipeline works, and nothing about patients."
IN_VIEW = (
    "No training saw this patient, but the settings were chosen with it in view, so its Dice lies on the high side."
)


def demo(*, out: Path, data: Path, recipe: Path, fresh: bool = False) -> None:
    """Train on the sample CTs, predict the unseen patient's DICOM series, score it, write the report.

    Args:
        out: folder for everything; a second run reuses the training of the first.
        data: the sample_data folder.
        recipe: what to train.
        fresh: train again.
    """
    started = time.monotonic()
    loaded = config.load(recipe, [f"dataset.root={data / 'ct'}", f"cache={out / 'cache'}"])
    series = next((data / "ct_dicom").glob("*/"), None) if (data / "ct_dicom").is_dir() else None
    if series is None:
        raise Refusal(
            data, found="no ct_dicom folder", needed="the sample data", remedy="run `python sample_data/make.py`"
        )
    _say(f"1/4  training on {data / 'ct'} (a few minutes on two cores)")
    if fresh and (out / "run").exists():
        shutil.rmtree(out / "run")
    run = train(loaded, out / "run", announce=_indented)

    _say(f"2/4  segmenting the unseen patient {series} (a DICOM series)")
    predictor = Predictor.load([run.folder])
    truth = read(series.with_name(f"{series.name}_label.nii.gz"))
    metrics = evaluate.metrics_of(loaded.metrics, run.table)
    rows: list[Score] = []
    overlays: list[report.Drawn] = []
    baseline: list[float] = []

    def look(case: Case, scan: Volume, prediction: Prediction) -> None:
        rows.extend(
            evaluate.score(
                truth,
                prediction.target.array,
                table=predictor.table,
                metrics=metrics,
                case=case.id,
                patient=case.patient,
            )
        )
        overlays.append(report.drawn(report.overlay(scan, prediction, truth)))
        baseline.append(_thresholds(loaded, scan.array[0], truth.array[0], predictor.table))

    cases = [single(series, predictor.plan.channels)]
    formats = ("nifti", "dicom_seg")
    [outcome] = predict_all(predictor, cases, out / "unseen", formats=formats, announce=_indented, use=look)
    if outcome.state != "done":
        raise Refusal(series, found=outcome.reason, needed="a prediction", remedy="see the message above")

    _say("3/4  scoring it against the truth, and against what intensity alone can do")
    scores = Scores(tuple(rows), numbers(metrics), metrics=evaluate.settings(metrics))
    save(scores, out)

    _say("4/4  writing the report")
    reporting.write(
        run,
        out / "report.html",
        title="medseg demo: an unseen patient",
        rows=scores.table(),
        statistics=scores.statistics,
        quality=reporting.quality([outcome]),
        headline=[("mean Dice", scores.mean("dice")), ("mean Dice of intensity thresholds", baseline[0])],
        overlays=overlays,
        stamp="",
        facts=predictor.provenance,
        notes=[PHANTOMS, IN_VIEW],
    )
    print(as_text(scores))
    _tell(out, scores, baseline[0], outcome.files, time.monotonic() - started)


def _tell(out: Path, scores: Scores, baseline: float, files: tuple[str, ...], seconds: float) -> None:
    print()
    print(f"mean Dice on the unseen patient        {scores.mean('dice'):.3f}")
    print(f"best intensity thresholds, same patient {baseline:.3f}")
    print(IN_VIEW)
    print(f"took {seconds:.0f} s")
    print()
    print("Where to look:")
    print(f"  {out / 'report.html'}          pictures, curves and numbers: open it in a browser")
    for file in files:
        print(f"  {out / 'unseen' / file}")
    print(f"  {out / 'run'}                  the model: `medseg predict {out / 'run'} SCAN FOLDER`")


def _thresholds(recipe: config.Recipe, image: np.ndarray, truth: np.ndarray, table: LabelTable) -> float:
    """Mean Dice on `image` of the best interval per label, fitted on every training case."""
    labels = {label.name: label.index for label in table.labels}
    pairs = [
        (read(next(iter(case.images.values()))).array[0], read(case.target).array[0])
        for case in gather.cases(recipe).cases
        if case.target is not None
    ]
    dice = threshold_dice(image, truth, fit_thresholds(pairs, labels), labels)
    return float(np.nanmean(list(dice.values())))


def _indented(text: str) -> None:
    _say(f"     {text}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
