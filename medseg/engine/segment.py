"""One scan through the networks into labels on its own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medseg.config import PredictSettings
from medseg.engine import stages, tiles
from medseg.plan import Plan
from medseg.transforms import native
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
    probabilities: np.ndarray | None = None,
) -> np.ndarray:
    """Network target on the scan's grid.

    Args:
        members: what is averaged; their images are what `undo` came with.
        channels: of the networks' answers.
        exclusive, order, probabilities: see `native.Landing`.
        on_tile: called with (tiles done, tiles in all).

    Returns:
        As `native.blank`.
    """
    target = native.blank(undo, channels, exclusive=exclusive, slowest=layout.axis)
    landings = [
        native.Landing(
            undo,
            target,
            exclusive=exclusive,
            axis=layout.axis,
            box=box,
            order=order,
            probabilities=probabilities,
        )
        for box in layout.blocks
    ]
    total = sum(len(band) for one in landings for band in tiling.touching(one.reads, layout.axis))
    done = 0

    def count(tiles_done: int) -> None:
        nonlocal done
        done += tiles_done
        if on_tile:
            on_tile(done, total)

    for landing in landings:
        rows = tiles.stream(
            members,
            tiling,
            landing.reads,
            axis=layout.axis,
            halo=landing.halo,
            batch=layout.batch,
            kind=layout.kind,
            home=layout.home,
            on_tiles=count,
        )
        for first, scores in stages.each("network", rows, between="reduce"):
            landing.take(first, scores)
    return target


def whole(undo: Undo, *, axis: int, batch: int = 1) -> Layout:
    """Everything in one piece along an axis."""
    return Layout(axis, (native.everything(undo.cropped),), batch)


def tiling(shape: Sequence[int], plan: Plan, settings: PredictSettings) -> tiles.Tiling:
    """The tiles of a prepared image (i, j, k)."""
    return tiles.Tiling.of(shape, plan.patch, overlap=settings.overlap, blend=settings.blend, context=plan.context)
