"""How the work on one scan is cut up so that it stays within a limit of memory; everything that takes some is named.

Labels should not depend on the machine. So means are float32 as long as any way to cut fits, and only what costs time
is given up: more blocks across the stream, whose tiles at the seams are seen twice. Half precision comes last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from medseg import scratch
from medseg.config import PredictSettings
from medseg.engine import memory
from medseg.engine.cuts import Cut, cuts
from medseg.engine.forecast import Estimate, Forecast, Room, Task
from medseg.engine.memory import MIB, Limits, text
from medseg.engine.segment import Layout
from medseg.plan import AXIS_OF
from medseg.refusal import Refusal
from medseg.transforms import native, slabs
from medseg.transforms.prepare import Slices, Undo

SCRATCH_SHARE = 16
"""Arrays of a whole scan go to the disk when one takes more than this part of the limit."""
BATCHES = (8, 4, 2, 1)
"""Tiles a forward pass that a GPU is offered; a CPU is as fast with one."""
HOST_COST = 2.0
"""How much longer a tile takes when the GPU's answers are collected on the host: logits of a hundred classes have to
travel, and a few CPU cores add them up more slowly than a GPU computes them."""
LIBRARIES = 64 * MIB
"""What libraries take when they are first used: kernels made for a shape, stacks of threads, tables."""
SLABS = 10
"""Float32 slabs that are alive while a scan is prepared, or a result written; see `transforms.slabs`."""
TEMPORARIES = 8
"""Float32 arrays of `Cut.strip` voxels that are alive while scores become labels; see `native.Landing`."""
DISPUTED = 5
"""Answers of a tile that are alive besides the network's own while it is found how far members disagree; see
`engine.dispute`."""
HOLES = 1.5
"""What a process was seen to take over its estimate, at most, where freed blocks are kept (105 classes: 1.42)."""
LESS = 0.5
"""Share of what can be saved of the memory that could not be had that is kept at the next attempt."""
ROUND = 16 * MIB


def plan(task: Task, limits: Limits, *, boxes: Sequence[Slices] | None = None) -> Forecast:
    """The layout with the least work that stays within the limits.

    Args:
        boxes: of the crop, canonical, that get labels; None: all of it.

    Raises:
        Refusal: no layout does; it says which limit would do.
    """
    boxes = (native.everything(task.undo.cropped),) if boxes is None else boxes
    room = Room(limits.host_bytes(), limits.gpu_bytes(task.device))
    found = _best(task, boxes, room)
    if found is None:
        raise _too_little(task, boxes, room, limits)
    return found


def roomy(task: Task, limits: Limits, *, boxes: Sequence[Slices] | None = None) -> bool:
    """Whether the host has room for the way with the least work where the allocator keeps freed blocks, and for holes
    between these; see `device.tune_allocator`."""
    boxes = (native.everything(task.undo.cropped),) if boxes is None else boxes
    way = next(_ways(task, boxes))
    host = way.host(task, _batches(task)[0], _process(task)[0], scratch.threshold())
    return HOLES * host.total <= limits.host_bytes()


def smaller(forecast: Forecast, boxes: Sequence[Slices], *, gpu: bool) -> Forecast:
    """A plan for what is left after memory ran out: half of the batch, or less for means and tiles.

    Args:
        boxes: of the crop that have no labels yet.
        gpu: whether it was the GPU's memory.

    Raises:
        Refusal: there is none.
    """
    task = replace(forecast.task, images=(), results=())  # they are there already
    layout, room = forecast.layout, forecast.room
    on_gpu = gpu and forecast.gpu is not None
    short = forecast.gpu if on_gpu and forecast.gpu else forecast.host
    if layout.batch > 1:
        task = replace(task, batch=layout.batch // 2)
    else:
        least = _least_working(task, boxes, on_gpu)
        if least >= short.working:
            raise _run_out(short, on_gpu)
        cap = least + LESS * (short.working - least)
        room = replace(room, gpu_working=cap) if on_gpu else replace(room, host_working=cap)
    found = _best(task, boxes, room)
    if found is None:
        raise _run_out(short, on_gpu)
    return found


def _least_working(task: Task, boxes: Sequence[Slices], on_gpu: bool) -> int:
    estimates = [way.gpu(task, 1, 0) if on_gpu else way.host(task, 1, 0, 0) for way in _ways(task, boxes)]
    return min(one.working for one in estimates if one)


def _run_out(short: Estimate, on_gpu: bool) -> Refusal:
    used = text(short.total) + " on the GPU" * on_gpu
    return Refusal(
        "memory",
        found=f"that it ran out with about {used} in use, and no way to do with less",
        needed=f"about {used}, free",
        remedy="end other programs, or use a machine with more memory" + ", or --device cpu" * on_gpu,
        code="memory",
    )


class Course:
    """The plan for one scan, and those that take its place when memory runs out all the same.

    Attributes:
        forecast: the latest.
    """

    def __init__(
        self,
        task: Task,
        limits: Limits,
        *,
        boxes: Sequence[Slices] | None = None,
        tell: Callable[[Forecast], None] | None = None,
    ):
        """As `plan`; `tell` is called with each plan before the work by it begins."""
        self._tell = tell or (lambda forecast: None)
        self.forecast = plan(task, limits, boxes=boxes)
        self._tell(self.forecast)

    def smaller(self, boxes: Sequence[Slices], gpu: bool) -> Layout:
        """See `smaller` and `segment.Smaller`."""
        self.forecast = smaller(self.forecast, boxes, gpu=gpu)
        self._tell(self.forecast)
        return self.forecast.layout


def most(settings: PredictSettings) -> int | None:
    """Tiles a forward pass as the settings have it; None: as suits the device."""
    return None if settings.batch == "auto" else settings.batch


def result_sizes(undo: Undo, channels: int, *, exclusive: bool, kept: Sequence[int] = ()) -> tuple[int, ...]:
    """Bytes of a network target, see `native.blank`, and of maps that are kept, each of so many float32 a voxel."""
    voxels = math.prod(undo.shape)
    labels = voxels * (2 if exclusive and channels > 256 else 1 if exclusive else channels)
    return labels, *(4 * voxels * numbers for numbers in kept)


def _best(task: Task, boxes: Sequence[Slices], room: Room) -> Forecast | None:
    """The first way that fits, and the largest batch with it."""
    process, above = _process(task), scratch.threshold()
    for way in _ways(task, boxes):
        for batch in _batches(task):
            host, gpu = way.host(task, batch, process[0], above), way.gpu(task, batch, process[1])
            if room.holds(host, gpu):
                layout = Layout(way.cut.axis, way.cut.blocks, batch, way.kind, way.home)
                return Forecast(task, layout, way.cut.tiles, host, gpu, room)
    return None


def _process(task: Task) -> tuple[int, int]:
    """Bytes held now, of the host's memory and the GPU's."""
    gpu = torch.cuda.memory_allocated(task.device) if task.device.type == "cuda" else 0
    return memory.resident() + LIBRARIES, gpu


def _batches(task: Task) -> list[int]:
    if task.batch is None:
        return list(BATCHES) if task.device.type == "cuda" else [1]
    return [task.batch >> step for step in range(task.batch.bit_length())]


@dataclass(frozen=True)
class _Way:
    cut: Cut
    kind: torch.dtype
    home: str

    def means(self, task: Task) -> int:
        item = 4 if self.kind == torch.float32 else 2
        return self.cut.window(task.tiling.tile) * (item * (task.channels + task.disputed) + 4)

    def reducing(self, task: Task) -> int:
        ratio = math.prod(task.undo.prepared) / math.prod(task.undo.cropped)
        return int(
            4
            * self.cut.strip(self.home, all_channels=task.all_channels)
            * max(1.0, ratio)
            * (TEMPORARIES + 3 * task.all_channels * task.channels)
        )

    def network(self, task: Task, batch: int) -> int:
        """With the answers of another network, or a half-precision network's in float32; and `DISPUTED`."""
        answers = 4 * task.channels * math.prod(task.tiling.tile) * batch
        return task.need.of(task.tiling.tile, batch) + answers * (task.several + DISPUTED * task.disputed)

    def host(self, task: Task, batch: int, process: int, above: float) -> Estimate:
        apart = task.device.type == "cuda"
        answers = 4 * task.channels * math.prod(task.tiling.tile) * batch
        axis, here = self.cut.axis, self.home == "cpu"
        band = min(1.0, 2 * task.tiling.tile[axis] / task.undo.prepared[axis])  # of what is mapped from the disk
        images, results = (
            sum(size if size <= above else int(band * size) for size in sizes) for sizes in (task.images, task.results)
        )
        return Estimate(
            process=process,
            images=images,
            results=results,
            preparing=max(task.judged, _preparing(task.undo) if task.images or task.results else 0),
            network=(answers * here if apart else self.network(task, batch)),
            means=self.means(task) * here,
            reducing=self.reducing(task) * here,
        )

    def gpu(self, task: Task, batch: int, process: int) -> Estimate | None:
        if task.device.type != "cuda":
            return None
        here = self.home != "cpu"
        return Estimate(
            process=process,
            preparing=_preparing(task.undo) if task.images else 0,
            network=self.network(task, batch),
            means=self.means(task) * here,
            reducing=self.reducing(task) * here,
        )


