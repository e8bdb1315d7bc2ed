"""What a recipe's data amounts to: cases, split, plan and prepared arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medseg import progress
from medseg.case import CaseSet
from medseg.config import Recipe
from medseg.cores import available_cores
from medseg.data import splits
from medseg.data.cache import label_voxels
from medseg.data.splits import Split
from medseg.engine import copies, curriculum, gather, learned, networks, plausible, rehearsal
from medseg.engine.check import examine
from medseg.engine.fingerprint import fingerprint
from medseg.engine.load import Read
from medseg.engine.memory import GIB
from medseg.engine.planning import make_plan
from medseg.engine.prepare import prepare
from medseg.engine.run import PLAUSIBLE, Run
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.readers import read
from medseg.refusal import Refusal

Announce = Callable[[str], None]
OVERLAPS = ("boundary", "cldice", "dice", "dice_ce", "tversky")
"""Losses that measure shapes, which classes of images have not."""


@dataclass(frozen=True)
class Material:
    """What a recipe's data amounts to: cases, split, plan and prepared arrays."""

    cases: CaseSet
    split: Split
    plan: Plan
    prepared: dict[str, Path]
    unseen: tuple[str, ...] = ()
    """Labels that no training case has."""

    @property
    def digest(self) -> str:
        """Of the prepared cases, whose names hang on the content of their files and on how they were prepared."""
        used = sorted({self.prepared[case].name for case in (*self.split.train, *self.split.validation)})
        return hashlib.sha256("\n".join(used).encode()).hexdigest()


def assemble(recipe: Recipe, folder: Path | None, *, announce: Announce) -> Material:
    """Cases, split, plan and prepared arrays of a recipe. With a run folder, what was decided there before is kept,
    so that a resumed run has the same split and plan; without one, nothing is written but the cache."""
    cases = suitable(recipe)
    split = divide(recipe, cases, folder)
    if split.stamp:
        announce(f"split: {split.stamp}")
    used = {*split.train, *split.validation}
    training = CaseSet(tuple(c for c in cases.cases if c.id in set(split.train)), cases.channels, cases.labels)
    wanted = CaseSet(tuple(c for c in cases.cases if c.id in used), cases.channels, cases.labels)
    plan = decide(recipe, training, folder, announce)
    curriculum.check(recipe, plan, out_channels=cases.labels.network_channels)
    with progress.counting("preparing cases", total=len(wanted.cases)) as done:
        places = prepare(
            wanted,
            plan,
            folder=recipe.cache,
            read=reader(recipe),
            reading=recipe.dicom.model_dump(mode="json", exclude_defaults=True),
            unknown_labels=recipe.prepare.unknown_labels,
            workers=workers(recipe),
            progress=lambda number, total, case: done(),
        )
    if split.stamp != splits.STAMP:
        copies.refuse(wanted, places)
    unseen = _unseen([places[case] for case in split.train], cases.labels)
    if unseen:
        announce(f"no training case has {', '.join(unseen)}: the network will not learn it; see `medseg check`")
    return Material(cases, split, plan, places, unseen)


def _unseen(training: Sequence[Path], table: LabelTable) -> tuple[str, ...]:
    """Names of the labels that no prepared case has.

    Raises:
        Refusal: none has any.
    """
    rows = zip(table.names, *map(label_voxels, training), strict=True)
    unseen = tuple(name for name, *voxels in rows if not any(voxels))
    if len(unseen) == len(table.names):
        raise Refusal(
            "labels",
            found=f"none of them ({', '.join(unseen)}) in any of {len(training)} training cases",
            needed="something to learn",
            remedy="look at the label maps, and at the numbers of the label table, with `medseg check`",
        )
    return unseen


def suitable(recipe: Recipe) -> CaseSet:
    """All cases of a recipe.

    Raises:
        Refusal: its network, loss or metrics cannot learn from them, or one has no labels.
    """
    cases = gather.cases(recipe)
    networks.check_task(recipe.model, cases.labels)
    networks.check_centres(recipe.model, recipe.prepare.centres)
    _check_parts(recipe, cases)
    _need_targets(cases)
    return cases


def reader(recipe: Recipe) -> Read:
    """Path -> Volume, by the recipe's rules for DICOM series."""
    return partial(read, dicom=recipe.dicom)


def workers(recipe: Recipe) -> int:
    """Processes for preparation; auto: one for each core."""
    return recipe.prepare.workers if recipe.prepare.workers != "auto" else available_cores()


