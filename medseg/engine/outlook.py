"""What a prediction would take: each scan is read and planned for as ever, and a piece of it is timed; nothing is kept.

How long the rest takes follows from the piece: tiles and networks are counted, and all else grows with the voxels. What
the piece does not show is left out: writing, and the start of the program.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg import scratch
from medseg.case import Case
from medseg.dicom.objects import NOTE_OF_CHECK
from medseg.engine import device as devices
from medseg.engine import memory, stages
from medseg.engine.bench import Bench, Order, Series
from medseg.engine.budget import SCRATCH_SHARE
from medseg.engine.forecast import Forecast
from medseg.engine.gate import Gate
from medseg.engine.predict import Predictor
from medseg.plan import AXIS_OF, Plan
from medseg.progress import Course
from medseg.refusal import Refusal
from medseg.transforms.prepare import way_back
from medseg.volume import Volume

PASSES = 2
"""Batches of tiles of a piece: the first is always slow."""
LONG = 8.0
"""Seconds that a piece may take to be looked at a second time, when everything is warm."""
COARSER = 2.0
"""How many times the plan's voxels a scan's may be large without a word."""
WHOLE = ("plan", "prepare", "reduce", "clean-up", "judge")
"""Stages that take as long for each voxel of a scan."""


@dataclass(frozen=True)
class Outlook:
    """What is to be expected of one case.

    Attributes:
        refusal: why it would not be predicted; what was not reached before it is None below.
        shape, spacing_mm: of the scan, along I, J, K.
        tiles: that a network sees, once each; networks and mirrored passes come on top.
        needed, free: bytes of the host's memory, of the whole process.
        gpu_needed, gpu_free: the same of a GPU.
        seconds: from reading to the result, without writing.
    """

    case: str
    refusal: Refusal | None = None
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, ...] | None = None
    tiles: int | None = None
    needed: int | None = None
    free: int | None = None
    gpu_needed: int | None = None
    gpu_free: int | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "case": self.case,
            "state": "refused" if self.refusal else "fits",
            "error": self.refusal.to_json() if self.refusal else None,
            "shape": self.shape,
            "spacing_mm": self.spacing_mm,
            "tiles": self.tiles,
            "memory": {
                "needed": self.needed,
                "free": self.free,
                "gpu_needed": self.gpu_needed,
                "gpu_free": self.gpu_free,
            },
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """For people."""
        if self.refusal:
            return [f"{self.case}: refused: {self.refusal}"]
        told = [f"{self.case}: fits"]
        if self.shape and self.spacing_mm:
            sizes = " x ".join(map(str, self.shape)), " x ".join(f"{side:.3g}" for side in self.spacing_mm)
            told.append(f"{sizes[0]} voxels of {sizes[1]}")
        if self.tiles is not None:
            told.append(f"{self.tiles} tiles")
        for need, free, where in ((self.needed, self.free, ""), (self.gpu_needed, self.gpu_free, " on the GPU")):
            if need is not None and free is not None:
                told.append(f"about {memory.text(need)} of {memory.text(free)}{where}")
        if self.seconds is not None:
            told.append(f"about {self.seconds:.0f} s")
        return [", ".join(told), *(f"{self.case}: {warning}" for warning in self.warnings)]


def look(bench: Bench, cases: Sequence[Case], out: Path, *, series: Series = None) -> Iterator[Outlook]:
    """What is to be expected of each case, in their order; one that is refused does not stop the others.

    Args:
        bench: as for the prediction itself.
        out: where results would go; it need not be there and is not made.
    """
    course = Course(lambda step: None, "", 1, 1)
    with scratch.on_disk(None, above=bench.predictor.limits.host_bytes() // SCRATCH_SHARE):
        for case in cases:
            yield _guarded(bench, Order(case, out, course, series))


def _guarded(bench: Bench, order: Order) -> Outlook:
    try:
        return _case(bench, order)
    except Refusal as refusal:
        return Outlook(order.id, refusal)
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        return Outlook(order.id, _ran_out(order.id))
    finally:
        devices.give_back(after_error=True)


def _case(bench: Bench, order: Order) -> Outlook:
    started, predictor = time.perf_counter(), bench.predictor
    scan = bench.scan(order)
    reading = time.perf_counter() - started
    seen = Outlook(
        order.id, None, scan.shape, tuple(scan.spacing_mm.tolist()), warnings=_warnings(scan, predictor.plan)
    )
    try:
        if predictor.table.unit == "voxel":
            return _segmented(seen, bench, order, scan, reading)
        return _classified(seen, predictor, order, scan, reading)
    except Refusal as refusal:
        return replace(seen, refusal=refusal)


def _segmented(seen: Outlook, bench: Bench, order: Order, scan: Volume, reading: float) -> Outlook:
    predictor = bench.predictor
    forecast, facts = predictor.forecast(
        scan, probabilities=bench.probabilities, uncertainty=bench.uncertainty, roi=bench.roi
    )
    warnings = [*seen.warnings, *facts.get("warnings", ())]
    if predictor.coarse and bench.roi is None:
        warnings.append("a coarse pass comes first; time and memory are those of the whole scan without it")
    piece = _piece(scan, forecast, predictor.settings.overlap)
    spent, tiles = _timed(bench, predictor.trial(forecast.layout.batch), piece, order)
    network = spent.get("network", 0.0) / max(1, tiles) * facts["tiles"] * predictor.answers
    ratio = scan.array.size / piece.array.size
    done = _labelled(forecast) / math.prod(piece.shape)
    rest = sum(seconds * (done if name == "reduce" else ratio) for name, seconds in spent.items() if name in WHOLE)
    preparing = spent.get("prepare", 0.0) * ratio * (len(predictor.members) - 1)
    seen = replace(
        seen,
        tiles=facts["tiles"],
        needed=forecast.host.total,
        free=int(forecast.room.host),
        gpu_needed=forecast.gpu.total if forecast.gpu else None,
        gpu_free=int(forecast.room.gpu) if forecast.gpu else None,
        seconds=reading + network + rest + preparing,
        warnings=tuple(warnings),
    )
    return _gated(seen, bench.gate, order, scan, forecast.host.results) if isinstance(bench.gate, Gate) else seen


def _gated(seen: Outlook, gate: Gate, order: Order, scan: Volume, results: int) -> Outlook:
    """With the gate's pass, which comes when the labels are there, of so many bytes; its network is held already.

    Raises:
        Refusal: there is too little memory for it.
    """
    after = _classified(seen, gate.predictor, order, gate.channels(scan), 0.0)
    needed = max(seen.needed or 0, (after.needed or 0) + results)
    if seen.free is not None and needed > seen.free:
        raise Refusal(
            order.id,
            found=f"that the gate takes it to about {memory.text(needed)} of memory, where {memory.text(seen.free)} "
            "may be had",
            needed=f"about {memory.text(needed)}",
            remedy="end other programs, use a machine with more memory, or leave out --gate",
            code="memory",
        )
    return replace(seen, needed=needed, seconds=(seen.seconds or 0.0) + (after.seconds or 0.0))


def _classified(seen: Outlook, predictor: Predictor, order: Order, scan: Volume, reading: float) -> Outlook:
    """By one whole answer: a classifier sees all of an image at once."""
    if predictor.device.type == "cpu":
        tiles, more = predictor.memory_of_classes(scan)
        seen = replace(seen, tiles=tiles, needed=memory.resident() + more, free=predictor.limits.host_bytes())
    trial = predictor.trial(1)
    spent = _twice(lambda: trial.classify(scan, order.id, centre=order.case.centre))
    each = spent.get("prepare", 0.0) * len(predictor.members) + spent.get("network", 0.0) * predictor.answers
    return replace(seen, seconds=reading + each)


def _timed(bench: Bench, trial: Predictor, piece: Volume, order: Order) -> tuple[dict[str, float], int]:
    """Seconds of each stage, and how many tiles there were."""
    done = 0

    def count(now: int, total: int) -> None:
        nonlocal done
        done = now

    spent = _twice(
        lambda: trial.predict_volume(
            piece,
            order.id,
            count,
            centre=order.case.centre,
            probabilities=bench.probabilities,
            uncertainty=set(bench.uncertainty) - {"disagreement"},  # one answer cannot disagree
        )
    )
    return spent, done


def _twice(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of each stage, of the second time unless the first was `LONG`."""
    for _ in range(2):
        clock, started = stages.Clock(), time.perf_counter()
        with stages.timed_by(clock):
            work()
        if time.perf_counter() - started > LONG:
            break
    return {stage["name"]: stage["seconds"] for stage in clock.to_json()}


