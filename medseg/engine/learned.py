"""Whom weights have learned from: the patients of their training, and of the trainings that they began with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.case import Case, CaseSet, person
from medseg.config import Recipe
from medseg.data.splits import STAMP, Split
from medseg.engine import gather
from medseg.engine.run import Run
from medseg.refusal import Refusal

BEGUN = f"{STAMP}: init.weights have learned from"


@dataclass(frozen=True)
class Learned:
    """Training cases of one run or of several.

    Attributes:
        cases: their ids.
        people: their patients, as `person` writes them; none of a run whose data are not here any more.
        by_name: whether the patients of some are not known, so that names of cases alone can be compared.
    """

    cases: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()
    by_name: bool = False

    def __or__(self, other: Learned) -> Learned:
        return Learned(self.cases | other.cases, self.people | other.people, self.by_name or other.by_name)

    def met(self, cases: Iterable[Case]) -> frozenset[str]:
        """The patients of these cases who were among them, or one of whose cases has the name of one that was."""
        cases = tuple(cases)
        people = self.people | {person(case.patient) for case in cases if case.id in self.cases}
        return frozenset(case.patient for case in cases if person(case.patient) in people)


def by(run: Run) -> Learned:
    """What a run has learned from, with what it began with as far as those run folders are here."""
    return _chain(run, frozenset())


def before(recipe: Recipe) -> Learned:
    """What the weights have learned from that `recipe.init` names; nothing where no run folder says."""
    return _beginning(recipe, frozenset())


def stamped(split: Split, cases: CaseSet, recipe: Recipe) -> Split:
    """The split, stamped if the weights that training begins with have learned from patients that validate."""
    known, side = before(recipe), set(split.validation)
    met = sorted(known.met(cases.cases) & {case.patient for case in cases.cases if case.id in side})
    some = ", ".join(met[:3]) + ", ..." * (len(met) > 3)
    told = f"{BEGUN} {len(met)} of the patients that validate, by their names ({some})" if met else ""
    other = "" if split.stamp.startswith(BEGUN) else split.stamp  # that of another fold says nothing about this one
    return replace(split, stamp=other or told)


def _chain(run: Run, seen: frozenset[Path]) -> Learned:
    folder = run.folder.resolve()
    if folder in seen:  # a run that began with one that was trained anew from it
        return Learned()
    own = run.learned_from
    try:
        people = frozenset(person(case.patient) for case in gather.cases(run.recipe).cases if case.id in own)
    except Refusal:
        people = frozenset()
    return Learned(own, people, bool(own) and not people) | _beginning(run.recipe, seen | {folder})


def _beginning(recipe: Recipe, seen: frozenset[Path]) -> Learned:
    if recipe.init is None:
        return Learned()
    path = recipe.init.weights
    folder = path.parent if path.suffix == ".safetensors" else path
    return _chain(Run(folder), seen) if (folder / "recipe.yaml").is_file() else Learned()