def _check_parts(recipe: Recipe, cases: CaseSet) -> None:
    if cases.labels.unit != "voxel" and recipe.loss.name in OVERLAPS:
        raise Refusal(
            "loss",
            found=recipe.loss.name,
            needed="a loss for classes: whole images have no overlap to measure",
            remedy="set loss to {name: ce} or {name: focal}",
        )
    if recipe.train.balance == "class" and cases.labels.unit != "image":
        raise Refusal(
            "train.balance",
            found="class",
            needed="case or centre: only whole images have a class to be drawn by",
            remedy="use train.foreground for slices and voxels",
        )
    if cases.labels.unit == "voxel":
        return
    unfit = [one.name for one in recipe.metrics if getattr(one.module(), "OVER", "mask") != "set"]
    if unfit or recipe.postprocess:
        raise Refusal(
            "metrics" if unfit else "postprocess",
            found=", ".join(unfit or [one.name for one in recipe.postprocess]),
            needed=f"what suits classes of a whole {cases.labels.unit}: there is no label map",
            remedy="leave it out; without `metrics`, those that suit are taken",
        )


def _need_targets(cases: CaseSet) -> None:
    by_image = cases.labels.unit == "image"
    lacking = [case.id for case in cases.cases if (case.classes if by_image else case.target) is None]
    if lacking:
        raise Refusal(
            f"case {lacking[0]}",
            found=("no class" if by_image else "no label map")
            + (f", nor in {len(lacking) - 1} other cases" if len(lacking) > 1 else ""),
            needed="one for every case to train on",
            remedy="add it, or leave the case out of the data set",
        )


def divide(recipe: Recipe, cases: CaseSet, folder: Path | None) -> Split:
    """The split of a recipe: the one that its run folder has, else a new one, which is written there."""
    path = folder / "split.json" if folder else None
    if path and path.exists():
        return splits.load(path, cases.cases)
    found = examine(cases).presence if recipe.split.stratify == "classes" else None
    split = learned.stamped(splits.make(cases.cases, recipe.split, presence=found), cases, recipe)
    if path:
        split.save(path)
    return split


def _orientation(recipe: Recipe, training: CaseSet) -> str:
    """What the recipe says; auto goes by what the first case is."""
    if recipe.prepare.orientation != "auto":
        return recipe.prepare.orientation
    first = reader(recipe)(next(iter(training.cases[0].images.values())))
    return "LPS" if first.unit == "px" else "RAS"


def _refuse_other_meaning(run: Run, cases: CaseSet) -> None:
    """See that labels and channels of a data set mean what they did when the run was begun."""
    before, now = (
        [f"{label.name} {list(label.members)}" for label in table.labels] for table in (run.table, cases.labels)
    )
    for what, was, found in (("labels", before, now), ("channels", run.plan.channels, cases.channels)):
        if list(was) != list(found):
            raise Refusal(
                run.folder,
                found=f"a run with the {what} {', '.join(was)}, and in the data set {', '.join(found)}",
                needed="what the network began to learn",
                remedy="put the data set back as it was, or train anew with another --out",
            )


def decide(recipe: Recipe, training: CaseSet, folder: Path | None, announce: Announce) -> Plan:
    """The plan of a recipe: the one that its run folder has, else a new one from the cases, which is written there."""
    if folder and (folder / "plan.json").exists():
        _refuse_other_meaning(Run(folder), training)
        return Run(folder).plan
    with progress.counting("measuring cases", total=len(training.cases)) as done:
        seen = fingerprint(
            training,
            read=reader(recipe),
            orientation=_orientation(recipe, training),
            policy=recipe.prepare.channels_on_other_grids,
            workers=workers(recipe),
            progress=lambda number, total, case: done(),
        )
    chosen, labels = recipe.model, training.labels
    limit = rehearsal.limit(recipe)
    make = partial(
        make_plan,
        seen,
        recipe.prepare,
        divisor=chosen.module().divisor(chosen.options),
        channels=training.channels,
        memory_gib=limit / GIB,
        context=networks.context(chosen),
        whole=labels.unit != "voxel",
        by_image=labels.unit == "image",
    )
    plan = rehearsal.largest(recipe, labels, lambda need: make(need=need), limit=limit, announce=announce)
    announce(
        f"plan: spacing {plan.spacing_text()}, patch {plan.patch}, batch {plan.batch}, "
        f"normalisation {plan.normalisation_text()}"
    )
    if folder:
        run = Run(folder)
        run.write("fingerprint.json", seen.to_json())
        run.write("labels.json", labels.to_json())
        if reference := plausible.learned(seen, labels):
            run.write(PLAUSIBLE, reference.model_dump(mode="json"))
        run.write("plan.json", plan.model_dump(mode="json"))
    return plan