def _ways(task: Task, boxes: Sequence[Slices]) -> Iterator[_Way]:
    """In the order of preference: float32, less work, the body's long axis (along which files mostly lie), less
    memory."""
    homes = {str(task.device): 1.0, "cpu": HOST_COST} if task.device.type == "cuda" else {"cpu": 1.0}
    found = list(cuts(task.undo, task.tiling, boxes, task.order))
    for kind in (torch.float32, torch.float16):
        ways = [(cost, _Way(cut, kind, home)) for cut in found for home, cost in homes.items()]

        def rank(one: tuple[float, _Way]) -> tuple[float, bool, int]:
            cost, way = one
            long = AXIS_OF[task.orientation[way.cut.axis]] == "z"
            return cost * way.cut.tiles, not long, way.cut.window(task.tiling.tile)

        yield from (way for _, way in sorted(ways, key=rank))


def _preparing(undo: Undo) -> int:
    """The slab is `slabs.VOXELS`, or a plane if that is more, or all of a small scan."""
    first, second, third = (max(sizes) for sizes in zip(undo.canonical, undo.prepared, strict=True))
    plane = max(first * second, first * third, second * third)
    return SLABS * 4 * min(max(slabs.VOXELS, plane), first * second * third)


def _too_little(task: Task, boxes: Sequence[Slices], room: Room, limits: Limits) -> Refusal:
    """With the smallest limit that can be met."""
    ways, process = list(_ways(task, boxes)), _process(task)
    on_gpu = [way.gpu(task, 1, process[1]) for way in ways]
    least = min((gpu.total for gpu in on_gpu if gpu), default=0)
    if least > room.gpu:
        return _refusal("GPU memory", "--max-gpu-memory", room.gpu, least + memory.CUDA_CONTEXT, limits.gpu)
    fitting = [way for way, gpu in zip(ways, on_gpu, strict=True) if gpu is None or gpu.total <= room.gpu]
    above = scratch.threshold()
    if math.isfinite(above):  # another limit moves other arrays to the disk
        least = 0
        for _ in range(1 + len(task.images) + len(task.results)):
            least = min(way.host(task, 1, process[0], least / SCRATCH_SHARE).total for way in fitting)
    else:
        least = min(way.host(task, 1, process[0], above).total for way in fitting)
    return _refusal("memory", "--max-memory", room.host, least, limits.host)


def _refusal(where: str, flag: str, room: float, least: int, limit: int | None) -> Refusal:
    enough = int(np.ceil(1.02 * least / ROUND)) * ROUND  # a process is never quite as large as the last one
    return Refusal(
        where,
        found=f"a limit of {text(room)}" if limit is not None else f"{text(room)} that may be taken",
        needed=f"at least {enough // MIB} MiB for this scan and model",
        remedy=f"raise it to {flag} {enough // MIB}MiB"
        if limit is not None
        else "end other programs, or use a machine with more memory",
        code="memory",
    )
