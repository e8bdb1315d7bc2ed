"""What decides how much memory a scan takes, what it will take, and how that is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from medseg.engine.memory import MIB, text
from medseg.engine.need import Need
from medseg.engine.segment import Layout
from medseg.engine.tiles import Tiling
from medseg.plan import AXIS_OF
from medseg.transforms.prepare import Undo

AXES = {"x": "left-right", "y": "anterior-posterior", "z": "inferior-superior"}


@dataclass(frozen=True)
class Task:
    """What decides how much memory a scan needs.

    Attributes:
        orientation: of the prepared grid, the plan's.
        channels: of the networks' answers.
        images, results: bytes of each array of the whole scan that is still to be made: prepared, and on the scan.
        kept: how many channels are kept as probabilities.
        entropy: whether a map of it is kept.
        disputed: whether a map of the members' disagreement is kept.
        judged: bytes that it takes to judge the result afterwards.
        order: of the resampling of scores.
        device: where networks answer.
        several: whether there are several networks, so that one's answers wait for the next one's.
        batch: most tiles a forward pass; None: as suits the device.
    """

    undo: Undo
    orientation: str
    tiling: Tiling
    need: Need
    channels: int
    device: torch.device
    images: tuple[int, ...] = ()
    results: tuple[int, ...] = ()
    kept: int = 0
    entropy: bool = False
    disputed: bool = False
    judged: int = 0
    order: int = 1
    several: bool = False
    batch: int | None = None

    @property
    def all_channels(self) -> bool:
        """Whether all channels are looked at in every place, see `transforms.kept`."""
        return self.kept > 0 or self.entropy


@dataclass(frozen=True)
class Estimate:
    """Bytes of one memory at the worst moment of a scan.

    Attributes:
        process: held before and besides: the program, its libraries, the weights, the scan.
        images: prepared, as far as they are not on the disk.
        results: labels and probabilities, likewise.
        preparing: while the scan is prepared, or the result written.
        network: a forward pass, answers included.
        means: running means of the answers.
        reducing: while labels are made of them.
    """

    process: int
    images: int = 0
    results: int = 0
    preparing: int = 0
    network: int = 0
    means: int = 0
    reducing: int = 0

    @property
    def working(self) -> int:
        """What another way to cut changes."""
        return self.means + max(self.network, self.reducing)

    @property
    def total(self) -> int:
        return self.process + self.images + self.results + max(self.preparing, self.working)


@dataclass(frozen=True)
class Room:
    """Bytes that all may take together, and that what can be cut may take."""

    host: float
    gpu: float
    host_working: float = math.inf
    gpu_working: float = math.inf

    def holds(self, host: Estimate, gpu: Estimate | None) -> bool:
        if host.total > self.host or host.working > self.host_working:
            return False
        return gpu is None or (gpu.total <= self.gpu and gpu.working <= self.gpu_working)


@dataclass(frozen=True)
class Forecast:
    """A layout and what it will take.

    Attributes:
        tiles: that the networks see, if none is skipped.
        gpu: None without one.
        room: that there was.
    """

    task: Task
    layout: Layout
    tiles: int
    host: Estimate
    gpu: Estimate | None
    room: Room

    def sentence(self) -> str:
        """For people, in one line."""
        task, layout = self.task, self.layout
        sizes = " x ".join(map(str, task.undo.prepared))
        along = AXES[AXIS_OF[task.orientation[layout.axis]]]
        blocks = f" in {len(layout.blocks)} blocks" * (len(layout.blocks) > 1)
        batch = f", {layout.batch} tiles at a time" * (layout.batch > 1)
        kind = str(layout.kind).removeprefix("torch.")
        home = "CPU" if layout.home == "cpu" else "GPU"
        used = f"about {text(self.host.total)} of {text(self.room.host)}"
        if self.gpu:
            used += f", and {text(self.gpu.total)} of {text(self.room.gpu)} on the GPU"
        return (
            f"{sizes} voxels, {task.channels} classes: along {along}{blocks}{batch}, means in {kind} on the {home}; "
            f"{used}"
        )

    def to_json(self) -> dict[str, object]:
        """Facts for the record."""
        gpu = {"gpu_estimate_mib": round(self.gpu.total / MIB)} if self.gpu else {}
        return {"memory_plan": self.sentence(), "memory_estimate_mib": round(self.host.total / MIB), **gpu}
