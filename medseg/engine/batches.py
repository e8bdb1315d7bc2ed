"""Batches for the training loop, cut and varied by worker processes while the network computes, and how long the loop
had to wait for them."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from medseg import interrupts
from medseg.cores import available_cores
from medseg.engine import device as devices
from medseg.engine import memory
from medseg.engine.samples import Cut, Samples, Varied
from medseg.refusal import Refusal

PREFETCHED = 2
"""Batches that each worker has ready in advance."""
MOST = 8
"""Workers that auto takes for a GPU: cutting alone is quick, and each holds a copy of the libraries in memory."""
SHORT = 200
"""Steps below which auto takes no workers on a CPU: they need seconds to start."""
STARVED = 0.2
"""Share of the time above which waiting is worth a sentence."""
CHILD_ENDS = getattr(signal, "SIGCHLD", None)
"""The signal; Windows has none."""
ENDING_S = 0.5
"""How long an end is waited for that shows already."""
DEAD_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)( is killed by signal: ([^.]*))?")


class Pace(NamedTuple):
    """How fast training went since it was last asked."""

    wait: float
    """Share of the time, 0 to 1, in which the loop waited for a batch."""
    seconds_a_step: float


def numbers(first_step: int, total: int, *, size: int, rank: int, world: int) -> Iterator[list[int]]:
    """Sample numbers of each step from `first_step` on. They count from the start of training, over all processes."""
    for step in range(first_step, total):
        first = (step * world + rank) * size
        yield list(range(first, first + size))


def count_workers(wanted: int | Literal["auto"], *, device: torch.device, steps: int, processes: int = 1) -> int:
    """Worker processes for `train.workers`.

    Args:
        wanted: auto: on a GPU one for each core but one, at most MOST. On a CPU one if the network's threads leave a
            core to it, else none: where it takes turns with a thread, all other threads wait for that one.
        steps: still to do.
        processes: training processes that share this machine.
    """
    if wanted != "auto":
        return wanted
    if device.type != "cpu":
        return max(1, min(MOST, available_cores() // processes - 1))
    return int(steps >= SHORT and available_cores() > processes * torch.get_num_threads())


class Batches:
    """Batches in the order of `numbers`, on the device that trains. Use as a context manager around the loop, because
    a worker that dies is noticed wherever the loop happens to be.

    Args:
        batches: sample numbers of each.
        device: where they are wanted.
        vary_there: do what was drawn on that device, so that workers only cut: for a GPU, which a few cores could not
            keep busy otherwise. Else the workers do it.
        workers: processes; 0 does all in `next`. Batches do not hang on it.

    Raises:
        Refusal: from `next`, what a worker refused; from anywhere within the context, a worker died.
    """

    def __init__(
        self,
        samples: Samples,
        batches: Iterable[list[int]],
        *,
        device: torch.device,
        vary_there: bool = False,
        workers: int = 0,
    ):
        self._samples, self._device, self._workers = samples, device, workers
        self._loader = DataLoader(
            _Work(samples, vary=not vary_there),
            batch_sampler=batches,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # what it is given here is a whole batch
            num_workers=workers,
            prefetch_factor=PREFETCHED if workers else None,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_start_worker,
            pin_memory=device.type == "cuda",
        )
        self._ready: Iterator[Cut | Varied | Refusal] | None = None
        self._ahead: Varied | None = None
        self._since: float | None = None
        self._waited, self._steps, self._complained = 0.0, 0, False

    def __enter__(self) -> Batches:
        self._former = signal.getsignal(CHILD_ENDS) if CHILD_ENDS else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_children()  # first: what looks after them raises errors wherever it likes
        dead = self._dead_worker(error)
        # a traceback may keep the iterator alive, and workers, which no signal reaches, would outlast the program
        getattr(self._ready, "_shutdown_workers", _nothing)()
        self._ready = None
        if dead:
            raise _dead(*dead, self._workers) from error

    def _dead_worker(self, error: BaseException | None) -> tuple[str, str | None] | None:
        """Process and signal of a worker whose end is behind an error; None: it is something else."""
        told = DEAD_WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
        if told and told[3]:
            return told[1], told[3]
        # torch does not know how it ended, or it was just handing a batch over
        if told or isinstance(error, EOFError | OSError):
            for worker in getattr(self._ready, "_workers", ()):
                worker.join(ENDING_S)
                if worker.exitcode:
                    return str(worker.pid), signal.strsignal(-worker.exitcode) if worker.exitcode < 0 else None
        return (told[1], None) if told else None

    def _forget_children(self) -> None:
        """torch looks after its workers whenever any child of the process ends, and would do so for good."""
        if CHILD_ENDS and threading.current_thread() is threading.main_thread():
            signal.signal(CHILD_ENDS, self._former or signal.SIG_DFL)
            signal_handling._SIGCHLD_handler_set = False  # or the next loader would go without

    def __next__(self) -> Varied:
        first, asked = self._ready is None, time.monotonic()
        batch, self._ahead = self._ahead or self._made(), None
        if self._since is None:
            self._since = time.monotonic() if first else asked  # to start workers is not to wait for data
        self._steps += 1
        return batch

    def meanwhile(self, facts: Tensor) -> list[float]:
        """The numbers of a tensor; while a GPU computes them it is given the next batch to make, so that it is not idle
        until the loop has read them."""
        if facts.device.type != "cuda":
            return facts.tolist()
        told = torch.empty(facts.shape, dtype=facts.dtype, pin_memory=True).copy_(facts, non_blocking=True)
        there = torch.cuda.Event()
        there.record()
        with contextlib.suppress(StopIteration):
            self._ahead = self._made()
        there.synchronize()
        return told.tolist()

    def _made(self) -> Varied:
        first, asked = self._ready is None, time.monotonic()
        if self._ready is None:
            with interrupts.sheltered():
                self._ready = iter(self._loader)
        batch = next(self._ready)
        self._waited += 0 if first else time.monotonic() - asked
        if isinstance(batch, Refusal):
            raise batch
        return memory.again(partial(self._there, batch))

    def _there(self, batch: Cut | Varied) -> Varied:
        """On the device, and varied; chance was drawn before, so that it may be done twice."""
        if isinstance(batch, Cut):
            return self._samples.vary(batch.to(self._device))
        return Varied(batch.images.to(self._device), batch.targets.to(self._device), batch.cases)

    def pace(self) -> Pace:
        """Of the steps since the last call, from the first request for a batch to now."""
        passed = time.monotonic() - (self._since or time.monotonic())
        pace = Pace(self._waited / passed if passed else 0.0, passed / max(1, self._steps))
        self._since, self._waited, self._steps = None, 0.0, 0
        return pace

    def complaint(self, pace: Pace) -> str | None:
        """What to say to a user whose network waits for data that others should have ready. It is said once."""
        if pace.wait <= STARVED or self._complained or not (self._workers or self._device.type == "cuda"):
            return None
        self._complained = True
        said = f"the network waited for data {pace.wait:.0%} of the time"
        if self._workers < available_cores():
            return f"{said}: set train.workers above {self._workers}"
        return f"{said}, and every core has a worker: more cores, a faster disk or less augmentation would help"


@dataclass(frozen=True)
class _Work(Dataset[Cut | Varied | Refusal]):
    """What a worker does. Refusals are handed over, because a DataLoader would turn them into errors of another
    kind."""

    samples: Samples
    vary: bool

    def __getitems__(self, wanted: list[int]) -> Cut | Varied | Refusal:
        try:
            cut = self.samples.cut(wanted)
            return self.samples.vary(cut) if self.vary else cut
        except Refusal as refusal:
            return refusal


def _nothing() -> None:
    pass


def _as_it_is(batch: Cut | Varied | Refusal) -> Cut | Varied | Refusal:
    return batch


def _start_worker(number: int) -> None:
    devices.tune_allocator()


def _dead(process: str, by: str | None, workers: int) -> Refusal:
    return Refusal(
        f"data worker (process {process})",
        found=f"that it was killed by a signal: {by.strip()}" if by else "that it ended",
        needed=f"all {workers} workers until the end",
        remedy="most often memory ran out, of the machine or of /dev/shm: "
        f"set train.workers below {workers}, then run the same command again, which goes on from the last checkpoint",
    )
