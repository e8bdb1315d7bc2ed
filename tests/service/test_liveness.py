"""Who is alive: by a lock on this machine, by beats on others, and by no clock that can jump."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from medseg.service.work import liveness
from medseg.service.work.liveness import Watch
from tests.tiny import ENVIRONMENT

HOLD = """
import sys, time
from pathlib import Path
from medseg.service.work import liveness
with liveness.alive(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_process_is_gone_at_once_when_it_is_killed(tmp_path):
    owner, watch = liveness.name("worker0"), Watch(tmp_path)
    words = [sys.executable, "-c", HOLD, str(tmp_path), owner]
    child = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout and child.stdout.readline() == "held\n"
        assert watch.gone({owner: {1: 5}}) == [] and watch.gone({owner: {1: 5}}) == []
        child.send_signal(signal.SIGSTOP)
        assert watch.gone({owner: {1: 5}}) == [], "it does not beat, but it may go on"
    finally:
        child.kill()
        child.communicate(timeout=60)
    watch.sweep([owner])
    assert watch.gone({owner: {1: 5}}) == [owner]
    watch.sweep([])
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_ends_leaves_no_lock(tmp_path):
    with pytest.raises(RuntimeError), liveness.alive(tmp_path, liveness.name("w")):
        assert len(list(tmp_path.iterdir())) == 1
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("owner", ["worker0@elsewhere#1", "someone"])
def test_of_another_machine_the_beats_tell(owner, tmp_path):
    now = 100.0
    watch = Watch(tmp_path, lease_s=60, now=lambda: now)
    (tmp_path / f"{owner}.lock").touch()  # on a shared disk it may look free from here
    assert watch.gone({owner: {1: 5, 2: 7}}) == []
    now = 159.0
    assert watch.gone({owner: {1: 5, 2: 8}}) == []
    now = 219.0
    assert watch.gone({owner: {1: 5, 2: 8}}) == []
    now = 219.1
    assert watch.gone({owner: {1: 5, 2: 8}}) == [owner]


def test_what_was_seen_of_an_owner_is_forgotten_when_it_has_no_jobs(tmp_path):
    now = 0.0
    watch = Watch(tmp_path, lease_s=60, now=lambda: now)
    watch.gone({"w@elsewhere#1": {1: 5}})
    watch.gone({})
    now = 100.0
    assert watch.gone({"w@elsewhere#1": {1: 5}}) == []


def test_an_owner_of_this_machine_without_a_lock_here_may_have_it_in_another_folder(tmp_path):
    now = 0.0
    watch = Watch(tmp_path, lease_s=60, now=lambda: now)
    owner = liveness.name("w")
    assert watch.gone({owner: {1: 5}}) == []
    now = 61.0
    assert watch.gone({owner: {1: 5}}) == [owner]
