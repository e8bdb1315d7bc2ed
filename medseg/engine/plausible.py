"""Quality control without truth, of a run: what its training cases were like, and what is to be thought of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg import quality, traits
from medseg.engine.fingerprint import Fingerprint
from medseg.engine.run import PLAUSIBLE, Run
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.quality import Reference
from medseg.transforms.prepare import Undo
from medseg.usual import CERTAINTY, DISAGREEMENT

FINE = 0.7
"""Dice from which a label of a validation case is fine."""
PASSING = 90
"""Percentile of the scores of fine validation cases: `look` lies no lower."""
HIGHEST_LOOK = 0.9


@dataclass(frozen=True)
class Known:
    """A validation case.

    Attributes:
        traits: of its prediction, with the certainty.
        dice: of each label that is in the truth or in the prediction.
    """

    traits: traits.Traits
    dice: Mapping[str, float]


def learned(seen: Fingerprint, table: LabelTable) -> Reference | None:
    """What the training cases are like; None for classes, or where they were not looked at."""
    cases = [case for case in seen.cases.values() if case.traits]
    return quality.learn([case.traits for case in cases], cases[0].unit, table.names) if cases else None


def settled(reference: Reference, cases: Sequence[Known]) -> Reference:
    """The same with what validation cases say: what a network makes of labels, how certain it is of those that are
    right, and above which score fewer than a tenth of the fine cases are. Each of these is judged by the others."""
    fine = [case for case in cases if case.dice and min(case.dice.values()) >= FINE]
    scores = []
    for case in fine:
        others = quality.widened(reference, _good(reference, [one for one in cases if one is not case]))
        score = quality.judge(case.traits, others, tuple(reference.labels)).score
        scores += [] if score is None else [score]
    look = reference.look
    if len(scores) >= quality.FEW:
        look = round(min(HIGHEST_LOOK, max(quality.LOOK, float(np.percentile(scores, PASSING)))), 4)
    widened = quality.widened(reference, _good(reference, cases))
    return widened.model_copy(update={"look": look, "validated": len(cases)})


def _good(reference: Reference, cases: Sequence[Known]) -> dict[str, list[Mapping[str, float]]]:
    """By label, its traits where its Dice was fine."""
    good: dict[str, list[Mapping[str, float]]] = {name: [] for name in reference.labels}
    for case in cases:
        found = quality.placed(case.traits, reference)
        for name, dice in case.dice.items():
            if dice >= FINE and name in found:
                good[name].append(found[name])
    return good


def of_run(run: Run) -> Reference | None:
    """What the run folder says of plausibility; None where it says nothing."""
    return run.parsed(PLAUSIBLE, Reference) if run.path(PLAUSIBLE).exists() else None


def footprint(undo: Undo, channels: int) -> int:
    """Bytes that it takes to judge a result."""
    return traits.footprint(undo.shape, np.linalg.norm(np.array(undo.affine)[:3, :3], axis=0), channels)


def measured(prediction: Prediction, certainty: Sequence[float]) -> dict[str, dict[str, float]]:
    """Traits of a result, and of each label in the table's order what its probabilities promise; empty where nobody
    looked."""
    if prediction.scan is None:
        return {}
    maps = {} if prediction.disagreement is None else {DISAGREEMENT: prediction.disagreement}
    found = traits.measure(prediction.target.array, prediction.table, prediction.scan, maps)
    for name, value in zip(prediction.table.names, certainty, strict=False):
        if name in found and np.isfinite(value):
            found[name][CERTAINTY] = float(value)
    return found


def judged(
    prediction: Prediction, reference: Reference | None, certainty: Sequence[float], wanted: Sequence[str]
) -> Prediction:
    """The result with what is to be thought of it, where there is something to judge by.

    Args:
        wanted: labels that were asked for; empty: all.
    """
    if reference is None or prediction.scan is None or (prediction.scan.unit == "mm") != (reference.unit == "mm"):
        return prediction
    names = [name for name in prediction.table.names if name in reference.labels and (not wanted or name in wanted)]
    if not names:
        return prediction
    return replace(prediction, quality=quality.judge(measured(prediction, certainty), reference, names))
