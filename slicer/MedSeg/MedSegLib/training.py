"""Fine-tuning: a model learns from corrected cases, by `medseg train` with the model's own recipe and plan.

What the network is used to (voxel size, patch, intensities, orientation, label table) stays as the model has it. What
suits a cluster, or a training from nothing, is replaced by what suits few cases on this machine.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MedSegLib import cohort, labeltable, words
from MedSegLib.background import Background
from MedSegLib.errand import Ended, Errand, clear, working
from MedSegLib.trouble import Trouble

PINNED = (
    *("orientation", "spacing_mm", "size", "antialias", "steps", "patch", "normalisation", "crop", "order"),
    "channels_on_other_grids",
)
"""Of the plan: how scans come to the network."""
LARGEST_BATCH = 2
FEW = 8
"""Cases that are prepared in one process sooner than several have started."""
RATE, LAYER_DECAY = 3e-4, 0.8
"""AdamW's, about a tenth of what a training from nothing takes; the stages far from the heads change least."""
WARMING = 0.05
"""Share of all steps in which the rate rises."""
VALIDATED = 10
"""Times that the network is measured on whole scans, at most."""
EPOCH = re.compile(r"epoch (\d+)/(\d+)  loss (\S+?)(?:  validation (\w+) (\S+))?(?=  | \(|$)")
CACHE = ".medseg-cache"
"""In the folder of the model that comes out: prepared scans, for as long as the training needs them."""
CHECKED, BEGUN = 5.0, 10.0
"""Percent at which the cases are checked, and at which the first epoch begins."""


def fine_tune(
    program: Sequence[str],
    run: Path,
    data: Path,
    out: Path,
    *,
    epochs: int = 20,
    steps: int = 50,
    device: str = "auto",
) -> Background:
    """Train a model further on corrected cases. The same call goes on with what was cancelled or killed.

    Args:
        program: words that start medseg.
        run: folder of the model; of a cross-validation the first fold is taken.
        data: folder that `cases.save_case` fills.
        out: folder of the model that comes out; new, or the same again.
        epochs, steps: there are `steps` in each epoch; both must be as before where it goes on.
        device: auto, cpu, cuda or mps.

    The outcome's facts: `run` (the folder `out`), `dice` of the best epoch on the cases that were held back (None: not
    known), `validated` (ids of these cases), `unseen` (whether the network did not learn from them).
    """
    start = labeltable.one_run(run.expanduser().absolute())
    how = {"epochs": epochs, "steps": steps, "device": device}
    places = data.expanduser().absolute(), out.expanduser().absolute()
    return working(lambda errand: _tuned(errand, program, start, places, how))


def _tuned(
    errand: Errand, program: Sequence[str], run: Path, places: tuple[Path, Path], how: Mapping[str, Any]
) -> dict[str, Any]:
    data, out = places
    errand.at(0, "looking at the cases")
    if out == run:
        raise Trouble("A model cannot be trained into its own folder.", "Choose a new folder.", "folder")
    said = recipe_words(run, data, out, **how)
    if _begun(out):
        _say_where_it_goes_on(errand, data, out, int(how["epochs"]))
    else:
        _check(errand, program, said)
    errand.at(CHECKED, "preparing the cases")
    ended = errand.run([*program, "train", *said, "--out", str(out)], heard=lambda text: _heard(errand, text))
    _refuse_bad_end(ended)
    _clear_cache(errand, out)
    return _facts(out)


def _clear_cache(errand: Errand, out: Path) -> None:
    if (out / CACHE).exists():
        clear(out / CACHE, errand)


def _begun(out: Path) -> bool:
    return (out / "split.json").exists()


def recipe_words(run: Path, data: Path, out: Path, *, epochs: int, steps: int, device: str) -> list[str]:
    """The recipe, and what is changed of it, as the command line takes them. What hangs on the number of cases is that
    of the training's own recipe where it goes on: cases may have been saved since.

    Raises:
        Trouble: the model cannot be trained further with these cases.
    """
    plan = _plan(run)
    channels = list(plan["channels"])
    people = _people(run, data, channels)
    settings: dict[str, Any] = {
        "name": out.name,
        "dataset": {"name": "folder", "root": str(data), "channels" if len(channels) > 1 else "files_hold": channels},
        "labels": None,
        "paint": None,
        "cache": str(out / CACHE),
        "init": {"weights": str(run), "heads": "load"},
        "prepare.batch": min(int(plan["batch"]), LARGEST_BATCH),
        "prepare.centres": [],
        **{f"prepare.{key}": plan[key] for key in PINNED if key in plan},
        **_training(epochs, steps, device),
        **({} if _begun(out) else _for_cases(people)),
    }
    changes = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())  # JSON is YAML
    return [str((out if _begun(out) else run) / "recipe.yaml"), *changes]


def _for_cases(people: Mapping[str, str]) -> dict[str, Any]:
    """What hangs on how many cases there are, and of how many patients."""
    several = len(set(people.values())) > 1
    return {
        "split": {"kind": "holdout", "validation": 0.2} if several else {"kind": "none"},
        "prepare.workers": "auto" if len(people) > FEW else 0,
    }


