"""Where a run computes and in which number format; set once, before the first large allocation."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from medseg.cores import available_cores
from medseg.refusal import Refusal

# mallopt parameter numbers of glibc: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX
GLIBC_SETTINGS = ((-4, 0), (-1, 2**31 - 1), (-2, 2**29), (-8, 1))


def tune_allocator() -> None:
    """Let glibc keep freed blocks. By default it returns every block over 32 MiB to the kernel, and each activation of
    a 3-D network is then faulted in anew, which costs up to half of the time. Does nothing on other systems."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt; speed is all that is lost
            libc = ctypes.CDLL("libc.so.6")
            for parameter, value in GLIBC_SETTINGS:
                libc.mallopt(parameter, value)


def give_back() -> None:
    """Give memory that nobody uses back to the system: what glibc keeps since `tune_allocator`, and a GPU's cache."""
    gc.collect()  # an exception's traceback holds the arrays of its frames, in a circle
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
    """CPU threads for torch; 0 = every core that this process may use."""
    torch.set_num_threads(threads or available_cores())


def check_precision(device: torch.device, precision: str, *, where: str) -> None:
    """Refuse a number format for which the device has no kernels; `where` names the setting.

    A CPU without them would emulate bf16, which takes 20 to 100 times as long as 32.

    Raises:
        Refusal: 16 on any CPU, or bf16 on a CPU without the instructions for it.
    """
    if device.type != "cpu" or precision == "32" or (precision == "bf16" and _cpu_has_bf16()):
        return
    found = "16 on a CPU" if precision == "16" else "bf16 on a CPU without bf16 instructions, where it is far slower"
    raise Refusal(where, found=found, needed="32 on this machine", remedy=f"set {where}=32, or use a GPU")


def _cpu_has_bf16() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # absent from builds without oneDNN
    return supported is not None and bool(supported())


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision for inference: 32 (none), bf16 or 16.

    Raises:
        Refusal: see `check_precision`.
    """
    check_precision(device, precision, where="precision")
    if precision == "32":
        return contextlib.nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=kind)


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
