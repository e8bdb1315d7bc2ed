"""Work in several processes: in order, and a process that dies is a refusal in words."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from medseg import cores
from medseg.cores import available_cores, in_order, physical_cores
from medseg.refusal import Refusal


def where(item: int) -> tuple[int, int]:
    return item, os.getpid()


def die(item: int) -> int:
    return item if item != 3 else os._exit(7)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order(workers: int) -> None:
    found = list(in_order(where, range(7), workers=workers, portion=2))
    assert [item for item, _ in found] == list(range(7))
    assert ({process for _, process in found} == {os.getpid()}) == (workers < 2)


def test_a_process_that_dies_is_refused() -> None:
    with pytest.raises(Refusal, match=r"worker process: found that it died.*--workers 1"):
        list(in_order(die, range(7), workers=2))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with four cores that run two threads each: a function writes its files."""
    monkeypatch.setattr(cores, "SYSTEM", tmp_path / "sys")
    monkeypatch.setattr(cores, "PROCESS", tmp_path / "proc")
    monkeypatch.setattr(cores, "_allowed", lambda: set(range(8)))

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    for number in range(8):
        write(f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", f"{number % 4},{number % 4 + 4}\n")
    return write


def test_threads_of_one_core_count_once_where_cores_are_asked_for(machine, monkeypatch):
    assert (available_cores(), physical_cores()) == (8, 4)
    monkeypatch.setattr(cores, "_allowed", lambda: {0, 4, 5})
    assert (available_cores(), physical_cores()) == (3, 2)


@pytest.mark.parametrize(
    ("environment", "processes", "threads"),
    [
        ({}, 1, 4),
        ({}, 2, 2),
        ({}, 3, 1),
        ({}, 9, 1),
        ({"OMP_NUM_THREADS": "1"}, 1, 1),
        ({"OMP_NUM_THREADS": "1"}, 2, 1),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"}, 2, 2),  # which torchrun writes by itself
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"}, 1, 1),
        ({"OMP_NUM_THREADS": "3,1", "TORCHELASTIC_RUN_ID": "none"}, 2, 3),
    ],
)
def test_processes_that_compute_together_share_the_cores(machine, environment, processes, threads, monkeypatch):
    for name in ("OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert cores.threads(processes) == threads


@pytest.mark.parametrize(
    ("environment", "told"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_without_work_sleep_soon_unless_the_user_says_otherwise(environment, told, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    cores.share()
    assert os.environ.get("GOMP_SPINCOUNT") == told


def test_the_command_line_says_so_before_torch_reads_it():
    """As a program that starts: torch's threads read the environment once."""
    look = "import sys, os; from medseg import __main__ as it; it.application = lambda: lambda: print(os.environ"
    look += "['GOMP_SPINCOUNT'], 'torch' in sys.modules); it.main()"
    kept = {name: text for name, text in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run([sys.executable, "-c", look], env=kept, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["10000", "False"]


def test_a_machine_that_does_not_tell_of_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "SYSTEM", tmp_path)
    monkeypatch.setattr(cores, "PROCESS", tmp_path)
    monkeypatch.setattr(cores, "_allowed", lambda: {1, 2})
    assert available_cores() == physical_cores() == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000"}, (8, 4)),
        ({"sys/fs/cgroup/a/b/cpu.max": "250000 100000"}, (2, 2)),
        ({"sys/fs/cgroup/a/b/cpu.max": "600000 100000"}, (6, 4)),
        ({"sys/fs/cgroup/a/b/cpu.max": "50000 100000"}, (1, 1)),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "300000 100000"}, (3, 3)),
        ({"sys/fs/cgroup/cpu.max": "100000 100000"}, (1, 1)),
    ],
)
def test_a_quota_of_time_counts(machine, files, expected):
    machine("proc/cgroup", "0::/a/b\n")
    for name, text in files.items():
        machine(name, text + "\n")
    assert (available_cores(), physical_cores()) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("150000", 1), ("400000", 4)])
def test_a_quota_as_older_systems_write_it(machine, quota, expected):
    machine("proc/cgroup", "5:memory:/m\n3:cpuacct,cpu:/docker/x\n")
    machine("sys/fs/cgroup/cpu/cpu.cfs_quota_us", f"{quota}\n")  # inside a container, its group is the root
    machine("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert available_cores() == expected
