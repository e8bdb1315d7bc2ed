"""What a run writes down of its epochs, for people and for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medseg import atomic
from medseg.boundary import parsing
from medseg.engine.run import Run
from medseg.optional import need

MEASURES = ("dice", "auroc")


def log(run: Run, history: list[dict[str, Any]]) -> None:
    """The whole history each time: a resumed run leaves no line twice."""
    with atomic.replacing(run.path("log.jsonl")) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")


def best(run: Run) -> tuple[str, float | None]:
    """What a run was validated by (dice or auroc), and the best value in its log; None where it was never defined.

    Raises:
        Refusal: no log, or a damaged one.
    """
    with parsing(run.path("log.jsonl"), needed="the log of a training", remedy="run `medseg train` to the end"):
        entries = [json.loads(line) for line in run.path("log.jsonl").read_text(encoding="utf-8").splitlines()]
        measure = next(name for name in MEASURES if any(name in entry for entry in entries))
        return measure, max((entry[measure] for entry in entries if entry.get(measure) is not None), default=None)


@contextmanager
def tensorboard(run: Run, *, wanted: bool) -> Iterator[Any]:
    """A writer of TensorBoard logs, closed at the end; None if it is not wanted."""
    if not wanted:
        yield None
        return
    need("tensorboard", extra="tensorboard", purpose="write TensorBoard logs")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run.path("tensorboard"))) as writer:
        yield writer


def scalars(writer: Any, entry: dict[str, Any]) -> None:
    for name in ("loss", "lr", "dice", "auroc", "wait", "seconds_a_step"):
        if entry.get(name) is not None:
            writer.add_scalar(name, entry[name], entry["epoch"])
    for measure in MEASURES:
        for label, value in entry.get(f"{measure}_per_label", {}).items():
            if value is not None:
                writer.add_scalar(f"{measure}/{label}", value, entry["epoch"])
    writer.flush()
