"""Workers on a Ray cluster, of two processes on this machine: models that come with it, deaths, hangs, and no SQLite
across machines."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.refusal import Refusal
from medseg.service.journal import Journal
from medseg.service.work import cluster, liveness
from medseg.service.work import supervisor as supervisors
from medseg.service.work.cluster import Cluster
from medseg.service.work.parameters import Parameters
from medseg.service.work.supervisor import Supervisor
from tests import tiny
from tests.service import site as sites

pytest.importorskip("ray")
POISONED = Parameters(outputs=("tests.service.poison",)).to_json()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def journal(folder) -> Iterator[Journal]:
    opened = Journal(folder / "data" / "journal.sqlite")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ray_cluster(folder, journal) -> Iterator[Cluster]:
    """Whose workers never see the model's own folder: it is gone when they start."""
    tiny.untrained_run(folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tiny.ROOT))
        patch.setenv("MEDSEG_CACHE", str(folder / "cache"))
        site = sites.site(folder, workers=2)
        with cluster.connected(cluster.LOCAL, site, journal, [str(folder / "run")]) as found:
            shutil.rmtree(folder / "run")
            yield found


@pytest.mark.slow
def test_jobs_are_done_by_two_workers_and_who_dies_or_hangs_is_replaced(folder, journal, ray_cluster, monkeypatch):
    monkeypatch.setattr(supervisors, "LONGEST_PAUSE_S", 0.2)
    names = ("exit", "a", "b", "c", "once", "d")
    asked = [
        sites.asked(folder / "run", sites.scan(folder / f"{name}.nii.gz"), folder / "out", parameters=POISONED)
        for name in names
    ]
    jobs = [sites.submitted(journal, one).id for one in asked]
    late_s = 0.0
    supervisor = Supervisor(
        sites.site(folder, tries=2),
        journal,
        [("worker", 0), ("worker", 1)],
        owner="here",
        start=ray_cluster.start,
        now=lambda: time.monotonic() + late_s,
    )
    try:
        sites.until((folder / "out" / "once.begun").exists, supervisor.tick)
        sites.until(lambda: any(jobs[4] in seat.jobs for seat in supervisor._seats), supervisor.tick)
        late_s = 3700.0
        sites.until(lambda: journal.jobs.get(jobs[4]).reason_code == "timeout", supervisor.tick)
        ended = ("proven", "quarantined")
        sites.until(lambda: all(journal.jobs.get(job).state in ended for job in jobs), supervisor.tick)
    finally:
        supervisor.drain()
    found = {name: journal.jobs.get(job) for name, job in zip(names, jobs, strict=True)}
    assert {name for name, job in found.items() if job.state == "quarantined"} == {"exit"}
    assert found["exit"].reason_code == "crashed" and found["once"].attempts == 2
    begun = {event.who for _, event in journal.jobs.events() if event.state == "running"}
    assert len(begun) >= 4 and all("@ray#" in who for who in begun)
    assert len(list((folder / "cache" / "models").iterdir())) == 1, "the model is there once"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_journal_in_a_file_is_refused_where_there_are_other_machines(journal, ray_cluster, monkeypatch):
    import ray

    cluster._refuse_file(ray, journal)
    monkeypatch.setattr(liveness, "here", lambda: "another")
    with pytest.raises(Refusal, match="a journal in a file"):
        cluster._refuse_file(ray, journal)


def test_a_cluster_that_does_not_answer_is_said_in_a_sentence(journal, tmp_path, monkeypatch):
    import ray

    def nobody(**words: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "init", nobody)
    with (
        pytest.raises(Refusal, match=r"--ray 10\.0\.0\.1:6379: found no cluster"),
        cluster.connected("10.0.0.1:6379", sites.site(tmp_path), journal, []),
    ):
        pass
