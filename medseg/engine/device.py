"""Where a run computes and in which number format; set once, before the first large allocation."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from medseg import cores
from medseg.refusal import Refusal

# mallopt parameter numbers of glibc: M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX
KEEPING = ((-4, 0), (-1, 2**31 - 1), (-2, 2**29), (-8, 1))
EXACT = ((-4, 65_536), (-3, 2**22), (-1, 2**26), (-2, 2**20), (-8, 1))
WORKSPACE, FIXED_WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
"""Environment variable of cuBLAS, and the values with which it repeats, by its manual ("Results reproducibility")."""
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch asks for pages of 2 MiB for large tensors if this is set before it makes the first one."""


def tune_allocator(*, exact: bool = False) -> bool:
    """Let glibc keep freed blocks, or let it keep none. Says whether it did so: other systems have no such choice.

    By default it returns every block over 32 MiB to the kernel, and each activation of a 3-D network is then faulted in
    anew, which costs up to half of the time. Where it keeps them, they leave holes: the next block of the same size
    does not fit, for torch wants it aligned, and a process comes to hold up to twice what is alive.

    Args:
        exact: no holes, for a process that must stay within a limit: large blocks come from the kernel and go back to
            it. In huge pages, for which torch must not have made a tensor before, that costs a fifth of the time, and
            else a half.
    """
    if sys.platform.startswith("linux"):
        if exact:
            os.environ.setdefault(HUGE_PAGES, "1")
        with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt; speed is all that is lost
            libc = ctypes.CDLL("libc.so.6")
            told = [libc.mallopt(parameter, value) for parameter, value in (EXACT if exact else KEEPING)]
            return all(told)
    return False


def give_back(*, after_error: bool = False) -> None:
    """Give memory that nobody uses back to the system: what glibc keeps since `tune_allocator`, and a GPU's cache.

    Args:
        after_error: whether there may be an exception that nobody needs any more, whose traceback holds the arrays of
            its frames in a circle. To look for that takes longer than all the rest.
    """
    if after_error:
        gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def choose(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `mps`; auto takes the first of CUDA, MPS, CPU that is there.

    Raises:
        Refusal: the device asked for is not there, or none of these.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    if not present.get(wanted):
        there = ", ".join(name for name, is_there in present.items() if is_there)
        raise Refusal(
            "device", found=f"'{wanted}'", needed=f"auto, or what this machine has: {there}", remedy="set it to auto"
        )
    return torch.device(wanted)


def set_threads(threads: int) -> None:
    """CPU threads for torch; 0: see `cores.threads`."""
    torch.set_num_threads(threads or cores.threads())


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Within it, what is computed on the CPU is computed in one thread. Nothing changes for other devices."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def tune_kernels(device: torch.device) -> None:
    """On CUDA, let cuDNN time its algorithms for each shape, unless runs are to repeat bit by bit."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()


@contextlib.contextmanager
def repeatable(device: torch.device, *, wanted: bool) -> Iterator[None]:
    """Within it, torch takes only operations that give the same bits each time, if that is `wanted`; those that have
    none of that kind raise RuntimeError. On the CPU nothing changes: with as many threads, it repeats anyway.

    Raises:
        Refusal: CUDA was started before with a workspace of cuBLAS in which sums have no fixed order.
    """
    if not wanted:
        yield
        return
    if device.type == "cuda" and os.environ.get(WORKSPACE) not in FIXED_WORKSPACES:
        if torch.cuda.is_initialized():
            raise Refusal(
                "train.deterministic",
                found=f"true, after CUDA was started without {WORKSPACE}",
                needed="it from the start",
                remedy=f"set {WORKSPACE}={FIXED_WORKSPACES[0]} before the program starts, or let it train first",
            )
        os.environ[WORKSPACE] = FIXED_WORKSPACES[0]
    kernels = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), kernels.benchmark, kernels.deterministic
    torch.use_deterministic_algorithms(True)
    kernels.benchmark, kernels.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        kernels.benchmark, kernels.deterministic = before[1:]


def moved(tiles: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same on `device`; to CUDA by way of pinned memory, so that the copy does not wait for what computes there."""
    if device.type == "cuda" and tiles.device.type == "cpu":
        return tiles.pin_memory().to(device, non_blocking=True)
    return tiles.to(device)


def near(image: torch.Tensor, device: torch.device, *, room: int) -> torch.Tensor:
    """An image on the GPU if it takes no more than `room` bytes, so that tiles are cut there; else as it is. Others may
    have taken the room in the meantime."""
    if device.type == "cuda" and image.nbytes <= room:
        with contextlib.suppress(torch.OutOfMemoryError):
            return image.to(device)
    return image


def check_precision(device: torch.device, precision: str, *, where: str) -> None:
    """Refuse a number format for which the device has no kernels; `where` names the setting. auto takes none such.

    A CPU without them would emulate bf16, which takes 20 to 100 times as long as 32.

    Raises:
        Refusal: 16 on any CPU, or bf16 on a CPU without the instructions for it.
    """
    if device.type != "cpu" or precision in ("auto", "32") or (precision == "bf16" and _cpu_has_bf16()):
        return
    found = "16 on a CPU" if precision == "16" else "bf16 on a CPU without bf16 instructions, where it is far slower"
    raise Refusal(where, found=found, needed="32 on this machine", remedy=f"set {where}=32, or use a GPU")


def _cpu_has_bf16() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # absent from builds without oneDNN
    return supported is not None and bool(supported())


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is computed by instructions of its own there, and so worth a try. Not tried on MPS."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_bf16()


def described(device: torch.device) -> dict[str, str]:
    """What computes: kind, name, and version of torch."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return {"device": device.type, "name": name, "torch": torch.__version__}


def repeating(device: torch.device) -> dict[str, str]:
    """What the last bits of a computation hang on, besides what is computed."""
    told = described(device)
    told["processor"] = told.pop("name")
    return told | ({"threads": str(torch.get_num_threads())} if device.type == "cpu" else {})


def in_words(device: torch.device) -> str:
    """For people: `cuda:0`, or the CPU with its number of threads."""
    return f"cpu, threads: {torch.get_num_threads()}" if device.type == "cpu" else str(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision for inference: 32 (none), bf16 or 16.

    Raises:
        Refusal: see `check_precision`.
    """
    check_precision(device, precision, where="precision")
    if precision == "32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "16": torch.float16}[precision])


@contextlib.contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode comes back afterwards."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)
