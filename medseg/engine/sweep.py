"""Many trainings of one recipe with different values, chosen by Optuna; what was found is kept in `sweep.db`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg import atomic, config
from medseg.boundary import parsing
from medseg.config import Recipe
from medseg.engine import apart, checkpoint, journal, space
from medseg.engine.claim import alone, claim
from medseg.engine.material import Announce
from medseg.engine.run import Run
from medseg.engine.space import Parameter
from medseg.optional import need
from medseg.refusal import Refusal
from medseg.wording import value as worded

STORE, FILE = "sweep.db", "sweep.json"
BY_CHANCE = 10
"""Trials before the results of former ones are looked at."""
FAILED_IN_ROW = 3
"""After so many trials it is not their values that is wrong: a full disk, say."""
CRASHED = "crashed"
"""Under which the study keeps the number of the last trial whose process died."""
REFUSED = 2
"""Exit code of a training whose values are at fault, or its data."""


@dataclass(frozen=True)
class Sweep:
    """What is tried.

    Attributes:
        path: of the recipe.
        overrides: for all trials, before their own values.
        parameters: what differs between trials.
    """

    path: Path
    overrides: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, path: Path, overrides: Sequence[str], parameters: Sequence[str]) -> Sweep:
        """A sweep from the words of the command line.

        Raises:
            Refusal: a parameter is wrong, or the recipe does not take a value of it.
        """
        made = cls(path, tuple(overrides), space.parse_all(parameters))
        space.check(made.parameters, made.recipe)
        return made

    def recipe(self, values: Mapping[str, str]) -> Recipe:
        """Of a trial with these values, by key."""
        return config.load(self.path, [*self.overrides, *(f"{key}={text}" for key, text in values.items())])

    def identity(self) -> dict[str, Any]:
        """What must not change between two calls for one folder."""
        return {"recipe": config.dump(self.recipe({})), "parameters": [str(one) for one in self.parameters]}


def run(
    sweep: Sweep, out: Path, trials: int, *, announce: Announce, train: apart.Train = apart.train
) -> dict[str, Any]:
    """Train until the folder has so many trials; what was begun and not finished goes on first.

    The values of a trial hang on the recipe's seed, its number and the results before it alone.

    Args:
        out: gets a run folder for each trial, `sweep.db` and `sweep.json`.
        train: trains one run folder.

    Returns:
        What `sweep.json` holds.

    Raises:
        Refusal: no Optuna, a folder of something else, several trials in a row that failed, a crash, a full disk.
        Interrupted: stopped by a signal; the state of the trial is saved.
    """
    optuna = need("optuna", extra="sweep", purpose="choose what a sweep tries")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = sweep.recipe({}).seed
    if out.is_file() or (out.is_dir() and not (out / STORE).exists() and any(out.glob("[!.]*"))):
        raise Refusal(out, found="something else", needed="a new folder", remedy="choose another --out")
    with alone(out), _kept(optuna, out / STORE):
        atomic.remove_partial(out)
        study, failed = _study(optuna, sweep, out), 0
        while (trial := _next(optuna, study, sweep, trials, seed)) is not None:
            announce(f"trial {trial.number} of {trials}: {_words(_texts(sweep, trial.params))}")
            value = _value(study, sweep, trial, out, announce, train)
            study.tell(trial.number, value, state=optuna.trial.TrialState.FAIL if value is None else None)
            Run(out).write(FILE, _summary(study, sweep))
            failed = failed + 1 if value is None else 0
            if failed == FAILED_IN_ROW:
                raise Refusal(
                    out,
                    found=f"that {failed} trials in a row failed",
                    needed="values that can be trained with",
                    remedy="see what they said above; the same command goes on with others",
                )
        return _summary(study, sweep)


@contextmanager
def _kept(optuna: Any, path: Path) -> Iterator[None]:
    """What Optuna cannot write is told as any other file that finds no room."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        raise checkpoint.disk_full(path, getattr(error.__cause__, "orig", None) or error) from error


