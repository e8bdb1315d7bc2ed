"""Making a run folder a recipe's own, so that no run ever goes on from what another recipe began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from medseg import atomic, config
from medseg.config import Recipe
from medseg.engine import state
from medseg.engine.run import CALIBRATION, PLAUSIBLE
from medseg.refusal import Refusal

RESUMABLE = ("train", "predict", "postprocess", "metrics", "cache")
"""Parts of a recipe that may change when a run is resumed on purpose."""
STATE = ("steps", "accumulate", "optimiser", "layer_decay", "freeze", "ema", "devices")
"""Training settings that may not: what was saved has no meaning under others (ema: whether there is one)."""
LOCK = ".lock"
DECIDED = ("split.json", "plan.json", "labels.json", "fingerprint.json", CALIBRATION, PLAUSIBLE)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a folder, of a run or of several, to this process. The system gives the lock back when it is killed. A new
    folder in which nothing came to be is removed.

    Raises:
        Refusal: another process has it, or it is none.
    """
    _make(folder)
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise Refusal(
            folder,
            found="another process that trains in it",
            needed="one at a time",
            remedy="wait for it, or choose another --out",
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            Path(lock.lock_file).unlink()
        lock.release()
        with suppress(OSError):  # mostly there is something in it
            folder.rmdir()


def claim(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Make the run folder this recipe's, or see that it already is.

    Args:
        resume: whether there must be a checkpoint, and the recipe may differ in what `RESUMABLE` names.

    Raises:
        Refusal: the folder holds another run, something else, or nothing to resume.
    """
    _make(folder)
    for place in (folder, *folder.glob("validation/*/")):  # where pictures are written, too
        atomic.remove_partial(place)
    text = config.dump(recipe)
    path = folder / "recipe.yaml"
    started = state.started(folder)
    if resume and not started:
        raise Refusal(folder, found="no checkpoint to resume", needed=state.LAST, remedy="train without --resume")
    if path.exists() and path.read_text(encoding="utf-8") != text:
        if started:
            refuse_another(folder, recipe, resume=resume)
        else:  # what was decided for the other recipe does not hold for this one
            for name in DECIDED:
                (folder / name).unlink(missing_ok=True)
    elif not path.exists() and any(entry.name != LOCK for entry in folder.iterdir()):
        raise Refusal(folder, found="files that are not a run's", needed="a new folder", remedy="choose another --out")
    with atomic.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _make(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise Refusal(folder, found="a file", needed="a new folder", remedy="choose another --out")
    folder.mkdir(parents=True, exist_ok=True)


def refuse_another(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """See that a run that was started could go on with this recipe; nothing is changed.

    Raises:
        Refusal: it could not.
    """
    path = folder / "recipe.yaml"
    if path.read_text(encoding="utf-8") == config.dump(recipe):
        return
    changed = _changes(config.load(path), recipe)
    fixed = [key for key in changed if key not in RESUMABLE]
    if fixed or not resume:
        raise Refusal(
            folder,
            found=f"a run of another recipe (it differs in: {', '.join(changed)})",
            needed="the recipe that it was started with"
            + ("" if fixed else ", or --resume to go on with changed training settings"),
            remedy="choose another --out folder",
        )


def _changes(old: Recipe, new: Recipe) -> list[str]:
    """Keys that differ; of the training settings, those that the saved state hangs on one by one."""
    changed = [key for key in Recipe.model_fields if getattr(old, key) != getattr(new, key)]
    states = [{**vars(recipe.train), "ema": recipe.train.ema > 0} for recipe in (old, new)]
    return changed + [f"train.{key}" for key in STATE if states[0][key] != states[1][key]]
