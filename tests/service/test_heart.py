"""The thread that beats for a job."""

from __future__ import annotations

import threading

from sqlalchemy.exc import OperationalError

from medseg.progress import Step
from medseg.service.journal import heart
from tests.service.test_journal import ASKED


def test_a_heart_tells_of_the_work_and_hears_of_its_end(journal):
    job, _ = journal.jobs.submit(ASKED, who="a")
    taken = journal.jobs.take("queued", "w", becomes="running")
    heard = threading.Event()
    with heart.beating(journal.jobs, taken, "w", every_s=0.01) as beats:
        assert beats.wanted
        beats.tell(Step("a", 1, 1, "network", done=1, total=4))
        journal.jobs.cancel(job.id, "me")
        for _ in range(2000):
            if not beats.wanted or heard.wait(0.01):
                break
    found = journal.jobs.get(job.id)
    assert beats.stop_asked == "cancelled" and found.beat > taken.beat
    assert (found.stage, found.share) == ("network", 0.25)


def test_a_heart_goes_on_after_a_beat_that_the_journal_did_not_take(journal, monkeypatch):
    job, _ = journal.jobs.submit(ASKED, who="a")
    taken = journal.jobs.take("queued", "w", becomes="running")
    beat, failed, told = journal.jobs.beat, threading.Event(), threading.Event()

    def fails_once(*words, **facts):
        if not failed.is_set():
            failed.set()
            raise OperationalError("update", {}, Exception("database is locked"))
        answer = beat(*words, **facts)
        told.set()
        return answer

    monkeypatch.setattr(journal.jobs, "beat", fails_once)
    with heart.beating(journal.jobs, taken, "w", every_s=0.01):
        assert told.wait(20)
    assert failed.is_set() and journal.jobs.get(job.id).beat > taken.beat


def test_a_heart_notices_that_the_job_was_taken_away(journal):
    journal.jobs.submit(ASKED, who="a")
    taken = journal.jobs.take("queued", "w", becomes="running")
    beats = heart.Heart(journal.jobs, taken, "w")
    beats.beat()
    assert beats.wanted
    journal.jobs.take_back("w", "watch")
    beats.beat()
    assert beats.lost and not beats.wanted
