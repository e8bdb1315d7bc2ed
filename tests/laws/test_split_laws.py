"""Laws of splitting, on random case lists."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from medseg.case import Case
from medseg.data.splits import STAMP, SplitSettings, make

LABELS = st.frozensets(st.sampled_from(["liver", "spleen", "tumour"]))


@st.composite
def case_lists(draw: st.DrawFn) -> list[Case]:
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=14))
    return [
        Case(f"c{patient}-{scan}", f"p{patient}", {"image": Path("x")}, centre=draw(st.sampled_from("ABC")))
        for patient, count in enumerate(sizes)
        for scan in range(count)
    ]


@st.composite
def settings_for(draw: st.DrawFn, cases: list[Case]) -> SplitSettings:
    return SplitSettings(
        kind=draw(st.sampled_from(["kfold", "holdout"])),
        folds=draw(st.integers(2, max(2, len({case.patient for case in cases})))),
        validation=draw(st.floats(0.05, 0.95)),
        stratify=draw(st.sampled_from(["none", "centre", "classes"])),
        seed=draw(st.integers(0, 5)),
    )


def presence_of(cases: list[Case]) -> dict[str, frozenset[str]]:
    return {case.id: frozenset({"liver", case.centre}) for case in cases}


@given(st.data())
def test_no_patient_on_two_sides_and_every_case_once(data: st.DataObject) -> None:
    cases = data.draw(case_lists())
    settings = data.draw(settings_for(cases))
    patient = {case.id: case.patient for case in cases}
    split = make(cases, settings, presence=presence_of(cases))
    for train, validation in split.folds:
        assert train and validation
        assert sorted(train + validation) == sorted(patient)
        assert not {patient[case] for case in train} & {patient[case] for case in validation}
    assert split.stamp == ""
    if settings.kind == "kfold":
        validated = [case for _, validation in split.folds for case in validation]
        assert sorted(validated) == sorted(patient), "over the folds, every case validates once"


@given(st.data())
def test_depends_on_the_seed_and_not_on_the_order(data: st.DataObject) -> None:
    cases = data.draw(case_lists())
    settings = data.draw(settings_for(cases))
    presence = presence_of(cases)
    first = make(cases, settings, presence=presence)
    assert make(cases, settings, presence=presence) == first
    assert make(data.draw(st.permutations(cases)), settings, presence=presence) == first


@given(st.data())
def test_folds_hold_equally_many_patients(data: st.DataObject) -> None:
    cases = data.draw(case_lists())
    settings = data.draw(settings_for(cases))
    assume(settings.kind == "kfold")
    patient = {case.id: case.patient for case in cases}
    split = make(cases, settings, presence=presence_of(cases))
    counts = [len({patient[case] for case in validation}) for _, validation in split.folds]
    assert max(counts) - min(counts) <= 1


@given(st.lists(LABELS, min_size=4, max_size=20), st.integers(2, 4), st.integers(0, 3))
def test_stratified_folds_share_each_stratum(presences: list[frozenset[str]], folds: int, seed: int) -> None:
    """A stratum's patients are dealt out in turn, so that no two folds differ by more than one of them."""
    cases = [Case(f"c{n}", f"p{n}", {}) for n in range(len(presences))]
    presence = dict(zip((case.id for case in cases), presences, strict=True))
    split = make(cases, SplitSettings(folds=folds, stratify="classes", seed=seed), presence=presence)
    counts: dict[frozenset[str], list[int]] = defaultdict(lambda: [0] * folds)
    for fold, (_, validation) in enumerate(split.folds):
        for case in validation:
            counts[presence[case]][fold] += 1
    assert all(max(count) - min(count) <= 1 for count in counts.values())


@given(case_lists(), st.sampled_from(["none", "slice"]))
def test_exceptions_are_stamped(cases: list[Case], kind: str) -> None:
    split = make(cases, SplitSettings(kind=kind))
    assert split.stamp == STAMP
    assert split.train == split.validation == tuple(sorted(case.id for case in cases))
