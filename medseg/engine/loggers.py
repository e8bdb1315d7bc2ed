"""Where the numbers of a training go besides its folder's own log: TensorBoard and MLflow."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import yaml

from medseg import atomic, config
from medseg.engine.run import Run
from medseg.interrupts import Interrupted
from medseg.optional import need
from medseg.refusal import Refusal

Announce = Callable[[str], None]
NUMBERS = ("loss", "lr", "dice", "auroc", "train_dice", "wait", "seconds_a_step", "samples_a_second")
MLFLOW_ALWAYS = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""Since 3.2 MLflow reports to its makers how it is used, unless this is set before it is imported."""
MLFLOW_UNLESS_SET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""By itself MLflow holds the training up for minutes where the server does not answer."""
AT_ONCE, PARAMETERS_AT_ONCE = 1000, 100
"""Numbers, and parameters, that an MLflow server takes in one request."""
LONGEST_PARAMETER = 500
"""Letters that every version of an MLflow server takes."""


class Logger(Protocol):
    """One place to log to. Only the first of several processes has one."""

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Told the whole history after every epoch; logs what is not there yet."""

    def show(self, epoch: int, pictures: Sequence[Path]) -> None:
        """Example pictures of a validation, PNG."""


@contextmanager
def opened(run: Run, names: Sequence[str], *, done: int, announce: Announce) -> Iterator[list[Logger]]:
    """The loggers of a recipe, closed at the end.

    Args:
        names: `train.loggers`.
        done: epochs that the run has behind it.
        announce: told when a server does not answer.

    Raises:
        Refusal: a logger is not installed, or its server does not answer.
    """
    with ExitStack() as stack:
        made: list[Logger] = []
        if "tensorboard" in names:
            made.append(stack.enter_context(TensorBoard(run, done)))
        if "mlflow" in names:
            made.append(stack.enter_context(MLflow(run, announce)))
        yield made


def numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """What an epoch's entry in the history says in plain numbers, by name; those of single labels as `dice/liver`."""
    found = {name: entry[name] for name in NUMBERS if entry.get(name) is not None}
    for measure in ("dice", "auroc", "train_dice"):
        values = entry.get(f"{measure}_per_label", {})
        found |= {f"{measure}/{label}": value for label, value in values.items() if value is not None}
    return found


class TensorBoard:
    """Event files in the run folder's `tensorboard`."""

    def __init__(self, run: Run, done: int):
        need("tensorboard", extra="tensorboard", purpose="write TensorBoard logs")
        from torch.utils.tensorboard import SummaryWriter

        # Epochs after the checkpoint that the run goes on from come again: TensorBoard forgets those it has.
        self._writer = SummaryWriter(str(run.path("tensorboard")), purge_step=done + 1)
        self._written = done

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        for entry in history[self._written :]:
            for name, value in numbers(entry).items():
                self._writer.add_scalar(name, value, entry["epoch"])
            for text in entry.get("warnings", ()):
                self._writer.add_text("warnings", text, entry["epoch"])
        self._written = len(history)
        self._writer.flush()

    def show(self, epoch: int, pictures: Sequence[Path]) -> None:
        from PIL import Image

        for path in pictures:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.add_image(f"validation/{path.stem}", pixels, epoch, dataformats="HWC")


class MLflow:
    """One MLflow run for one run folder, however often it is resumed: at the server that MLFLOW_TRACKING_URI names, or
    in a database in the run folder. Pictures of patients are not sent: a server may be anywhere."""

    def __init__(self, run: Run, announce: Announce):
        os.environ.update(MLFLOW_ALWAYS)
        for name, value in MLFLOW_UNLESS_SET.items():
            os.environ.setdefault(name, value)
        for module in ("mlflow", "sqlalchemy", "alembic"):
            need(module, extra="mlflow", purpose="write MLflow logs")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._failure, self._announce, self._silent = MlflowException, announce, False
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        folder = run.path("mlflow").absolute()
        if not uri:
            folder.mkdir(exist_ok=True)
        try:
            self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{folder / 'mlflow.db'}")
            self._run = self._known(run) or self._new(run, None if uri else (folder / "artifacts").as_uri())
            self._client.update_run(self._run, status="RUNNING")
            points = self._client.get_metric_history(self._run, "loss")
        except MlflowException as error:
            raise Refusal(
                "MLFLOW_TRACKING_URI" if uri else folder,
                found=f"an MLflow store that cannot be used ({_first_line(error)})",
                needed="one that answers and may be written to",
                remedy="correct the variable, start the server, or leave mlflow out of train.loggers",
            ) from error
        self._written = max((point.step for point in points), default=0)

    def _known(self, run: Run) -> str | None:
        """The MLflow run that this run folder began, if the store has it."""
        path = run.path("mlflow.json")
        if not path.exists():
            return None
        name = str(run.read("mlflow.json")["run"])
        try:
            return str(self._client.get_run(name).info.run_id)
        except self._failure as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # another server than before
                return None
            raise

    def _new(self, run: Run, artifacts: str | None) -> str:
        from mlflow.entities import Param

        recipe = run.recipe
        experiment = self._client.get_experiment_by_name(recipe.name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(recipe.name, artifacts)
        made = str(self._client.create_run(number, run_name=run.folder.name).info.run_id)
        pairs = list(parameters(config.dump(recipe)).items())
        for first in range(0, len(pairs), PARAMETERS_AT_ONCE):
            wanted = [Param(name, value) for name, value in pairs[first : first + PARAMETERS_AT_ONCE]]
            self._client.log_batch(made, params=wanted)
        with atomic.replacing(run.path("mlflow.json")) as temporary:
            temporary.write_text(json.dumps({"run": made}) + "\n", encoding="utf-8")
        return made

    def __enter__(self) -> MLflow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        self._try(lambda: self._client.set_terminated(self._run, self._status(kind, stopped)))

    @staticmethod
    def _status(kind: type[BaseException] | None, stopped: bool) -> str:
        return "KILLED" if stopped else "FAILED" if kind else "FINISHED"

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        self._try(lambda: self._write([entry for entry in history if entry["epoch"] > self._written]))

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        for entry in entries:
            found = [Metric(_name(name), value, now, entry["epoch"]) for name, value in numbers(entry).items()]
            for first in range(0, len(found), AT_ONCE):
                self._client.log_batch(self._run, metrics=found[first : first + AT_ONCE])
            self._written = entry["epoch"]

    def show(self, epoch: int, pictures: Sequence[Path]) -> None:
        return

    def _try(self, work: Callable[[], None]) -> None:
        """A server that went away costs no training: what is missing is logged when it is back."""
        try:
            work()
        except self._failure as error:
            if not self._silent:
                self._announce(
                    f"MLflow does not answer ({_first_line(error)}); training goes on, and what is missing is logged "
                    "with a later epoch, or when the run is resumed"
                )
            self._silent = True
        else:
            self._silent = False


def parameters(text: str) -> dict[str, str]:
    """A recipe's YAML as one line for each value, by its key path (`train.lr`); long ones are cut."""
    found: dict[str, str] = {}

    def walk(place: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{place}.{key}" if place else str(key), inner)
        else:
            said = value if isinstance(value, str) else json.dumps(value)
            found[_name(place)] = said if len(said) <= LONGEST_PARAMETER else said[: LONGEST_PARAMETER - 1] + "…"

    walk("", yaml.safe_load(text))
    return found


def _name(text: str) -> str:
    """MLflow takes letters, digits and a few signs."""
    return re.sub(r"[^\w\-./ ]", "_", text)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
