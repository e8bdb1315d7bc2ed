"""Each metric of whole sets on random sets against scikit-learn, SciPy or brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from medseg import plugins
from medseg.labels import IGNORE
from medseg.metrics import calibration
from medseg.prediction import Evidence

NAMES = ("a", "b", "c")
SEEDS = range(40)


def measure(name: str, cases: list[Evidence], **options) -> dict[str, float]:
    metric = plugins.find("metrics", name)
    return metric.compute(cases, names=NAMES, options=metric.Options(**options))


def classes(seed: int) -> list[Evidence]:
    """Images of one of three classes; ties among the probabilities; some are not known."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(int(rng.integers(2, 30))):
        truth = np.eye(3, dtype=np.uint8)[:, [rng.integers(3)]]
        chances = np.round(rng.dirichlet(np.ones(3) + 3 * truth[:, 0] * rng.random()) * 8)
        chances = (chances + 1e-3 * np.array([1, 2, 3]))[:, None]
        truth = np.full_like(truth, IGNORE) if rng.random() < 0.1 else truth
        cases.append(Evidence(str(number), str(number), truth, (chances / chances.sum()).astype(np.float32)))
    return cases


def structures(seed: int) -> list[Evidence]:
    """Pictures with three structures that may overlap; places that are not known."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(int(rng.integers(1, 4))):
        truth = rng.choice(np.array([0, 1, IGNORE], np.uint8), (3, 4, 5), p=[0.5, 0.4, 0.1])
        chances = np.clip(np.round(rng.normal(0.35 + 0.3 * (truth == 1), 0.3), 1), 0, 1)
        cases.append(Evidence(str(number), str(number), truth, chances.astype(np.float32)))
    return cases


def pooled(cases: list[Evidence]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and probability of the known places of each label."""
    rows = []
    for place in range(3):
        truth = np.concatenate([case.truth[place].ravel() for case in cases])
        chances = np.concatenate([case.probabilities[place].ravel() for case in cases])
        rows.append((truth[truth != IGNORE] == 1, chances[truth != IGNORE]))
    return rows


