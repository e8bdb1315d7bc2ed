"""How much memory a network takes for a tile, found by letting it answer two small ones."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from medseg.refusal import Refusal

SMALL = 32
"""Sides of the tiles that are tried, or the next number that the network takes."""
SLACK = {"cpu": 2.1, "exact": 1.25, "cuda": 1.25, "mps": 1.25}
"""What a process really comes to hold, over the tensors and copies for convolutions that are alive at once; the rest
lies in holes between blocks. Measured on a CPU with an allocator that keeps freed blocks, several tiles one after
another, the most of each network: residual U-Net 1.92 (64^3 tile, float32) and 1.73 (96^3; bf16 1.49), with the
channels innermost 1.4 and 1.9; U-Net 1.5 and 1.6; Swin UNETR 1.8. torch's allocator for GPUs has smaller holes, and one
that is exact has none: a quarter is left for what convolutions take without saying so. With it a residual U-Net of 105
classes (96^3) came to 3530 MiB where 4054 were foretold."""
ANSWERS = {"cpu": 1.5, "exact": 1.1, "cuda": 1.5, "mps": 1.5}
"""The same for answers and their copy, which come last: sometimes the next ones do not fit into the hole that those of
the last one left, and a third block is taken. Seen with 105 classes (96^3): residual U-Net 1.2, STU-Net S 1.4; with 150
(48^3), where answers are nearly all, 1.0 to 1.5 from one run to the next."""


@dataclass(frozen=True)
class Need:
    """Bytes of a forward pass, answers included.

    Attributes:
        fixed: whatever the tile, such as copies of weights in another number format.
        per_voxel: of all tiles in a batch.
    """

    fixed: float
    per_voxel: float

    def of(self, tile: Sequence[int], batch: int = 1) -> int:
        return int(self.fixed + self.per_voxel * math.prod(tile) * batch)


def measure(
    forward: Callable[[Tensor], Tensor],
    *,
    channels: int,
    tile: Sequence[int],
    context: int = 0,
    divisor: Sequence[int] | None = None,
    exact: bool = False,
    casts: int = 0,
    device: torch.device,
) -> Need:
    """What a forward function takes for tiles of (i, j, k) voxels.

    Two tiles of different sizes tell what grows with them and what does not. A network that refuses small ones is given
    a whole one.

    Args:
        channels: of the input.
        context: slices along k that the network sees on each side of a tile.
        divisor: sides must be multiples of it; None: not known.
        exact: whether the allocator keeps no freed blocks, see `device.tune_allocator`.
        casts: bytes of weights in another number format, which torch makes and keeps for a pass without saying so.
    """

    place = "exact" if exact and device.type == "cpu" else device.type
    slack, held = SLACK.get(place, SLACK["cpu"]), ANSWERS.get(place, ANSWERS["cpu"])

    def taken(sides: Sequence[int]) -> float:
        live = _Live()
        seen = torch.zeros((1, channels, *sides[:2], sides[2] + 2 * context))
        with live:
            answers = 2 * forward(seen).nbytes
        return slack * max(0, live.peak - answers) + held * min(live.peak, answers)

    small = [min(side, one * -(-SMALL // one)) for side, one in zip(tile, divisor or tile, strict=True)]
    longer = [min(tile[0], 2 * small[0]), *small[1:]]
    if longer[0] > small[0] and math.prod(longer) < math.prod(tile):
        try:
            low, high = taken(small), taken(longer)
        except (Refusal, RuntimeError, ValueError, AssertionError):  # each network says in its own way that it will not
            pass
        else:
            per_voxel = max(0.0, high - low) / (math.prod(longer) - math.prod(small))
            return Need(casts + max(0.0, low - per_voxel * math.prod(small)), per_voxel)
    return Need(casts, taken(tile) / math.prod(tile))


class _Live(TorchFunctionMode):
    """Counts the bytes of tensors that are alive, as far as they were made while it is on.

    Attributes:
        peak: the most at once, with the copies in another order that a convolution makes of what it reads and writes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in _tensors((args, kwargs or {})):
            self._known.add(_key(tensor))  # weights and the like were there before
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._hold(tensor)
        copies = 0
        if "conv" in getattr(func, "__name__", ""):
            copies = sum(one.nbytes for one in _tensors((args[:1], out)))
        self.peak = max(self.peak, self._now + copies)
        return out

    def _hold(self, tensor: Tensor) -> None:
        key, storage = _key(tensor), tensor.untyped_storage()
        if key in self._known:
            return
        self._known.add(key)
        self._now += storage.nbytes()
        weakref.finalize(storage, self._drop, key, storage.nbytes())

    def _drop(self, key: int, count: int) -> None:
        self._known.discard(key)
        self._now -= count


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
