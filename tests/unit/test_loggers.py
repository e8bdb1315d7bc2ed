"""TensorBoard and MLflow: every epoch once, whatever happens in between."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medseg.engine import loggers
from medseg.engine.run import Run
from medseg.interrupts import Interrupted
from medseg.refusal import Refusal
from tests import tiny

HISTORY: list[dict[str, Any]] = [
    {"epoch": 1, "loss": 2.0, "lr": 0.1, "wait": 0.0},
    {"epoch": 2, "loss": 1.0, "lr": 0.1, "dice": 0.5, "dice_per_label": {"left (l)": 0.5, "right": None}},
    {"epoch": 3, "loss": 0.5, "lr": 0.1, "warnings": ["look out"]},
]


@pytest.fixture(scope="module", autouse=True)
def surroundings():
    """MLflow's settings go into the environment of the process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", *loggers.MLFLOW_ALWAYS, *loggers.MLFLOW_UNLESS_SET):
            patch.setenv(name, "")
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, surroundings: None) -> Path:
    """A run with an empty MLflow database, which takes seconds to make."""
    run = tiny.untrained_run(tmp_path_factory.mktemp("loggers") / "run")
    with loggers.opened(run, ["mlflow"], done=0, announce=print):
        pass
    run.path("mlflow.json").unlink()
    return run.folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(template, tmp_path / "run")))


def points(run: Run, name: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.folder / 'mlflow' / 'mlflow.db'}")
    number = run.read("mlflow.json")["run"]
    return [(point.step, point.value) for point in client.get_metric_history(number, name)]


def facts(run: Run) -> Any:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.folder / 'mlflow' / 'mlflow.db'}")
    return client.get_run(run.read("mlflow.json")["run"])


def test_numbers_of_an_epoch() -> None:
    assert loggers.numbers(HISTORY[1]) == {"loss": 1.0, "lr": 0.1, "dice": 0.5, "dice/left (l)": 0.5}


def test_a_recipe_as_parameters() -> None:
    found = loggers.parameters("a: {b: 1, c: [1, {d: x}]}\ntext: word\nlong: " + 600 * "y")
    assert found.pop("long") == 499 * "y" + "…"
    assert found == {"a.b": "1", "a.c": '[1, {"d": "x"}]', "text": "word"}


def test_mlflow_has_every_epoch_once_after_a_kill_and_a_resume(run: Run) -> None:
    said: list[str] = []
    with pytest.raises(Interrupted), loggers.opened(run, ["mlflow"], done=0, announce=said.append) as (listener,):
        listener.write(HISTORY[:1])
        listener.write(HISTORY[:2])
        raise Interrupted(15)
    assert facts(run).info.status == "KILLED"
    number = run.read("mlflow.json")
    with loggers.opened(run, ["mlflow"], done=1, announce=said.append) as (listener,):
        assert facts(run).info.status == "RUNNING"
        listener.write(HISTORY[:2])  # the epoch after the checkpoint, once more
        listener.write(HISTORY)
    assert points(run, "loss") == [(1, 2.0), (2, 1.0), (3, 0.5)] and points(run, "dice") == [(2, 0.5)]
    assert points(run, "dice/left _l_") == [(2, 0.5)]
    found = facts(run)
    assert found.info.status == "FINISHED" and run.read("mlflow.json") == number and said == []
    assert found.data.params["train.lr"] == "0.003" and found.data.params["model.name"] == "residual_unet"


def test_what_a_server_missed_is_logged_when_it_is_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    said: list[str] = []

    def away(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    with loggers.opened(run, ["mlflow"], done=0, announce=said.append) as (listener,):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "log_batch", away)
            listener.write(HISTORY[:1])
            listener.write(HISTORY[:2])
        assert len(said) == 1 and "connection refused" in said[0] and "training goes on" in said[0]
        listener.write(HISTORY)
    assert points(run, "loss") == [(1, 2.0), (2, 1.0), (3, 0.5)]


def test_a_training_that_fails_is_told_to_mlflow(run: Run) -> None:
    with pytest.raises(ValueError, match="bug"), loggers.opened(run, ["mlflow"], done=3, announce=print):
        raise ValueError("bug")
    assert facts(run).info.status == "FAILED"


def test_a_server_that_does_not_answer_is_refused_at_the_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(Refusal, match=r"MLFLOW_TRACKING_URI.*leave mlflow out of train.loggers"),
        loggers.opened(run, ["mlflow"], done=0, announce=print),
    ):
        pass


def test_another_store_gets_a_run_of_its_own_and_the_whole_history(run: Run) -> None:
    run.write("mlflow.json", {"run": "0" * 32})
    with loggers.opened(run, ["mlflow"], done=2, announce=print) as (listener,):
        listener.write(HISTORY)
    assert run.read("mlflow.json")["run"] != "0" * 32 and len(points(run, "loss")) == 3


TELEMETRY = """
from pathlib import Path
from medseg.engine import loggers
from medseg.engine.run import Run
import sys
with loggers.opened(Run(Path(sys.argv[1])), ["mlflow"], done=0, announce=print):
    from mlflow.telemetry.client import get_telemetry_client
    from mlflow.telemetry.utils import is_telemetry_disabled
    print(is_telemetry_disabled(), get_telemetry_client())
"""


def test_mlflow_tells_its_makers_nothing(run: Run) -> None:
    """In a process that nothing marks as a test: MLflow is silent in tests by itself."""
    marks = ("PYTEST", "CI", "GITHUB", "GITLAB", "BUILD", "JENKINS", "RUNBOT", "DO_NOT_TRACK", "MLFLOW")
    plain = {name: value for name, value in tiny.ENVIRONMENT.items() if not name.startswith(marks)}
    code = [sys.executable, "-c", TELEMETRY, str(run.folder)]
    done = subprocess.run(code, env=plain, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True None\n", done.stderr


def test_tensorboard_forgets_epochs_that_come_again(run: Run, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = tmp_path / "p1.png"
    Image.new("RGB", (8, 4), "red").save(picture)
    with loggers.opened(run, ["tensorboard"], done=0, announce=print) as (listener,):
        listener.write(HISTORY)
    with loggers.opened(run, ["tensorboard"], done=1, announce=print) as (listener,):
        listener.write(HISTORY[:2])
        listener.show(2, [picture])
        listener.write(HISTORY)
    found = EventAccumulator(str(run.path("tensorboard")))
    found.Reload()
    assert [point.step for point in found.Scalars("loss")] == [1, 2, 3]
    assert [point.step for point in found.Images("validation/p1")] == [2]
    assert any("warnings" in tag for tag in found.Tags()["tensors"])