def chosen(cases: list[Evidence]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True class, likeliest class and probabilities (n, 3) of the known images."""
    known = [case for case in cases if case.truth[0, 0] != IGNORE]
    chances = np.array([case.probabilities[:, 0] for case in known]).reshape(-1, 3)
    return np.array([case.truth[:, 0].argmax() for case in known], int), chances.argmax(axis=1), chances


def same(found: float, expected: float) -> None:
    assert found == pytest.approx(float(expected), nan_ok=True, abs=1e-6)


@pytest.mark.parametrize("make", [classes, structures])
def test_ranking_and_thresholds_are_those_of_scikit_learn(make):
    for seed in SEEDS:
        cases = make(seed)
        areas, precisions = measure("auroc", cases), measure("auprc", cases)
        briers, points = measure("calibration", cases), measure("screening", cases, specificities=(0.8,))
        for name, (truth, chances) in zip(NAMES, pooled(cases), strict=True):
            if not truth.size:
                continue
            same(
                briers[f"{name}: Brier"], sklearn.brier_score_loss(truth, chances, pos_label=True, labels=[False, True])
            )
            if truth.all() or not truth.any():
                assert math.isnan(areas[name]) and math.isnan(precisions[name])
                continue
            same(areas[name], sklearn.roc_auc_score(truth, chances))
            same(precisions[name], sklearn.average_precision_score(truth, chances))
            alarms, hits, _ = sklearn.roc_curve(truth, chances, drop_intermediate=False)
            same(points[f"{name}: sensitivity at specificity 0.8"], hits[alarms <= 0.2 + 1e-9].max())
            best = (
                points[f"{name}: sensitivity at Youden's threshold"],
                points[f"{name}: specificity at Youden's threshold"],
            )
            same(sum(best), 1 + (hits - alarms).max())


def test_answers_of_classes_are_those_of_scikit_learn():
    for seed in SEEDS:
        cases = classes(seed)
        truth, answers, _ = chosen(cases)
        if len(set(truth) | set(answers)) < 2:
            continue
        found, kappas, table = (measure(name, cases) for name in ("classification", "kappa", "confusion"))
        same(found["accuracy"], sklearn.accuracy_score(truth, answers))
        scores = sklearn.precision_recall_fscore_support(truth, answers, labels=[0, 1, 2], zero_division=math.nan)
        for score, row in zip(("precision", "sensitivity", "F1"), scores, strict=False):
            for name, value in zip(NAMES, row, strict=True):
                same(found[f"{name}: {score}"], value)
        same(found["mean: sensitivity"], np.nanmean(scores[1]))
        same(kappas["kappa"], sklearn.cohen_kappa_score(truth, answers))
        grades = {"labels": [0, 1, 2], "weights": "quadratic"}
        same(kappas["quadratic kappa"], sklearn.cohen_kappa_score(truth, answers, **grades))
        counts = sklearn.confusion_matrix(truth, answers, labels=[0, 1, 2])
        assert list(table.values()) == counts.ravel().tolist()
        for place, name in enumerate(NAMES):
            if (truth == place).any() or (answers == place).any():
                same(kappas[f"{name}: kappa"], sklearn.cohen_kappa_score(truth == place, answers == place))


def test_answers_of_structures_are_those_of_scikit_learn():
    for seed in SEEDS:
        cases = structures(seed)
        kappas, overlap, table = (measure(name, cases) for name in ("kappa", "pooled_overlap", "confusion"))
        assert math.isnan(kappas["kappa"]) and math.isnan(kappas["quadratic kappa"])
        for name, (truth, chances) in zip(NAMES, pooled(cases), strict=True):
            answers = chances > 0.5
            same(kappas[f"{name}: kappa"], sklearn.cohen_kappa_score(truth, answers))
            same(overlap[f"{name}: Dice"], sklearn.f1_score(truth, answers, zero_division=math.nan))
            same(overlap[f"{name}: IoU"], sklearn.jaccard_score(truth, answers))
            counts = sklearn.confusion_matrix(truth, answers, labels=[True, False]).ravel().tolist()
            names = (f"{name} -> predicted {name}", f"{name} -> predicted not {name}")
            assert [table[f"true {row}"] for row in names] == counts[:2]
            assert [table[f"true not {row}"] for row in names] == counts[2:]


@pytest.mark.parametrize("make", [classes, structures])
def test_the_reliability_curve_is_that_of_scikit_learn_and_the_error_lies_between_it_and_the_diagonal(make):
    for seed in SEEDS:
        cases = make(seed)
        rows = calibration.reliability(cases, names=NAMES, options=calibration.Options())
        for name, (truth, chances) in zip(NAMES, pooled(cases), strict=True):
            curve = [row for row in rows if row["label"] == name]
            assert sum(row["places"] for row in curve) == truth.size
            if truth.size:
                shares, means = calibration_curve(truth, chances.astype(np.float64), n_bins=10)
                assert [row["share"] for row in curve] == pytest.approx(shares.tolist())
                assert [row["probability"] for row in curve] == pytest.approx(means.tolist())
        whole = [row for row in rows if row["label"] == "all"]
        gaps = sum(row["places"] * abs(row["probability"] - row["share"]) for row in whole)
        places = sum(row["places"] for row in whole)
        same(measure("calibration", cases)["ECE"], gaps / places if places else math.nan)
        truth, answers, chances = chosen(cases) if make is classes else (np.zeros(0), np.zeros(0), np.zeros(0))
        if make is classes and len(truth):
            shares, means = calibration_curve(truth == answers, chances.max(axis=1).astype(np.float64), n_bins=10)
            assert [row["share"] for row in whole] == pytest.approx(shares.tolist())
            assert [row["probability"] for row in whole] == pytest.approx(means.tolist())


def test_one_class_alone_has_one_curve():
    case = Evidence("1", "1", np.array([[0, 1]], np.uint8), np.array([[0.25, 0.75]], np.float32))
    rows = calibration.reliability([case], names=("x",), options=calibration.Options(bins=2))
    assert rows == [
        {"label": "x", "probability": 0.25, "share": 0.0, "places": 1},
        {"label": "x", "probability": 0.75, "share": 1.0, "places": 1},
    ]


def test_doubt_is_scipys_entropy():
    for seed in SEEDS:
        cases = classes(seed)
        truth, answers, chances = chosen(cases)
        wrong, doubts = truth != answers, stats.entropy(chances.astype(np.float64), axis=1)
        found = measure("uncertainty", cases)
        if 0 < wrong.sum() < len(wrong):
            same(found["errors told by doubt"], sklearn.roc_auc_score(wrong, doubts))
            same(found["entropy of wrong answers"], doubts[wrong].mean())


def volumes(seed: int) -> list[Evidence]:
    """Three kinds of lesions in small volumes, one or another scan without any; a rim that is not known."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(int(rng.integers(1, 6))):
        truth = (rng.random((3, 7, 8, 6)) < rng.choice([0, 0.02, 0.05])).astype(np.uint8)
        chances = (truth + (rng.random(truth.shape) < 0.01)).clip(0, 1) * rng.random(truth.shape)
        truth[:, :, 7] = IGNORE
        cases.append(Evidence(str(number), str(number), truth, np.round(chances, 2).astype(np.float32)))
    return cases


def froc_by_hand(cases: list[Evidence], place: int, rate: float, iou: float) -> float:
    """Every threshold in turn, every candidate against every lesion."""
    scores, lesions = [], 0
    for case in cases:
        known, chances = case.truth[place] != IGNORE, case.probabilities[place]
        truth, count = ndimage.label(case.truth[place] == 1, np.ones((3, 3, 3)))
        candidates, total = ndimage.label((chances > 0.1) & known, np.ones((3, 3, 3)))
        lesions += count
        for number in range(1, total + 1):
            mask = candidates == number
            overlap = {n: (mask & (truth == n)).sum() / (mask | (truth == n)).sum() for n in set(truth[mask]) - {0}}
            scores.append((chances[mask].max(), case.case, {n for n, share in overlap.items() if share > iou}))
    best = 0.0
    for threshold in {score for score, *_ in scores}:
        called = [entry for entry in scores if entry[0] >= threshold]
        if sum(not hits for *_, hits in called) <= rate * len(cases):
            best = max(best, len({(name, hit) for _, name, hits in called for hit in hits}) / max(lesions, 1))
    return best if lesions else math.nan


@pytest.mark.parametrize("iou", [0, 0.1, 0.5])
def test_froc_is_that_of_every_threshold_and_every_candidate(iou):
    defined = 0
    for seed in SEEDS:
        cases = volumes(seed)
        found = measure("froc", cases, iou=iou, threshold=0.1)
        for place, name in enumerate(NAMES):
            expected = [froc_by_hand(cases, place, rate, iou) for rate in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)]
            rows = [value for row, value in found.items() if row.startswith(f"{name}: sensitivity")]
            assert rows == pytest.approx(expected, nan_ok=True)
            same(found[f"{name}: CPM"], np.mean(expected))
            defined += len(set(expected)) > 2
    assert defined > 10


