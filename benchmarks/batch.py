"""Studies an hour: a model that stays loaded, with the next case read and the last one written meanwhile, beside a
process for each case; and two Ray workers beside one, each pinned to a core.

    python benchmarks/batch.py WORK [--cases 24] [--side 64] [--rounds 3] [--ray]

The cases are synthetic CT, the network is small and untrained. What is compared is run in turn, on the same cases:

- `medseg predict` once for each case, as a script would call it;
- `medseg batch --ahead` over all of them, its start, its journal and the reading back of every result included.

With --ray instead: `medseg batch --ray local` with one worker and with two, of one thread each. There the clock runs
from the first case that is begun to the last one that is proven, because a cluster is started once and not for each
batch. Processor time is told beside the clock, because it knows little of what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from memory import make_run
from phantom import SPACING_MM, phantom

PATCH = 64
HOLDER = b"ray::Holder"
"""How the process of a worker is called by Ray."""
GLANCE_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for data and results")
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--side", type=int, default=64, help="voxels along each axis of a case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="two Ray workers beside one")
    given = parser.parse_args()
    run, scans = made(given.work, given.cases, given.side)
    print(f"{given.cases} cases of {given.side}^3 voxels, {given.rounds} rounds")
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}")
    names = ("one Ray worker", "two Ray workers") if given.ray else ("a process for each case", "medseg batch")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for number in range(given.rounds):
        for place, name in enumerate(names):
            out = given.work / "out"
            shutil.rmtree(out, ignore_errors=True)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            if given.ray:
                seconds[name].append(by_ray(run, scans, out, workers=place + 1))
            else:
                seconds[name].append((batched if place else one_by_one)(run, scans, out))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
    for name, found in seconds.items():
        hourly = [3600 * given.cases / one for one in found]
        print(f"{name}: {min(hourly):,.0f} to {max(hourly):,.0f} studies an hour")
    ratios = [slow / fast for slow, fast in zip(*seconds.values(), strict=True)]
    print(f"ratio: {min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}")
    for name, found in processor.items():
        print(f"{name}: {min(found):.1f} to {max(found):.1f} s of processor time")


def made(work: Path, cases: int, side: int) -> tuple[Path, Path]:
    """A run folder and a folder of scans, made once."""
    scans, run = work / f"scans-{cases}-{side}", work / "run"
    if not run.is_dir():
        make_run(run, classes=5, patch=PATCH)
    for number in range(cases):
        path = scans / f"case{number:03d}.nii.gz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            image, _ = phantom(number, (side,) * 3)
            nib.save(nib.Nifti1Image(image, np.diag([*SPACING_MM, 1])), path)
    return run, scans


def one_by_one(run: Path, scans: Path, out: Path) -> float:
    started = time.perf_counter()
    for scan in sorted(scans.iterdir()):
        called("predict", run, scan, out, "--device", "cpu")
    return time.perf_counter() - started


def batched(run: Path, scans: Path, out: Path) -> float:
    started = time.perf_counter()
    called("batch", run, scans, out, "--device", "cpu", "--ahead")
    return time.perf_counter() - started


def by_ray(run: Path, scans: Path, out: Path, *, workers: int) -> float:
    """Seconds from the first case that was begun to the last one that was proven."""
    from medseg.service.journal import Journal

    over = threading.Event()
    pinning = threading.Thread(target=pin, args=(workers, over))
    pinning.start()
    try:
        words = ("--ray", "local", "--workers", workers, "--threads", 1, "--device", "cpu", "--ahead")
        called("batch", run, scans, out, *words)
    finally:
        over.set()
        pinning.join()
    journal = Journal(out / "journal.sqlite")
    events = [event for _, event in journal.jobs.events(limit=10**6)]
    journal.close()
    begun = min(event.at for event in events if event.state == "running")
    return max(event.at for event in events if event.state == "proven" and not event.what) - begun


def pin(workers: int, over: threading.Event) -> None:
    """Give each worker a core of its own, for all its threads."""
    cores, known = sorted(os.sched_getaffinity(0)), []
    while not over.wait(GLANCE_S):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
                if not words.startswith(HOLDER):
                    continue
                if folder.name not in known:
                    known.append(folder.name)
                core = cores[known.index(folder.name) % workers]
                for thread in (folder / "task").iterdir():
                    os.sched_setaffinity(int(thread.name), [core])
            except OSError:  # it has just ended
                continue


def called(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "medseg", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