def as_text(found: Mapping[str, Any], out: Path) -> str:
    """A table for a terminal: a row a trial, the best first; and how to train the best again."""
    ordered = sorted(found["trials"], key=lambda one: -1.0 if one["value"] is None else one["value"], reverse=True)
    lines = [f"{'trial':<12}{'best validation':<17}values"]
    for one in ordered:
        value = "failed" if one["value"] is None else worded(one["value"], digits=4)
        lines.append(f"{one['folder']:<12}{value:<17}{_words(one['parameters'])}")
    if ordered and ordered[0]["value"] is not None:
        best = out / ordered[0]["folder"]
        lines.append(f"the best is {best}; the same again: medseg train {best / 'recipe.yaml'} --out FOLDER")
    return "\n".join(lines)


def _study(optuna: Any, sweep: Sweep, out: Path) -> Any:
    """What the folder knows, or a new study in it.

    Raises:
        Refusal: a damaged file, or a sweep over something else.
    """
    path = out / STORE
    with parsing(path, needed="the file as it was written", remedy="restore it, or choose another --out"):
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute().as_posix()}")
        study = optuna.create_study(storage=storage, study_name="sweep", direction="maximize", load_if_exists=True)
        known = study.user_attrs
    for key, value in sweep.identity().items():
        if known.get(key, value) != value:
            raise Refusal(
                out,
                found=f"a sweep of another {key}",
                needed="the same command as before; only --trials may differ",
                remedy="choose another --out",
            )
        study.set_user_attr(key, value)
    return study


def _next(optuna: Any, study: Any, sweep: Sweep, trials: int, seed: int) -> Any:
    """The trial that is to be trained: one that was stopped, or a new one; None when there are enough."""
    for one in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        if len(one.params) == len(sweep.parameters):
            return one
        study.tell(one.number, state=optuna.trial.TrialState.FAIL)  # killed before all its values were there
    number = len(study.trials)
    if number >= trials:
        return None
    chance = hashlib.sha256(f"{seed} {number}".encode()).digest()
    study.sampler = optuna.samplers.TPESampler(seed=int.from_bytes(chance[:4], "big"), n_startup_trials=BY_CHANCE)
    return study.ask({one.key: one.distribution(optuna) for one in sweep.parameters})


def _value(study: Any, sweep: Sweep, trial: Any, out: Path, announce: Announce, train: apart.Train) -> float | None:
    """The best validation value of a trial; None where it was refused, or has none."""
    before = _same(study, trial.number, trial.params)
    if before.number != trial.number:
        announce(f"trial {trial.number} has the values of trial {before.number}, and so its result")
        return before.value
    folder = out / _folder(trial.number)
    try:
        claim(folder, sweep.recipe(_texts(sweep, trial.params)), resume=False)
    except Refusal as refusal:
        announce(str(refusal))
        return None
    code = train(folder)
    if code not in (0, REFUSED):
        crash = Refusal(
            folder,
            found=f"that its training {apart.ending(code)}",
            needed="it to come to its end",
            remedy="see what it said above; the same command goes on with this trial, and a second time counts it as "
            "failed",
        )
        if study.user_attrs.get(CRASHED) != trial.number:
            study.set_user_attr(CRASHED, trial.number)
            raise crash
        announce(str(crash))
        return None
    return journal.best(Run(folder))[1] if code == 0 else None


def _same(study: Any, number: int, params: Mapping[str, Any]) -> Any:
    """The first trial with these values, up to this number: the same values and the same seed give the same run."""
    return next(one for one in study.trials if one.params == params and (one.value is not None or one.number == number))


def _summary(study: Any, sweep: Sweep) -> dict[str, Any]:
    trials = [
        {
            "number": one.number,
            "folder": _folder(_same(study, one.number, one.params).number),
            "value": one.value,
            "parameters": _texts(sweep, one.params),
        }
        for one in study.trials
        if one.state.is_finished()
    ]
    return {"parameters": [str(one) for one in sweep.parameters], "trials": trials}


def _folder(number: int) -> str:
    return f"trial-{number:04d}"


def _texts(sweep: Sweep, params: Mapping[str, Any]) -> dict[str, str]:
    """The values of a trial as overrides have them, by key; of one that was killed early, as far as there are any."""
    return {one.key: one.text(params[one.key]) for one in sweep.parameters if one.key in params}


def _words(values: Mapping[str, str]) -> str:
    return " ".join(f"{key}={text}" for key, text in values.items())
