"""Making splits: k folds, a holdout, or a stamped exception. One patient never stands on two sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medseg.case import Case
from medseg.data.split import STAMP, Split, SplitSettings, leaks, load, refuse_fold, validate
from medseg.refusal import Refusal

__all__ = ["STAMP", "Split", "SplitSettings", "leaks", "load", "make", "validate"]


def make(
    cases: Sequence[Case], settings: SplitSettings, *, presence: Mapping[str, frozenset[str]] | None = None
) -> Split:
    """Divide `cases`.

    Folds that the data set prescribes (`Case.fold`) are respected by kfold. `presence` names the labels that occur in
    each case, and is needed for stratify: classes.

    Raises:
        Refusal: no cases, double ids, more folds than patients, a split file that does not fit, ...
    """
    _distinct(cases)
    ids = tuple(sorted(case.id for case in cases))
    if settings.kind == "file":
        return load(_file(settings), cases, settings)
    if settings.kind in ("none", "slice"):
        return Split(ids, ids, STAMP, settings, ((ids, ids),))
    holdout = settings.kind == "holdout"
    parts = [_holdout(cases, settings, presence)] if holdout else _kfold(cases, settings, presence)
    folds = tuple(
        (tuple(case for case in ids if case not in part), tuple(case for case in ids if case in part)) for part in parts
    )
    chosen = settings.fold if settings.kind == "kfold" else 0
    if chosen >= len(folds):
        refuse_fold(chosen, len(folds), "split.fold")
    split = Split(*folds[chosen], "", settings.model_copy(update={"fold": chosen}), folds)
    for train, validation in folds:
        validate(train, validation, cases, where="split")
    return split


def _kfold(
    cases: Sequence[Case], settings: SplitSettings, presence: Mapping[str, frozenset[str]] | None
) -> list[set[str]]:
    """Validation cases of each fold."""
    prescribed = [case for case in cases if case.fold is not None]
    if prescribed:
        if len(prescribed) < len(cases):
            lacking = min(case.id for case in cases if case.fold is None)
            raise Refusal(
                f"case '{lacking}'",
                found="no fold, though other cases have one",
                needed="a fold for every case, or for none",
                remedy="complete the data set's fold column, or leave it out",
            )
        numbers = sorted({case.fold for case in prescribed if case.fold is not None})
        return [{case.id for case in cases if case.fold == number} for number in numbers]
    patients = _patients(cases)
    if settings.folds > len(patients):
        raise Refusal(
            "split.folds",
            found=f"{settings.folds} folds for {len(patients)} patients",
            needed="at least one patient for each fold",
            remedy=f"set split.folds to {len(patients)} or less"
            if len(patients) > 1
            else "use kind: none, or add patients",
        )
    parts: list[set[str]] = [set() for _ in range(settings.folds)]
    for position, patient in enumerate(_ordered(cases, patients, settings, presence)):
        parts[position % settings.folds] |= set(patients[patient])
    return parts


def _holdout(cases: Sequence[Case], settings: SplitSettings, presence: Mapping[str, frozenset[str]] | None) -> set[str]:
    """Validation cases: every so-manieth patient of the (stratified) order, at least one and never all."""
    patients = _patients(cases)
    if len(patients) < 2:
        raise Refusal(
            "split.kind",
            found="holdout with one patient",
            needed="two patients or more",
            remedy="use kind: none, or add patients",
        )
    count = min(max(1, round(settings.validation * len(patients))), len(patients) - 1)
    order = _ordered(cases, patients, settings, presence)
    picked = {order[int(step * len(order) / count)] for step in range(count)}
    return {case for patient in picked for case in patients[patient]}


def _ordered(
    cases: Sequence[Case],
    patients: Mapping[str, list[str]],
    settings: SplitSettings,
    presence: Mapping[str, frozenset[str]] | None,
) -> list[str]:
    """Patients shuffled, then brought together by stratum, so that dealing them out in turn spreads each stratum."""
    shuffled = sorted(patients)
    np.random.Generator(np.random.PCG64(settings.seed)).shuffle(shuffled)
    if settings.stratify == "none":
        return shuffled
    stratum: dict[str, tuple[str, ...]] = {}
    if settings.stratify == "centre":
        for case in sorted(cases, key=lambda case: case.id):
            stratum[case.patient] = tuple(sorted({*stratum.get(case.patient, ()), case.centre}))
    else:
        lacking = sorted(case.id for case in cases if case.id not in (presence or {}))
        if presence is None or lacking:
            raise Refusal(
                "split.stratify",
                found="classes, without knowledge of which labels occur in "
                + (f"case '{lacking[0]}'" if lacking else "the cases"),
                needed="every label map to be readable",
                remedy="run the data check, or set split.stratify to none",
            )
        stratum = {
            patient: tuple(sorted(frozenset().union(*(presence[case] for case in ids))))
            for patient, ids in patients.items()
        }
    size = Counter(stratum.values())
    return sorted(shuffled, key=lambda patient: (size[stratum[patient]], stratum[patient]))


def _patients(cases: Sequence[Case]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        found[case.patient].append(case.id)
    return found


def _distinct(cases: Sequence[Case]) -> None:
    counts = Counter(case.id for case in cases)
    double = sorted(name for name, count in counts.items() if count > 1)
    if double or not cases:
        raise Refusal(
            "cases",
            found=f"case id '{double[0]}' {counts[double[0]]} times" if double else "no cases",
            needed="cases with distinct ids",
            remedy="correct the data set",
        )


def _file(settings: SplitSettings) -> Path:
    if settings.file is None:
        raise Refusal(
            "split.file", found="nothing", needed="a file for kind: file", remedy="name one, or choose another kind"
        )
    return settings.file
