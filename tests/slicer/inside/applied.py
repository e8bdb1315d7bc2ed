"""What the tests of Apply share: a desk that polls as the panel does, and back ends that do as they are told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from shapes import nodes

from MedSegLib import models
from MedSegLib.apply import Apply, Result
from MedSegLib.runs import Entry, Runs
from MedSegLib.steps import Before
from MedSegLib.work import DONE, Order, Outcome, Run

PATIENCE_S = 250


def model(made: Path, name: str) -> models.Model:
    """As `medseg info --json` would tell of it."""
    folder = made / "models" / name
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["labels"]
    described = tuple(models.Label(one["index"], one["name"], tuple(one["colour"]), "", "") for one in labels)
    kind = "image" if name == "classes" else "voxel"
    return models.Model(name, str(folder), tuple(plan["channels"]), (), described, kind, None, "", "", 0)


class Desk:
    """What the panel is for the others: a queue that is polled, and results."""

    def __init__(self, mrml: Any, backend: Any, temporary: Path):
        self.runs, self.temporary, self.scene = Runs(), temporary, mrml
        self.results: list[Result] = []
        self.apply = Apply(backend, self.runs, mrml, shown=self.results.append, temporary=temporary)

    def until(self, reached: Callable[[], bool]) -> None:
        """Poll as Qt's timer does."""
        end = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < end, self.runs.entries
            self.runs.poll()
            time.sleep(0.02)

    def over(self, number: int) -> Entry:
        """The entry of a run that has ended and has been told."""
        self.until(lambda: self.runs.entries[number - 1].over)
        self.runs.poll()
        return self.runs.entries[number - 1]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.temporary.rglob("*"))

    def ids(self) -> list[str]:
        return [node.GetID() for node in nodes(self.scene)]


def scan(made: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(made / "scan.npz") as kept:
        return kept["image"], kept["affine"]


class Canned:
    """A back end that gives what it is told to."""

    def __init__(self, result: Callable[[Order], Outcome]):
        self._result = result
        self.orders: list[Order] = []

    def start(self, order: Order) -> Run:
        self.orders.append(order)
        return Before([self._result(order)])


def broken(order: Order) -> Outcome:
    (order.folder / "x.seg.nrrd").write_bytes(b"cut short")
    return Outcome(DONE, {"x.seg.nrrd": order.folder / "x.seg.nrrd"})


class Stopped(Canned):
    """Whose runs go on until they are let go."""

    let_go = False

    def start(self, order: Order) -> Run:
        self.orders.append(order)
        return self

    def poll(self) -> list[Any]:
        return [self._result(self.orders[-1])] if self.let_go else []

    def cancel(self) -> None:
        pass