def _piece(scan: Volume, forecast: Forecast, overlap: float) -> Volume:
    """A box in the middle of what is not cropped away that `PASSES` batches of tiles cover."""
    undo, layout, tile = forecast.task.undo, forecast.layout, forecast.task.tiling.tile
    box = [slice(0, side) for side in scan.shape]
    for axis, (side, (start, stop), prepared) in enumerate(zip(tile, undo.crop, undo.prepared, strict=True)):
        wanted = side * (1 + (1 - overlap) * (PASSES * layout.batch - 1)) if axis == layout.axis else side
        length = min(stop - start, max(1, math.floor(wanted * (stop - start) / prepared)))
        first = (start + stop - length) // 2
        if undo.flips[axis]:
            first = undo.canonical[axis] - first - length
        box[undo.permutation[axis]] = slice(first, first + length)
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return replace(scan, array=scan.array[(slice(None), *box)], affine=affine)


def _labelled(forecast: Forecast) -> int:
    """Voxels of the scan that get labels from a network."""
    return sum(math.prod(part.stop - part.start for part in block) for block in forecast.layout.blocks)


def _warnings(scan: Volume, plan: Plan) -> tuple[str, ...]:
    """What a person would want to know of the scan before it is predicted."""
    noted = scan.source.notes.get(NOTE_OF_CHECK)
    return (*([f"check of the series: {noted}"] if noted else []), *_coarse(scan, plan))


def _coarse(scan: Volume, plan: Plan) -> list[str]:
    if plan.spacing_mm == "native" or scan.unit != "mm" or plan.size is not None:
        return []
    axes = way_back(scan, plan).permutation
    own = [float(scan.spacing_mm[axis]) for axis in axes]
    if all(side <= COARSER * its for side, its in zip(own, plan.spacing_mm, strict=True)):
        return []
    names = [AXIS_OF[letter] for letter in plan.orientation]
    sides = " x ".join(f"{side:.3g}" for _, side in sorted(zip(names, own, strict=True)))
    return [
        f"voxels of {sides} mm, and the model works at {plan.spacing_text()}: what is smaller than a voxel is not found"
    ]


def _ran_out(case: str) -> Refusal:
    return Refusal(
        case,
        found="that memory ran out when a piece of it was tried",
        needed="more of it, free",
        remedy="end other programs, or use a machine with more memory",
        code="memory",
    )
