"""How much of the machine a process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Processor cores that this process may use; fewer than the machine has, in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
