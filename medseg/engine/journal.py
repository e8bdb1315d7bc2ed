"""What a run writes down of its epochs, for people and for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medseg import atomic
from medseg.engine.run import Run
from medseg.optional import need


def log(run: Run, history: list[dict[str, Any]]) -> None:
    """The whole history each time: a resumed run leaves no line twice."""
    with atomic.replacing(run.path("log.jsonl")) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")


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
    for measure in ("dice", "auroc"):
        for label, value in entry.get(f"{measure}_per_label", {}).items():
            if value is not None:
                writer.add_scalar(f"{measure}/{label}", value, entry["epoch"])
    writer.flush()
