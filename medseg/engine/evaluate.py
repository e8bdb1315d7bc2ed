"""Label maps, or classes, against the truth, on the scan's own grid: per label and case, and over all."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medseg import config, progress
from medseg.boundary import parsing
from medseg.config import Chosen
from medseg.cores import available_cores
from medseg.engine import assess, pairs, summary, unknown
from medseg.engine.class_table import Classes
from medseg.engine.inputs import Material, Pairing
from medseg.engine.load import RESAMPLED, load_target
from medseg.engine.parallel import for_each
from medseg.engine.score import Score
from medseg.engine.scores import Scores
from medseg.geometry import axis_map
from medseg.labels import LabelTable
from medseg.pair import Pair
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume

WORTH_S = 10
"""Work from which processes are started for it."""


def score(
    truth: Volume, predicted: np.ndarray, *, table: LabelTable, metrics: Sequence[Chosen], case: str, patient: str
) -> list[Score]:
    """Score one case.

    Args:
        truth: label map (1, I, J, K) with the numbers that training files use.
        predicted: network target (1 or R, I, J, K) on the same grid.
    """
    target = truth.with_array(table.encode(truth.array[0]))
    pairs_of_case = pairs.of_case(target, predicted, table)
    return [
        Score(case, patient, pair.label, pairs.measure(pair, metrics), pair.voxels[:2], _voxel_ml(pair))
        for pair in pairs_of_case
    ]


def _voxel_ml(pair: Pair) -> float:
    return pair.voxel_ml if pair.unit == "mm" else math.nan


def of_pairs(
    material: Material,
    table: LabelTable,
    metrics: Sequence[Chosen] = (),
    *,
    by: Sequence[str] = (),
    resample: bool = False,
    workers: int = 0,
) -> Scores:
    """Score predicted against true label maps. A case that cannot be scored is listed, and does not end the others.

    Args:
        metrics: none: those that suit the labels.
        resample: bring predictions on another grid onto that of the truth, each voxel taking the nearest label.
        workers: processes; 0: as many as cores where they are worth their start. The numbers are the same for any.

    Raises:
        Refusal: no case could be scored; a metric that needs probabilities, or one twice; a column of no case.
    """
    chosen = [metric for metric in metrics_of(metrics, table) if not assess.over_set(metric)]
    if len(chosen) < len(metrics):
        raise Refusal(
            "metrics",
            found=", ".join(metric.name for metric in metrics if assess.over_set(metric)),
            needed="metrics of masks: these look at probabilities, which label maps do not hold",
            remedy="leave them out, or evaluate the run",
        )
    facts = {pair.case: pair.facts for pair in material.pairs}
    summary.refuse_unknown(by, facts)
    if not table.exclusive:
        _refuse_ambiguous(table, material.pairs[0].predicted.parent)
    work = partial(_compared, table=table, metrics=chosen, resample=resample)
    found = _all(work, [(pair.case, pair) for pair in material.pairs], workers)
    refused = {case: one for case, one in found.items() if isinstance(one, Refusal)}
    if len(refused) == len(found):
        raise _nothing(refused)
    good = {case: one for case, one in found.items() if not isinstance(one, Refusal)}
    return Scores(
        tuple(row for one in good.values() for row in one.rows),
        pairs.numbers(chosen),
        missing=(*material.missing, *(f"{case}: {refusal}" for case, refusal in refused.items())),
        notes=(*material.notes, *(f"{case}: {one.note}" for case, one in good.items() if one.note)),
        facts=facts,
        by=tuple(by),
        truths={case: one.truth for case, one in good.items()},
        metrics=settings(chosen),
    )


def of_classes(classes: Classes, metrics: Sequence[Chosen] = (), *, by: Sequence[str] = ()) -> Scores:
    """Score probabilities of classes over the whole set.

    Raises:
        Refusal: a metric that needs masks, or one twice; a column that no case has.
    """
    chosen = metrics_of(metrics, classes.table)
    masks = [metric.name for metric in chosen if not assess.over_set(metric)]
    if masks:
        raise Refusal(
            "metrics",
            found=", ".join(masks),
            needed="metrics over a whole set: these compare masks, of which a table of probabilities holds none",
            remedy="leave them out",
        )
    pooled = tuple(assess.measure(classes.evidence, chosen, classes.table, by=by))
    truths = {one.case: digest(one.truth) for one in classes.evidence}
    notes = (*classes.notes, *assess.one_sided(classes.evidence, classes.table))
    return Scores(
        (),
        {},
        pooled=pooled,
        evidence=classes.evidence,
        reliability=assess.reliability(classes.evidence, chosen, classes.table),
        notes=notes,
        by=tuple(by),
        truths=truths,
        metrics=settings(chosen),
    )


def metrics_of(chosen: Sequence[Chosen], table: LabelTable) -> tuple[Chosen, ...]:
    """The metrics chosen, or those that suit the labels.

    Raises:
        Refusal: two give a number of the same name; an option for a label that there is not.
    """
    metrics = tuple(chosen) or tuple(config.choose("metrics", name) for name in config.DEFAULT_METRICS[table.unit])
    names = [name for one in metrics for name in _answers(one)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Refusal(
            "metrics",
            found=f"two that give a number '{twice[0]}'",
            needed="a name for each number: a metric can be taken once",
            remedy="leave one of them out, or evaluate twice into two folders",
        )
    for one in metrics:
        odd = set(getattr(one.options, "tolerances_mm", ())) - set(table.names)
        if odd:  # a slip of the pen, for which another tolerance would be taken in silence
            raise Refusal(
                f"metrics: {one.name}",
                found=f"tolerances_mm of {', '.join(sorted(odd))}",
                needed=f"names of labels: {', '.join(table.names)}",
                remedy="correct it",
            )
    return metrics


def settings(metrics: Sequence[Chosen]) -> dict[str, dict[str, Any]]:
    """Of each number of masks, and of each metric over a whole set, the metric that made it and all its options."""
    return {name: one.dump() for one in metrics for name in _answers(one)}


def _answers(metric: Chosen) -> Iterable[str]:
    return [metric.name] if assess.over_set(metric) else pairs.numbers([metric])


def metrics_named(changes: Sequence[str]) -> list[Chosen]:
    """From `metrics=[dice, {name: nsd, tolerance_mm: 2}]`, as a recipe has it; none where there is no such change.

    Raises:
        Refusal: another key, or no metrics.
    """
    if not changes:
        return []
    key, _, value = changes[-1].partition("=")
    if len(changes) > 1 or key != "metrics":
        raise Refusal(
            " ".join(changes), found=f"{key}=...", needed="metrics=[...] alone: there is no run", remedy="correct it"
        )
    with parsing(Path("metrics"), needed="a list of metrics", remedy="write it as metrics=[dice, hd95]"):
        entries = yaml.safe_load(value)
    return [config.choose("metrics", entry) for entry in (entries if isinstance(entries, list) else [entries])]


def _all(
    work: Callable[[Pairing], _Compared | Refusal], items: Sequence[tuple[str, Pairing]], workers: int
) -> dict[str, _Compared | Refusal]:
    """By case. The first is scored here: how long it takes says whether processes, which take seconds to start, are
    worth it where their number is left open."""
    with progress.counting("scoring cases", total=len(items)) as done:
        started = time.perf_counter()
        first = for_each(work, items[:1], workers=1, progress=lambda *_: done(), doing="scoring")
        left = (time.perf_counter() - started) * (len(items) - 1)
        workers = workers or (available_cores() if left > WORTH_S else 1)
        return first | for_each(work, items[1:], workers=workers, progress=lambda *_: done(), doing="scoring")


@dataclass(frozen=True)
class _Compared:
    """A case that was scored: its rows, the fingerprint of its truth, and a remark on how, or ""."""

    rows: list[Score]
    truth: str
    note: str


def _compared(pair: Pairing, *, table: LabelTable, metrics: Sequence[Chosen], resample: bool) -> _Compared | Refusal:
    try:
        grid = read(pair.truth)
        truth = load_target(pair.truth, grid, lambda path: grid)
        found = load_target(pair.predicted, truth, read, resample=resample)
        for path, volume in ((pair.truth, truth), (pair.predicted, found)):
            unknown.refuse(path, volume, table, remedy="correct the file")
        target = table.encode(found.array[0])
        rows = score(truth, target, table=table, metrics=metrics, case=pair.case, patient=pair.patient)
    except Refusal as refusal:
        return refusal
    grids = found.source.notes.get(RESAMPLED)
    note = f"the prediction was resampled onto the grid of the truth (nearest neighbour): {grids}" if grids else ""
    return _Compared(rows, fingerprint(truth, table), note)


def fingerprint(truth: Volume, table: LabelTable) -> str:
    """sha256 of a label map (1, I, J, K) as the table understands it, whatever the order of its axes."""
    array = truth.array if truth.unit == "px" else axis_map(truth.affine, "RAS").apply(truth.array)
    return digest(table.structures(array[0]))


def digest(truth: np.ndarray) -> str:
    """sha256 of a shape and its values."""
    found = hashlib.sha256(str(truth.shape).encode())
    found.update(np.ascontiguousarray(truth).data)
    return found.hexdigest()


def _nothing(refused: dict[str, Refusal]) -> Refusal:
    if len(refused) == 1:
        return next(iter(refused.values()))
    listed = "".join(f"\n  {case}: {refusal}" for case, refusal in refused.items())
    return Refusal(
        "cases",
        found=f"none of {len(refused)} that could be scored:{listed}\n",
        needed="one at least",
        remedy="do what is said for each",
    )


def _refuse_ambiguous(table: LabelTable, where: Path) -> None:
    """A painted map shows only the uppermost region of each voxel. The others come back if the number that a region is
    painted with belongs to it, and to none of those painted over it."""
    order = [table.labels[place] for place in table.painting_order]
    for place, label in enumerate(order):
        above = order[place + 1 :]
        if label.index not in label.members or any(label.index in other.members for other in above):
            raise Refusal(
                where,
                found=f"regions painted so that {label.index} does not say '{label.name}' and what lies below it",
                needed="numbers that lie in the region and in none that is painted later",
                remedy="give `paint` in the recipe or labels.yaml, such as [2, 1, 4] for WT [1, 2, 4], TC [1, 4], "
                "ET [4]; or evaluate the run folder, which needs no painted maps",
            )
