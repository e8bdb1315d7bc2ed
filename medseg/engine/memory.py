"""Memory of the machine: what a process may take of it, what it holds, and when it has run out."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from medseg.engine import device as devices
from medseg.engine import stages
from medseg.refusal import Refusal

Result = TypeVar("Result")
MIB, GIB = 2**20, 2**30
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": MIB,
    "gib": GIB,
    "tib": 2**40,
}
SHARE = {"cuda": 0.75, "cpu": 0.5, "mps": 0.5}
"""Part of the memory that there is which a training step may take."""
MARGIN = 0.9
"""Share of what is free that is taken without being told so: others need some, too."""
BEGINNING = 600 * MIB
"""What the program takes with its libraries, where the system does not tell."""
CUDA_CONTEXT = 600 * MIB
"""What the driver and its libraries take of a GPU, outside of torch's allocator."""
RAN_OUT = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "alloc_failed",
)
"""How the errors of torch and its libraries begin or end that come from a lack of memory, in small letters."""


@dataclass(frozen=True)
class Limits:
    """Bytes that a process may take, of the host's memory and of the GPU's; None: what is free when it is asked."""

    host: int | None = None
    gpu: int | None = None

    @classmethod
    def of(cls, max_memory: str | None = None, max_gpu_memory: str | None = None) -> Limits:
        """From sizes as people write them.

        Raises:
            Refusal: not a size.
        """
        return cls(
            None if max_memory is None else size(max_memory, where="--max-memory"),
            None if max_gpu_memory is None else size(max_gpu_memory, where="--max-gpu-memory"),
        )

    def host_bytes(self) -> int:
        return self.host if self.host is not None else available()

    def gpu_bytes(self, device: torch.device) -> int:
        """Without what the driver takes; more than there is where `device` has no memory of its own."""
        if device.type != "cuda":
            return 2**62
        free, total = torch.cuda.mem_get_info(device)
        here = int(MARGIN * (free + torch.cuda.memory_reserved(device)))
        return here if self.gpu is None else min(self.gpu - CUDA_CONTEXT, total)

    def enforce(self, device: torch.device) -> None:
        """Let torch raise an error rather than take more of the GPU than was allowed."""
        if device.type == "cuda" and self.gpu is not None:
            _, total = torch.cuda.mem_get_info(device)
            torch.cuda.set_per_process_memory_fraction(
                min(1.0, max(0, self.gpu_bytes(device)) / total), torch.device("cuda", device.index or 0)
            )


FREE = Limits()
"""What is free when it is asked."""


def size(text: str, *, where: str) -> int:
    """Bytes of a size such as 6GiB, 6GB or 500 MiB.

    Raises:
        Refusal: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    if not found or found[2].lower() not in UNITS or not float(found[1]):
        raise Refusal(
            where,
            found=f"'{text}'",
            needed="a size with its unit, such as 6GiB, 6GB or 500MiB",
            remedy="write it so (1 GiB is 1.074 GB)",
        )
    return int(float(found[1]) * UNITS[found[2].lower()])


def of_a_step(device: torch.device) -> float:
    """Bytes that a training step may take on `device`: a share of what the machine has, or of what a container may
    have, and not of what is free at the moment, so that plans are alike from day to day."""
    if device.type == "cuda":
        return SHARE["cuda"] * torch.cuda.get_device_properties(device).total_memory
    return SHARE[device.type] * min(_installed(), *container_limits(), 2**62)


def _installed() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 8 * GIB  # Windows has no sysconf; what a small laptop has


def resident() -> int:
    """Bytes of this process that are in memory now, its program and mapped files included."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = stages.peak_mib()
    return BEGINNING if peak is None else int(peak * MIB)


def available() -> int:
    """Bytes that this process may come to have in all without others, or a container's limit, being in its way."""
    free = [int(SHARE["cpu"] * _installed())]
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        told = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        free = [int(MARGIN * (told + resident()))]
    return min(*free, *(int(MARGIN * limit) for limit in container_limits()), 2**62)


def container_limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Limits of the control groups that this process is in and of those around them, versions 1 and 2."""
    limits: list[int] = []
    with contextlib.suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            base, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
            for folder in (Path(group), *Path(group).parents):
                with contextlib.suppress(OSError, ValueError):  # no such group here, or its limit is "max"
                    limits.append(int((base / folder.relative_to("/") / name).read_text(encoding="ascii")))
    return limits


def ran_out(error: BaseException) -> bool:
    """Whether an error means that memory was lacking."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in RAN_OUT)


def again(work: Callable[[], Result]) -> Result:
    """What `work` gives, which must leave nothing behind where it fails: if memory runs out it is done once more, after
    all that nobody uses was given back."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
    devices.give_back(after_error=True)  # only here, where no traceback holds what was computed any more
    return work()


def on_gpu(error: BaseException) -> bool:
    """Whether it was a GPU's memory: torch's allocator, or a library that asked the driver itself."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(name in said for name in ("cuda", "cudnn", "cublas"))


def text(count: float) -> str:
    """For people: "512 MiB", "3.4 GiB"."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
