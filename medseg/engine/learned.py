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
        people: their patients, as `person` writes them, as far as their data are here.
        by_name: whether the patients of some are not known: names of cases alone can be compared then, or nothing.
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
    """What the weights have learned from that `recipe.init` names, as far as a run folder, or one zipped, says so.

    Raises:
        Refusal: there is no such run.
    """
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
        found = [case for case in gather.cases(run.recipe).cases if case.id in own]
    except (Refusal, OSError):  # somebody else's data, which may be gone or closed
        found = []
    known = Learned(own, frozenset(person(case.patient) for case in found), not own or len(found) < len(own))
    try:
        return known | _beginning(run.recipe, seen | {folder})
    except (Refusal, OSError):
        return known | Learned(by_name=True)


def _beginning(recipe: Recipe, seen: frozenset[Path]) -> Learned:
    if recipe.init is None:
        return Learned()
    path = recipe.init.weights
    if path.suffix == ".safetensors" and not (path.parent / "recipe.yaml").is_file():
        return Learned(by_name=True)
    return _chain(Run(path.parent) if path.suffix == ".safetensors" else Run.open(path), seen)
