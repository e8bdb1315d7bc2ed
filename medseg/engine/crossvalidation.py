"""All folds of a recipe, one training after another, by one split and one plan."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medseg import atomic
from medseg.case import CaseSet
from medseg.config import Recipe
from medseg.data import splits
from medseg.data.splits import Split
from medseg.engine import apart, folds, journal, learned, material, members, state
from medseg.engine.claim import alone, claim, refuse_another
from medseg.engine.folds import Fold, Folds
from medseg.engine.launch import MACHINES
from medseg.engine.material import Announce
from medseg.engine.run import PLAUSIBLE, Run
from medseg.refusal import Refusal

NAME = re.compile(r"fold\d+")
PLANNED = ("fingerprint.json", "labels.json", PLAUSIBLE, "plan.json")
"""What all folds share; the plan last, because it is what tells that the others are there."""


def train_folds(
    recipe: Recipe,
    out: Path,
    wanted: str = "all",
    *,
    resume: bool = False,
    announce: Announce = print,
    train: apart.Train = apart.train,
) -> Folds:
    """Train folds of a recipe into `out/fold0`, `out/fold1`, ...; those that are complete are not trained again.

    The split and the plan are made once, from all cases, and given to each fold before the first is trained.

    Args:
        recipe: its `split.fold` has no meaning here.
        wanted: "all", or numbers such as "0,2".
        resume: at least one fold must have a checkpoint, and training settings may differ from before.
        train: trains one folder.

    Returns:
        All folds of `out` that are complete, those of earlier calls too.

    Raises:
        Refusal: a split without folds, a fold that is not there, a folder of something else, a training that failed.
        Interrupted: stopped by a signal; the state is saved.
    """
    _check(recipe, out)
    with alone(out):
        atomic.remove_partial(out)
        cases = material.suitable(recipe)
        split = _split(recipe, cases, out)
        numbers = _numbers(wanted, len(split.folds))
        folders = {number: out / f"fold{number}" for number in numbers}
        _share(recipe, cases, split, folders, resume=resume, announce=announce)
        found = _known(out, len(split.folds))
        folds.save(out, found)
        for number, folder in folders.items():
            place = f"fold {number} ({numbers.index(number) + 1} of {len(numbers)})"
            made_by = hashlib.sha256(Run(folder).path("recipe.yaml").read_bytes()).hexdigest()
            if _complete(found, folder, made_by):
                announce(f"{place}: complete, {folder}")
                continue
            announce(f"{place}: {folder}")
            found = found.without(folder.name)  # what was complete before goes on by another recipe
            folds.save(out, found)
            _need_success(train(folder), folder)
            measure, best = journal.best(Run(folder))
            found = found.with_run(folder.name, measure, Fold(best=best, recipe=made_by))
            folds.save(out, found)
        return found


def _check(recipe: Recipe, out: Path) -> None:
    """Before anything is read."""
    if recipe.split.kind not in ("kfold", "file"):
        raise Refusal(
            "--folds",
            found=f"split.kind: {recipe.split.kind}",
            needed="kfold, or a file with several folds",
            remedy="set split.kind=kfold, or leave --folds out",
        )
    if MACHINES in os.environ:
        raise Refusal(
            "--folds",
            found="a process that torchrun started",
            needed="one that starts the trainings by itself",
            remedy="give torchrun one fold at a time: split.fold=0 --out .../fold0, and so on",
        )
    if out.is_file() or (out / "recipe.yaml").exists():
        raise Refusal(
            out,
            found="a file" if out.is_file() else "a single run",
            needed="a folder for the folds, each of which is a run",
            remedy="choose another --out",
        )
    if out.exists() and not folds.is_folder(out):
        others = sorted(path.name for path in out.iterdir() if not NAME.fullmatch(path.name) and path.name[0] != ".")
        if others:
            raise Refusal(
                out, found=f"something else ({others[0]})", needed="a new folder", remedy="choose another --out"
            )


def _numbers(wanted: str, count: int) -> list[int]:
    if count < 2:
        raise Refusal("--folds", found="a split of one part", needed="several", remedy="leave --folds out")
    if wanted == "all":
        return list(range(count))
    words = [word.strip() for word in wanted.split(",")]
    numbers = sorted({int(word) for word in words if word.isdecimal()})
    if not all(word.isdecimal() for word in words) or numbers[-1] >= count:
        raise Refusal(
            "--folds",
            found=f"'{wanted}'",
            needed=f"all, or numbers from 0 to {count - 1} with commas, such as 0,{count - 1}",
            remedy="correct it",
        )
    return numbers


def _started(out: Path) -> dict[int, Path]:
    """Folds of earlier calls; whatever they were made by must hold for the new ones."""
    found = [path for path in out.glob("fold*") if NAME.fullmatch(path.name) and state.started(path)]
    return {int(path.name.removeprefix("fold")): path for path in sorted(found)}


def _split(recipe: Recipe, cases: CaseSet, out: Path) -> Split:
    """That of a fold that was started, else a new one."""
    for number, folder in _started(out).items():
        if (folder / "split.json").exists():
            return splits.load(folder / "split.json", cases.cases, _of_fold(recipe, number).split)
    return material.divide(_of_fold(recipe, 0), cases, None)


def _of_fold(recipe: Recipe, number: int) -> Recipe:
    return recipe.model_copy(update={"split": recipe.split.model_copy(update={"fold": number})})


def _share(
    recipe: Recipe, cases: CaseSet, split: Split, wanted: Mapping[int, Path], *, resume: bool, announce: Announce
) -> None:
    """Claim the wanted folders, and write into each what was decided for all."""
    out = next(iter(wanted.values())).parent
    started = _started(out)
    folders = {**wanted, **started}
    if resume and not started:
        raise Refusal(
            out,
            found="no fold with a checkpoint",
            needed="one to resume",
            remedy="train without --resume",
        )
    for number, folder in folders.items():
        if number in wanted:
            claim(folder, _of_fold(recipe, number), resume=resume and number in started)
        else:  # its recipe says what it was trained by
            refuse_another(folder, _of_fold(recipe, number), resume=resume)
    source = next((folder for folder in folders.values() if (folder / "plan.json").exists()), None)
    if source is None:
        source = next(iter(folders.values()))
        names = {case for side in split.folds[0] for case in side}
        used = replace(cases, cases=tuple(case for case in cases.cases if case.id in names))
        material.decide(recipe, used, source, announce)
    for number, folder in folders.items():
        if number not in started:
            training, validation = split.folds[number]
            own = replace(split, train=training, validation=validation, settings=_of_fold(recipe, number).split)
            learned.stamped(own, cases, recipe).save(folder / "split.json")
        for name in PLANNED:
            if (source / name).exists() and not (folder / name).exists():
                with atomic.replacing(folder / name) as temporary:
                    temporary.write_bytes((source / name).read_bytes())
    members.refuse_different([Run(folder) for folder in folders.values()])


def _known(out: Path, count: int) -> Folds:
    """What `folds.json` says; without a fold that was started, the number of folds may have changed."""
    return folds.load(out).model_copy(update={"count": count}) if folds.is_folder(out) else Folds(count=count)


def _complete(found: Folds, folder: Path, made_by: str) -> bool:
    """Whether a fold was trained to its end by the recipe that it has now."""
    one = found.runs.get(folder.name)
    return one is not None and one.recipe == made_by and (folder / "weights.safetensors").exists()


def _need_success(code: int, folder: Path) -> None:
    if code:
        raise Refusal(
            folder,
            found=f"that its training {apart.ending(code)}",
            needed="it to come to its end",
            remedy="see what it said above; the same command goes on, and leaves out the folds that are complete",
        )
