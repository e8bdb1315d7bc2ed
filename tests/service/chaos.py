"""Everything goes wrong while studies go through: `python -m tests.service.chaos WORK --kills 100`.

Programs are killed (SIGKILL) at random moments and started again, the network to the archive is cut, the archive
refuses, the disk is full, the clock jumps. After that every study must be accounted for: each good one done with its
results in the archive once, each broken one ended with its reason.

The disk is a small tmpfs, for which root is needed; without, it is said and left out. The clock is the programs' own
`time.time`, shifted by what a file says. It ends in any case: kills are counted, and every wait has an end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medseg import atomic
from tests.service import studies
from tests.service.hospital import PROGRAMS, WAIT_S, Hospital, hospital, until
from tests.service.network import TRANSIENT_REJECTION, UNAVAILABLE, Way, way
from tests.tiny import ENVIRONMENT

CLOCK = """
import os, time
true = time.time
def shifted():
    with open(os.environ["CHAOS_CLOCK"]) as file:
        return true() + float(file.read() or 0)
time.time = shifted
"""
"""Every program imports `sitecustomize` at its start. libfaketime would be the plainer way, but Python's sleep fails
under it (clock_nanosleep with an absolute time)."""
PAUSE_S = (0.5, 5.0)
"""Between two blows; a worker needs some seconds to start."""
TROUBLE_S = (2.0, 5.0)
"""How long a network is cut, a disk full, a clock wrong."""
JUMPS_S = (-86400, -3600, 3600, 86400 * 30)
DISK_MIB = 160
BETWEEN_S = 2.4
"""As often as kills, so that there is work to be lost at all of them."""
QUIET_S = 10.0
"""Longer than the listener is ever away: what it has of a study then is not taken for all of it."""


@dataclass
class Chaos:
    """What strikes a hospital, drawn from `seed`."""

    at: Hospital
    ways: list[Way]
    disk: Path | None
    clock: Path
    seed: int
    struck: Counter[str] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def strike(self, kills: int) -> None:
        """So many kills, and between them troubles of other kinds."""
        troubles = [self._network, self._jump] + [self._full_disk] * (self.disk is not None)
        while sum(count for name, count in self.struck.items() if name.startswith("kill")) < kills:
            time.sleep(self.draw.uniform(*PAUSE_S))
            if self.draw.random() < 0.15:
                self.draw.choice(troubles)()
            self._kill()
        self.over.set()

    def _kill(self) -> None:
        victim = self.draw.choice((*PROGRAMS, "worker", "worker"))
        if victim == "worker":
            children = _children(self.at.running["work"].pid)
            if children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.draw.choice(children), signal.SIGKILL)
                self.struck["kill of a child of work"] += 1
            return
        self.at.kill(victim)
        self.struck[f"kill of {victim}"] += 1
        self.at.start(victim)

    def _network(self) -> None:
        one, mode = self.draw.choice(self.ways), self.draw.choice(("cut", "refuse"))
        one.set(mode)
        time.sleep(self.draw.uniform(*TROUBLE_S))
        one.set("pass")
        self.struck[f"network: {mode}"] += 1

    def _full_disk(self) -> None:
        assert self.disk
        filler = self.disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as handle:
            while True:
                handle.write(bytes(2**16))
                handle.flush()
        time.sleep(self.draw.uniform(*TROUBLE_S))
        filler.unlink()
        self.struck["disk full"] += 1

    def _jump(self) -> None:
        set_clock(self.clock, self.draw.choice(JUMPS_S))
        time.sleep(self.draw.uniform(*TROUBLE_S))
        set_clock(self.clock, 0)
        self.struck["clock jumped, and back"] += 1


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system that is soon full, if this process may mount one."""
    folder.mkdir(parents=True)
    mounted = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)], capture_output=True
        ).returncode
        == 0
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def set_clock(clock: Path, offset_s: int) -> None:
    with atomic.replacing(clock) as partial:
        partial.write_text(str(offset_s))


