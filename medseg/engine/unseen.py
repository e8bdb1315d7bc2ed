"""Which cases a run is scored on: those that its own training held out, or all of another data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from medseg import config
from medseg.case import CaseSet
from medseg.config import Chosen
from medseg.data import splits
from medseg.data.split import Split
from medseg.engine import checkpoint, gather, learned
from medseg.engine.evaluate import metrics_of
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.refusal import Refusal

CHOSEN = (
    "The best weights of the training were chosen by these same cases, so the numbers lie on the high side: a set that "
    "no training has seen says more."
)
ELSEWHERE = "Other cases than the run's own: none is of a patient that it was trained on."
BY_NAME = (
    "Other cases than the run's own, as far as names tell: of some that it was trained on, or that its first weights "
    "were, nothing says here whose they are, and patients could not be compared."
)
OF_DATA = ("dataset", "labels", "paint")
"""Parts of a recipe that say which cases are scored, and what their label maps mean."""


class Sample(NamedTuple):
    """What to score a run on: the validation side of `split`, whose label maps `cases.labels` explains."""

    cases: CaseSet
    split: Split
    metrics: tuple[Chosen, ...]
    note: str


def sample(run: Run, changes: Sequence[str]) -> Sample:
    """The run's held-out cases, or all of another data set if `changes` name one.

    Raises:
        Refusal: what is changed is neither data nor metrics nor inference.
    """
    # Labels that were brought in with weights number somebody else's files.
    imported = bool(changes) and "imported" in checkpoint.load(run.path("weights.safetensors"))[1]
    recipe = config.load(run.path("recipe.yaml"), [*(["labels=null", "paint=null"] if imported else []), *changes])
    other = [key for key in type(recipe).model_fields if getattr(recipe, key) != getattr(run.recipe, key)]
    fixed = [key for key in other if key not in (*OF_DATA, "metrics", "predict")]
    if fixed:
        raise Refusal(
            run.folder,
            found=f"changes of {', '.join(fixed)}",
            needed=f"changes of {', '.join(OF_DATA)}, metrics, predict alone: the rest makes the run what it is",
            remedy="leave them out, or train another run",
        )
    return _elsewhere(run, recipe) if set(other) & set(OF_DATA) else _held_out(run, recipe)


def _held_out(run: Run, recipe: config.Recipe) -> Sample:
    """The validation cases of the run's own data."""
    if not run.path("split.json").exists():
        raise Refusal(
            run.folder,
            found="no split.json, which exported and imported runs do not have",
            needed="to know which cases were held out",
            remedy="evaluate the run folder that was trained, or name other data, such as "
            "'dataset={name: folder, root: data/x}'",
        )
    cases = gather.cases(run.recipe)
    split = splits.load(run.path("split.json"), cases.cases)
    return Sample(replace(cases, labels=run.table), split, metrics_of(recipe.metrics, run.table), CHOSEN)


def _elsewhere(run: Run, recipe: config.Recipe) -> Sample:
    """All cases of another data set, named by `recipe`.

    The numbers of its label maps mean what the data set says, or the recipe that the run was trained by.

    Raises:
        Refusal: other labels or channels than the network's, or a case that it was trained on.
    """
    cases, table, plan = gather.cases(recipe), run.table, run.plan
    for what, found, needed in (
        ("labels", _said(cases.labels), _said(table)),
        # a single channel may have any name
        ("channels", ", ".join(cases.channels), ", ".join(plan.channels) if len(plan.channels) > 1 else None),
    ):
        if needed is not None and found != needed:
            raise Refusal(
                f"data set {recipe.dataset.name}",
                found=f"{what} {found}",
                needed=f"those of the network: {needed}",
                remedy="name a data set, or labels=..., with the same ones in the same order",
            )
    learned_from = learned.by(run)
    met = learned_from.met(cases.cases)
    known = sorted(case.id for case in cases.cases if case.patient in met)
    if known:
        raise Refusal(
            f"data set {recipe.dataset.name}",
            found=f"{len(known)} cases, or cases of patients, that the run was trained on, or the weights that it "
            f"began with, such as {known[0]}",
            needed="patients that it has not seen",
            remedy="choose another part or data set; rename cases and patients that are others in truth",
        )
    everything = Split((), tuple(case.id for case in cases.cases))
    note = BY_NAME if learned_from.by_name else ELSEWHERE
    return Sample(cases, everything, metrics_of(recipe.metrics, table), note)


def _said(table: LabelTable) -> str:
    """What must agree for two tables to stand for one network's answers."""
    how = "exclude each other" if table.exclusive else "may overlap"
    return f"{', '.join(table.names)} ({how}, of each {table.unit})"
