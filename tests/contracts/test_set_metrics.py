"""What every metric over a whole set of cases keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from medseg import config, plugins
from medseg.labels import IGNORE
from medseg.prediction import Evidence
from medseg.statistics import Pool, Resample

SETS = tuple(name for name in plugins.names("metrics") if hasattr(plugins.find("metrics", name), "OVER"))
PICTURES_ONLY = ("artery_vein", "vessel_paths")
LABELS = ("first", "second", "third")
LESIONS_ONLY = ("froc",)
KINDS = ("classes", "pictures", "lesions")
EACH = pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in SETS
        for kind in KINDS
        if (kind == "lesions") == (name in LESIONS_ONLY) and (kind != "classes" or name not in PICTURES_ONLY)
    ],
)


def truths(kind: str) -> list[np.ndarray]:
    """Of nine cases: images of one of three classes; pictures with three structures, each in half of all places; or
    volumes with a few small lesions of three kinds."""
    if kind == "classes":
        return [np.eye(3, dtype=np.uint8)[:, [place % 3]] for place in range(9)]
    shape, density = ((6, 7), 0.5) if kind == "pictures" else ((6, 7, 5), 0.03)
    return list((np.random.default_rng(4).random((9, 3, *shape)) < density).astype(np.uint8))


def perfect(truth: np.ndarray) -> np.ndarray:
    """Probabilities that are right; those of a class add up to one with the others."""
    return np.where(truth == 1, 0.9, 0.05 if truth.shape[1:] == (1,) else 0.1).astype(np.float32)


def reverse(truth: np.ndarray) -> np.ndarray:
    """Probabilities that are wrong everywhere."""
    return np.roll(perfect(truth), 1, axis=0) if truth.shape[1:] == (1,) else 1 - perfect(truth)


def random(truth: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng(int(truth.sum()))
    weights = generator.random(truth.shape).astype(np.float32)
    if truth.ndim == 4:  # of volumes: at lesions, and here and there
        return weights * ((truth == 1) | (generator.random(truth.shape) < 0.02))
    return weights / weights.sum(axis=0) if truth.shape[1:] == (1,) else weights


def cases(kind: str, answer=random) -> list[Evidence]:
    return [
        Evidence(f"case {place}", f"patient {place // 2}", truth, answer(truth))
        for place, truth in enumerate(truths(kind))
    ]


def compute(name: str, some) -> dict[str, float]:
    metric = plugins.find("metrics", name)
    return metric.compute(some, names=LABELS, options=metric.Options())


def higher_is_better(name: str, row: str) -> bool:
    if name == "confusion":
        true, _, predicted = row.removeprefix("true ").partition(" -> predicted ")
        return true == predicted
    return plugins.find("metrics", name).HIGHER_IS_BETTER and not row.endswith("infeasible")


def test_metrics_of_masks_are_not_taken_for_metrics_of_sets():
    assert not set(SETS) & {"dice", "iou", "volume", "hd95", "nsd", "precision", "sensitivity"}
    assert {
        "auroc",
        "auprc",
        "calibration",
        "classification",
        "confusion",
        "pooled_overlap",
        "screening",
        "uncertainty",
    } <= set(SETS)
    assert all(config.choose("metrics", name).name == name for name in SETS)


@EACH
def test_a_perfect_answer_is_better_than_a_reversed_one(name, kind):
    right, wrong = compute(name, cases(kind, perfect)), compute(name, cases(kind, reverse))
    assert list(right) == list(wrong)
    judged = [row for row in right if not (name == "screening" and ("threshold for" in row or "value of" in row))]
    signs = [
        (right[row] - wrong[row]) * (1 if higher_is_better(name, row) else -1)
        for row in judged
        if np.isfinite([right[row], wrong[row]]).all()
    ]
    assert len(signs) >= len(judged) / 2 and min(signs) >= 0 and max(signs) > 0


@EACH
def test_rows_do_not_depend_on_what_is_there(name, kind):
    """One label nowhere, one everywhere, nothing known, no case: numbers or nan, under the same names."""
    some = cases(kind)
    rows = list(compute(name, some))
    for case in some:
        case.truth[:2] = np.array([0, 1]).reshape(2, *[1] * (case.truth.ndim - 1))
    one_sided = compute(name, some)
    for case in some:
        case.truth[:] = IGNORE
    for found in (one_sided, compute(name, some)):
        assert all(isinstance(value, float) and not np.isinf(value) for value in found.values())
    # Of no case it cannot be known whether classes exclude each other, which is all that confusion's names depend on.
    if name != "confusion":
        assert list(one_sided) == list(compute(name, some)) == list(compute(name, [])) == rows
    assert all(isinstance(value, float) for value in compute(name, []).values())


@EACH
def test_what_is_not_known_is_left_out(name, kind):
    plain, unknown = cases(kind), cases(kind)
    for place in (2, 7):
        unknown[place].truth[:] = IGNORE
    if kind != "classes":
        for case in [*plain, *unknown]:
            case.truth[:, :, 5] = IGNORE  # outside the field of view
    kept = compute(name, [case for place, case in enumerate(plain) if place not in (2, 7)])
    assert compute(name, unknown) == pytest.approx(kept, nan_ok=True)
    for case in unknown:
        case.probabilities[:, (case.truth == IGNORE).all(axis=0)] = 1 / 3
    assert compute(name, unknown) == pytest.approx(kept, nan_ok=True)


@EACH
def test_the_order_of_cases_has_no_influence_and_nothing_is_changed(name, kind):
    some, untouched = cases(kind), cases(kind)
    assert compute(name, some[::-1]) == pytest.approx(compute(name, some), nan_ok=True)
    for case, same in zip(some, untouched, strict=True):
        assert (case.truth == same.truth).all() and (case.probabilities == same.probabilities).all()


@EACH
def test_cases_may_come_up_several_times(name, kind):
    some, picks = cases(kind), np.array([3, 3, 0, 8, 5, 3, 1])
    drawn = compute(name, Resample(Pool(some), picks))
    assert drawn == pytest.approx(compute(name, [some[pick] for pick in picks]), nan_ok=True)
