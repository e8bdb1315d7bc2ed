"""GPUs, memory, the disk under the data folder, and the clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from medseg.service.journal import Journal
from medseg.service.operations.checks.finding import Finding
from medseg.service.settings.folders import private
from medseg.service.settings.keep import Keep

GIB = 2**30
SMALL_GIB = 8
"""Less memory than this, and whole-body scans do not fit."""
SYNCS, SLOW_SYNC_S = 8, 0.1
"""Every change of the journal waits for the disk; more than this a time, and a hospital's studies pile up."""
SANE_YEARS = range(2025, 2100)
ASK_S = 5.0
"""Longest wait for a program of the system."""


def gpus() -> Iterator[Finding]:
    """Which there are, whether their driver fits, and whether a small computation on each is right."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        if built and Path("/proc/driver/nvidia").exists():
            remedy = "install a driver that is new enough for it, or torch for the driver that is there"
            yield Finding("GPU", "bad", f"a driver, but torch (CUDA {built}) cannot use it", remedy)
        elif shutil.which("nvidia-smi") and not built:
            yield Finding("GPU", "look", "an NVIDIA GPU, but torch for CPUs", "install torch with CUDA")
        else:
            yield Finding("GPU", "look", "none: models run on the CPU", "nothing, if that is meant")
        return
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        found = f"{facts.name}, {facts.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}"
        try:
            ones = torch.ones(64, 64, device=f"cuda:{number}")
            right = bool((torch.mm(ones, ones) == 64).all())
        except RuntimeError as error:
            yield Finding(f"GPU {number}", "bad", f"{found}: {error}", "restart the machine; see nvidia-smi")
            continue
        if right:
            yield Finding(f"GPU {number}", "ok", found)
        else:
            said = f"{found}: a product of two matrices is wrong"
            yield Finding(f"GPU {number}", "bad", said, "do not use it; have it tested")


def memory() -> Iterator[Finding]:
    """Of the machine, and what the control groups of this process leave of it."""
    from medseg.boundary import memory_bytes
    from medseg.engine.memory import container_limits

    whole, limits = memory_bytes(), container_limits()
    least = min(whole, *limits) if limits else whole
    found = f"{whole / GIB:.1f} GiB" + (f", of which a control group leaves {least / GIB:.1f}" if least < whole else "")
    if least < SMALL_GIB * GIB:
        yield Finding("memory", "look", found, f"give it {SMALL_GIB} GiB or more; large scans are refused else")
    else:
        yield Finding("memory", "ok", found)


def disk(folder: Path, keep: Keep) -> Iterator[Finding]:
    """Room, and whether the folder's file system does what is asked of it."""
    try:
        private(folder)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as name:
            place = Path(name)
            room = shutil.disk_usage(folder)
            least = keep.free_gib * GIB
            found = f"{room.free / GIB:.1f} of {room.total / GIB:.1f} GiB are free"
            if room.free < least:
                remedy = "free some, or nothing is taken in (keep.free_gib)"
                yield Finding("disk", "bad", f"{found}, less than {keep.free_gib:g}", remedy)
            elif room.free < 2 * least:
                yield Finding("disk", "look", found, "free some, or keep less")
            else:
                yield Finding("disk", "ok", found)
            yield _syncs(place)
            yield _links(place)
            yield _locks(place)
            yield _access(folder)
    except OSError as error:
        remedy = f"let user {os.getuid()} write into it"
        yield Finding("disk", "bad", f"{folder}: {error.strerror or error}", remedy)


def clock(journal: Journal | None) -> Iterator[Finding]:
    """The year, the newest moment of the journal, and what the system says of its time server."""
    now = time.time()
    said = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    remedy = "set it, and let it be kept by a time server (NTP)"
    if time.gmtime(now).tm_year not in SANE_YEARS:
        yield Finding("clock", "bad", said, remedy)
        return
    last = journal.keeping.newest() if journal else 0.0
    if last > now + 60:
        yield Finding("clock", "bad", f"{said}, {(last - now) / 3600:.1f} hours before the newest entry", remedy)
        return
    kept = _kept_by_a_server()
    if kept is False:
        yield Finding("clock", "look", f"{said}; no time server keeps it", remedy)
    else:
        yield Finding("clock", "ok", said + ("; kept by a time server" if kept else ""))


def _kept_by_a_server() -> bool | None:
    """None where the system does not say."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    asked = [program, "show", "--property=NTPSynchronized", "--value"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())


def _access(folder: Path) -> Finding:
    mode = folder.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        found = f"{folder} has mode {mode:04o}: others on this machine can look into it, or even write"
        return Finding("disk, access", "look", found, f"chmod 0700 {folder}, unless they are meant to")
    return Finding("disk, access", "ok", "nobody but its owner can look into the data folder")


def _syncs(place: Path) -> Finding:
    started = time.monotonic()
    with (place / "sync").open("wb") as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    each = (time.monotonic() - started) / SYNCS
    found = f"{each * 1000:.1f} ms to bring 4 KiB onto the disk"
    if each > SLOW_SYNC_S:
        return Finding("disk, syncing", "look", found, "a faster disk for the data folder, not one in a network")
    return Finding("disk, syncing", "ok", found)


def _links(place: Path) -> Finding:
    (place / "a").write_bytes(b"a")
    try:
        (place / "b").hardlink_to(place / "a")
    except OSError as error:
        remedy = "a file system with hard links (ext4, xfs, NFS), or studies cannot be closed"
        return Finding("disk, hard links", "bad", error.strerror or str(error), remedy)
    return Finding("disk, hard links", "ok", "work")


def _locks(place: Path) -> Finding:
    from filelock import FileLock, Timeout

    held, asked = FileLock(place / "lock"), FileLock(place / "lock", thread_local=False)
    try:
        with held.acquire(timeout=ASK_S):
            try:
                asked.acquire(timeout=0)
            except Timeout:
                return Finding("disk, file locks", "ok", "work")
            asked.release()
            found = "a lock that two had at once"
    except (OSError, NotImplementedError) as error:
        found = str(error)
    return Finding("disk, file locks", "bad", found, "a file system with file locks (for NFS: version 4, or lockd)")