def environment(folder: Path) -> dict[str, str]:
    """For programs whose clock is shifted by what `folder/clock` says."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK)
    set_clock(folder / "clock", 0)
    paths = os.pathsep.join((str(folder), ENVIRONMENT["PYTHONPATH"]))
    return {**ENVIRONMENT, "PYTHONPATH": paths, "CHAOS_CLOCK": str(folder / "clock")}


def send_all(at: Hospital, known: dict[int, str], over: Callable[[], bool]) -> None:
    """As a scanner does: what is not taken is sent again, until it is."""
    for number, study in known.items():
        until(lambda study=study: at.send(study), f"study {number} is taken")  # type: ignore[misc]
        if not over():
            time.sleep(BETWEEN_S)  # studies come all the time while things go wrong


def check(at: Hospital, what: dict[int, str]) -> Counter[str]:
    """Every study is accounted for, every result is in the archive once; how many ended in each state."""
    numbers = {studies.study_uid(number): number for number in what}
    jobs = [job for job in at.jobs() if job.superseded_by is None]
    assert Counter(numbers[job.identity.study_uid] for job in jobs) == Counter(what.keys()), "a study lost or doubled"
    assert len(jobs) == len(at.jobs()), "a study was taken for complete while the listener was away"
    for job in jobs:
        good = what[numbers[job.identity.study_uid]] == "good"
        assert (job.state == "done") == good, (what[numbers[job.identity.study_uid]], job.state, job.reason)
        assert good or job.reason_code, job
    stored = {numbers[uid]: kinds for uid, kinds in at.results().items()}
    assert stored == {number: ["SEG", "SR"] for number, name in what.items() if name == "good"}
    return Counter(job.state for job in jobs)


def run(folder: Path, *, good: int, kills: int, seed: int, say: Callable[[str], None] = print) -> None:
    """The whole of it."""
    what = studies.write(folder / "made", good)
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "hospital" / "data"))
        at = stack.enter_context(hospital(folder / "hospital", environment=environment(folder / "time")))
        pacs = stack.enter_context(way(at.archive.dicom, TRANSIENT_REJECTION))
        stow = stack.enter_context(way(at.archive.http, UNAVAILABLE))
        at.prepare(pacs=pacs.port, stow=stow.port, quiet_s=QUIET_S)
        known = {}
        for number in what:
            [known[number]] = {at.keep(file) for file in sorted((folder / "made" / str(number)).iterdir())}
        at.introduce()
        at.start()
        say(f"{len(what)} studies; disk: {disk or 'as it is, for a small one needs root'}")
        chaos = Chaos(at, [pacs, stow], disk, folder / "time" / "clock", seed)
        blows = threading.Thread(target=chaos.strike, args=(kills,), daemon=True)
        started = time.monotonic()
        blows.start()
        send_all(at, known, chaos.over.is_set)
        blows.join(timeout=20 * WAIT_S)
        assert chaos.over.is_set(), "the blows came to no end"
        say(f"after {time.monotonic() - started:.0f} s: {dict(chaos.struck)}")
        until(at.ended(len(what)), "every study has come to an end", within_s=4 * WAIT_S)
        aside = [job.id for job in at.jobs() if job.state == "quarantined"]
        say(f"{len(aside)} jobs were with a process when it was killed as often as is allowed; they are tried again")
        with at.journal() as journal:
            for job in aside:
                journal.jobs.retry(job, "chaos")
        until(at.ended(len(what)), "those put aside have come to an end", within_s=2 * WAIT_S)
        say(f"after {time.monotonic() - started:.0f} s, all accounted for: {dict(check(at, what))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty or new folder")
    parser.add_argument("--good", type=int, default=88, help="good studies; twelve broken ones come to them")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    run(options.work, good=options.good, kills=options.kills, seed=options.seed)


if __name__ == "__main__":
    sys.exit(main())