def test_froc_on_paper():
    """Two scans: a lesion at 0.9 and one at 0.4 that a false positive of 0.6 lies above; one that is not found."""
    first = Evidence("1", "1", np.array([[[1, 0, 0, 1, 0]]], np.uint8), np.array([[[0.9, 0, 0, 0.4, 0]]], np.float32))
    second = Evidence("2", "2", np.array([[[0, 0, 1, 0, 0]]], np.uint8), np.array([[[0.6, 0, 0, 0, 0]]], np.float32))
    metric = plugins.find("metrics", "froc")
    found = metric.compute([first, second], names=("x",), options=metric.Options(threshold=0.1))
    at = [found[f"x: sensitivity at {rate} false positives"] for rate in ("0.25", "0.5", "1", "8")]
    assert at == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert found["x: CPM"] == pytest.approx((2 * 1 / 3 + 5 * 2 / 3) / 7)
    unknown = Evidence("3", "3", np.full_like(first.truth, IGNORE), second.probabilities)
    more = [first, second, unknown, unknown]
    assert metric.compute(more, names=("x",), options=metric.Options(threshold=0.1)) == found
    sure = metric.compute([first, second], names=("x",), options=metric.Options())
    assert sure["x: sensitivity at 8 false positives"] == pytest.approx(1 / 3)  # one half and more


def test_froc_refuses_what_has_no_place():
    from medseg.refusal import Refusal

    with pytest.raises(Refusal, match="label maps"):
        measure("froc", classes(1))
