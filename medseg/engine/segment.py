"""One scan through the networks into labels on its own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from medseg import scratch
from medseg.config import PredictSettings
from medseg.engine import device as devices
from medseg.engine import dispute, memory, stages, tiles
from medseg.plan import Plan
from medseg.transforms import native
from medseg.transforms.kept import Kept
from medseg.transforms.prepare import Slices, Undo


@dataclass(frozen=True)
class Layout:
    """How the work on one scan is cut up, so that it fits into memory.

    Attributes:
        axis: canonical axis along which tiles come.
        blocks: boxes of the crop, canonical, that together hold what gets labels; each is worked on by itself.
        batch: tiles a forward pass.
        kind: floating-point type of the running means.
        home: where they live.
    """

    axis: int
    blocks: tuple[Slices, ...]
    batch: int = 1
    kind: torch.dtype = torch.float32
    home: str = "cpu"


Smaller = Callable[[Sequence[Slices], bool], Layout]
"""Boxes of the crop without labels yet, and whether it was a GPU whose memory ran out -> how to go on with less."""


def segment(
    members: Sequence[tiles.Seen],
    tiling: tiles.Tiling,
    undo: Undo,
    layout: Layout,
    *,
    channels: int,
    exclusive: bool,
    order: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
    kept: Kept | None = None,
    smaller: Smaller | None = None,
) -> np.ndarray:
    """Network target on the scan's grid.

    Args:
        members: what is averaged; their images are what `undo` came with.
        channels: of the networks' answers.
        exclusive, order, kept: see `native.Landing`.
        on_tile: called with (tiles done, tiles in all); the latter grows where memory ran out and some are seen again.
        smaller: asked when memory runs out; rows that have their labels keep them. None: the error goes on.

    Returns:
        As `native.blank`.

    Raises:
        Refusal: `smaller` knows of nothing smaller.
    """
    target = native.blank(undo, channels, exclusive=exclusive, slowest=layout.axis)
    disputed = None
    if kept is not None and kept.disagreement is not None:
        disputed = partial(dispute.mean, exclusive=exclusive)
    stream = partial(tiles.stream, members, tiling, channels=channels, disputed=disputed)
    land = partial(native.Landing, undo, target, exclusive=exclusive, order=order, kept=kept)
    done = 0

    def count(tiles_done: int) -> None:
        nonlocal done
        done += tiles_done
        if on_tile:
            on_tile(done, total)

    left: tuple[Slices, ...] = layout.blocks
    total = count_tiles(tiling, undo, layout, order=order)
    while left:
        landing = land(axis=layout.axis, box=left[0])
        short = _fill(landing, stream, layout, count, forgiving=smaller is not None)
        left = left[1:]
        if short and smaller:
            devices.give_back(after_error=True)
            rest = native.with_part(landing.box, landing.axis, slice(landing.done, landing.box[landing.axis].stop))
            layout = smaller((rest, *left), short == "gpu")
            left = layout.blocks
            total = done + count_tiles(tiling, undo, layout, order=order)
    return target


def _fill(
    landing: native.Landing,
    stream: Callable[..., Iterator[tuple[int, torch.Tensor]]],
    layout: Layout,
    count: Callable[[int], None],
    *,
    forgiving: bool,
) -> str:
    """Labels of a block. Where `forgiving`: the memory that ran out on the way ("gpu" or "host"), else empty.

    A function of its own, so that what it held is gone when there has to be room for a second attempt.

    Args:
        stream: `tiles.stream`, told of all but how the work is cut up.
    """
    rows = stream(
        landing.reads,
        axis=layout.axis,
        halo=landing.halo,
        batch=layout.batch,
        kind=layout.kind,
        home=layout.home,
        on_tiles=count,
    )
    try:
        for first, scores in stages.each("network", rows, between="reduce"):
            landing.take(first, scores)
            scratch.let_go_all()
    except (MemoryError, RuntimeError) as error:
        if not forgiving or not memory.ran_out(error):
            raise
        return "gpu" if memory.on_gpu(error) else "host"
    return ""


def count_tiles(tiling: tiles.Tiling, undo: Undo, layout: Layout, *, order: int = 1) -> int:
    """How many tiles the networks will see; those that lie in two blocks are seen twice."""
    boxes = [native.reads(undo, block, order) for block in layout.blocks]
    return sum(len(band) for box in boxes for band in tiling.touching(box, layout.axis))


def tiling(
    shape: Sequence[int], plan: Plan, settings: PredictSettings, box: Sequence[slice] | None = None
) -> tiles.Tiling:
    """The tiles of a prepared image (i, j, k), or of a box of it."""
    return tiles.Tiling.of(
        shape, plan.patch, overlap=settings.overlap, blend=settings.blend, context=plan.context, box=box
    )