def _training(epochs: int, steps: int, device: str) -> dict[str, Any]:
    """What suits few cases and one machine, whatever the model was trained with."""
    settings: dict[str, Any] = {
        "epochs": epochs,
        "steps": steps,
        "validate_every": max(1, epochs // VALIDATED),
        "optimiser": "adamw",
        "lr": RATE,
        "layer_decay": LAYER_DECAY,
        "schedule": "poly",
        "warmup_steps": round(WARMING * epochs * steps),
        "freeze": [],
        "curriculum": None,
        "patience": 0,
        "ema": 0,
        "balance": "case",
        "accumulate": 1,
        "micro_batch": 1,
        "devices": 1,
        "shard": False,
        "device": device,
        "workers": "auto",
        "threads": 0,
        "save_every": 1,
        "save_minutes": 5,
        "loggers": [],
        **({"precision": "32"} if device == "cpu" else {}),
    }
    return {f"train.{key}": value for key, value in settings.items()}


def _plan(run: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads((run / "plan.json").read_text(encoding="utf-8"))
        (run / "recipe.yaml").stat()
    except (OSError, ValueError) as error:
        what = "The model's folder lacks its recipe or its plan, so that it cannot be trained further."
        raise Trouble(
            what, "Choose a run folder on this computer; a zipped one has to be unpacked.", "model"
        ) from error
    if plan.get("centres"):
        what = "This model is told which hospital a scan is from, and training cases do not say so."
        raise Trouble(what, "Train it further on the command line.", "model")
    return plan


def _people(run: Path, data: Path, channels: Sequence[str]) -> dict[str, str]:
    """Patient by case, of those that there are to learn from."""
    people = cohort.patients(data)
    if not people:
        raise Trouble("The data set has no case yet.", "Correct a result, and save it as a training case.", "no-cases")
    cohort.describe(data, labeltable.of_run(run), channels)
    return people


def _say_where_it_goes_on(errand: Errand, data: Path, out: Path, epochs: int) -> None:
    """Its cases are those that it began with.

    Raises:
        Trouble: it is complete.
    """
    done = len(_log(out))
    if done >= epochs:
        _clear_cache(errand, out)  # it was cancelled, or Slicer ended, in the moment before
        what = f"The training in {out.name} is complete."
        raise Trouble(what, "Use that model, or give a new training another name.", "complete")
    errand.say(f"It goes on where it was, after epoch {done}.")
    split = _json(out / "split.json")
    known = {case for fold in split["folds"] for side in ("train", "validation") for case in fold[side]}
    new = sorted(set(cohort.patients(data)) - known)
    if new:
        errand.say(f"Saved since it began, and not in it: {', '.join(new)}. A new training takes them in.")


def _check(errand: Errand, program: Sequence[str], said: Sequence[str]) -> None:
    """Have medseg look at all cases.

    Raises:
        Trouble: training must not start on them.
    """
    errand.at(1, "checking the cases")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.json"
        ended = errand.run([*program, "check", *said, "--json", str(path)], heard=lambda text: None)
        problems = _json(path) or []
    for one in problems:
        errand.say(_problem(one))
    fatal = [one for one in problems if one["fatal"]]
    if fatal:
        more = f" ({len(fatal) - 1} more are in the log.)" if len(fatal) > 1 else ""
        raise Trouble(f"{_problem(fatal[0])}{more}", f"{fatal[0]['remedy'].capitalize()}.", "cases")
    _refuse_bad_end(ended)


def _problem(one: Mapping[str, Any]) -> str:
    return f"Case {one['case']}: {one['problem']}: found {one['found']}; needed {one['needed']}."


def _heard(errand: Errand, text: str) -> None:
    errand.say(text)
    found = EPOCH.search(text)
    if found:
        number, epochs = int(found[1]), int(found[2])
        score = f", {found[4]} {found[5]}" if found[4] else ""
        errand.at(BEGUN + (100 - BEGUN) * number / epochs, f"epoch {number} of {epochs}{score}")
    elif text.startswith(("measuring cases", "preparing cases")):
        errand.at(CHECKED, text)


def _refuse_bad_end(ended: Ended) -> None:
    if ended.code:
        failure = words.of_end(ended.code, ended.err)
        raise Trouble(failure.what, failure.remedy, failure.code, failure.detail)


def _facts(out: Path) -> dict[str, Any]:
    scores = [entry["dice"] for entry in _log(out) if entry.get("dice") is not None]
    split = _json(out / "split.json")
    fold = split["folds"][split["fold"]]
    return {
        "run": out,
        "dice": max(scores, default=None),
        "validated": fold["validation"],
        "unseen": not split["stamp"],
    }


def _log(out: Path) -> list[dict[str, Any]]:
    """The epochs that were written down whole: one whose line was cut short is gone through again."""
    path = out / "log.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [entry for entry in map(_entry, lines) if entry is not None]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
