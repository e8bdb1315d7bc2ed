"""The feed of changes: nobody misses one, whatever order the database shows them in, and nobody is waited for."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest
from sqlalchemy import insert

from medseg.service.journal import Journal, tail
from medseg.service.journal.tables import events
from medseg.service.settings.site import Site
from medseg.service.web import feed
from medseg.service.web.metrics import Metrics
from tests.service.web import asked

WAIT_S = 30


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "journal.sqlite")
    opened.jobs.submit(asked(1), who="a")
    yield opened
    opened.close()


def change(journal: Journal, number: int, job: int = 1, state: str = "received") -> None:
    """As a transaction that took its number early and ended late."""
    values = {"job": job, "at": time.time(), "state": state, "who": "a", "what": f"change {number}"}
    with journal.database.write() as connection:
        connection.execute(insert(events).values(id=number, **values))


async def heard(stream, count: int) -> list[int]:
    """Numbers of the next changes."""
    found: list[int] = []
    while len(found) < count:
        text = await asyncio.wait_for(anext(stream), WAIT_S)
        if "event: job" in text:
            found.append(json.loads(text.partition("data: ")[2])["id"])
    return found


async def listening(journal: Journal, **words):
    """A feed that runs, and a stream that has begun."""
    made = feed.Feed(journal)
    running = asyncio.create_task(made.run())
    stream = made.listen(**words)
    assert (await asyncio.wait_for(anext(stream), WAIT_S)).startswith("retry")
    return made, running, stream


async def ended(made, running, stream) -> list[str]:
    made.close()
    left = [text async for text in stream]
    await asyncio.wait_for(running, WAIT_S)
    return left


def test_a_change_that_shows_late_under_a_smaller_number_is_told(journal):
    async def run() -> list[int]:
        made, running, stream = await listening(journal)
        change(journal, 20)
        found = await heard(stream, 1)
        change(journal, 15)
        found += await heard(stream, 1)
        change(journal, 21)
        found += await heard(stream, 1)
        assert await ended(made, running, stream) == []
        return found

    assert asyncio.run(run()) == [20, 15, 21], "each once"


def test_who_comes_back_hears_what_was_missed_and_then_what_is_new(journal):
    async def run() -> list[int]:
        for number in range(10, 10 + 2 * tail.BACK):
            change(journal, number)
        made, running, stream = await listening(journal, job=1, after=10)
        found = await heard(stream, 2 * tail.BACK - 1)
        change(journal, 10 + 2 * tail.BACK)
        found += await heard(stream, 1)
        await ended(made, running, stream)
        return found

    assert asyncio.run(run()) == list(range(11, 11 + 2 * tail.BACK))


def test_who_is_too_slow_is_let_go(journal, monkeypatch):
    monkeypatch.setattr(feed, "LONGEST", 5)

    async def run() -> None:
        made, running, stream = await listening(journal)
        other = made.listen()
        await anext(other)
        for number in range(100, 110):
            change(journal, number)
            assert await heard(other, 1) == [number], "others are not"
        left = [text async for text in stream]
        assert len(left) <= 5, "and comes back with the last number"
        await ended(made, running, other)

    asyncio.run(asyncio.wait_for(run(), WAIT_S))


def test_a_journal_that_does_not_answer_is_asked_again(journal, monkeypatch):
    monkeypatch.setattr(feed, "EVERY_S", 0.02)
    events_of, calls = journal.jobs.events, []

    def sometimes(*words, **more):
        calls.append(words)
        if 2 < len(calls) < 6:
            raise OSError("gone")
        return events_of(*words, **more)

    async def run() -> list[int]:
        made, running, stream = await listening(journal)
        monkeypatch.setattr(journal.jobs, "events", sometimes)
        change(journal, 50)
        found = await heard(stream, 1)
        while len(calls) < 7:
            await asyncio.sleep(0.01)
        change(journal, 51)
        found += await heard(stream, 1)
        await ended(made, running, stream)
        return found

    assert asyncio.run(asyncio.wait_for(run(), WAIT_S)) == [50, 51]


def test_numbers_count_a_change_that_shows_late_once(journal, tmp_path):
    numbers = Metrics(Site(folder=tmp_path, data=tmp_path), journal)
    for job in (2, 3):
        journal.jobs.submit(asked(job), who="a")
    numbers.text()
    for number, job in ((20, 3), (15, 2)):
        change(journal, number, job, "queued")
        numbers.text()
    assert b'medseg_stage_seconds_count{stage="routing"} 2.0' in numbers.text()


def test_what_was_before_is_not_new_however_often_one_looks(journal):
    for number in range(10, 10 + 2 * tail.BACK):
        change(journal, number)
    late, whole = tail.Tail(journal.jobs), tail.Tail(journal.jobs, after=0)
    assert late.new() == [] and len(whole.new()) == 2 * tail.BACK + 1 and whole.new() == []
    for number in (10 + 2 * tail.BACK, 9):
        change(journal, number)
    change(journal, 2000)
    assert [number for number, _ in late.new()] == [10 + 2 * tail.BACK, 2000] and late.new() == []


def test_the_events_of_a_job_end_with_it(journal):
    async def run() -> None:
        made, running, stream = await listening(journal, job=1, after=0)
        (begun,) = await heard(stream, 1)
        journal.jobs.cancel(1, "a")
        assert len(await heard(stream, 1)) == 1
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(stream), WAIT_S)
        later = [text async for text in made.listen(1, begun)]
        assert len(later) == 2 and '"cancelled"' in later[1], "and at once where it has ended before"
        journal.jobs.retry(1, "a")
        again = made.listen(1, 0)
        await heard(again, 3)
        journal.jobs.cancel(1, "a")
        assert len(await heard(again, 1)) == 1, "but not where it is tried again"
        made.close()
        await asyncio.wait_for(running, WAIT_S)

    asyncio.run(asyncio.wait_for(run(), WAIT_S))


def test_the_events_of_a_job_end_with_it_though_it_ends_while_they_are_read(journal, monkeypatch):
    before = journal.jobs.get(1)
    journal.jobs.cancel(1, "a")
    monkeypatch.setattr(journal.jobs, "get", lambda job: before)

    async def run() -> int:
        return len([text async for text in feed.Feed(journal).listen(1, 0) if "event: job" in text])

    assert asyncio.run(asyncio.wait_for(run(), WAIT_S / 2)) == 2


@pytest.mark.parametrize("busy", [False, True])
def test_who_may_listen_no_more_is_let_go(journal, monkeypatch, busy):
    monkeypatch.setattr(feed, "QUIET_S", 0.1)
    may = [True]

    async def run() -> None:
        made, running, stream = await listening(journal, allowed=lambda: may[0])
        assert "still here" in await asyncio.wait_for(anext(stream), WAIT_S)
        may[0] = False
        for number in itertools.count():
            if busy:
                made._tell((0, "progress", {"job": 1, "percent": number}))
                await asyncio.sleep(0)
            try:
                await anext(stream)
            except StopAsyncIteration:
                break
        made.close()
        await asyncio.wait_for(running, WAIT_S)

    asyncio.run(asyncio.wait_for(run(), WAIT_S / 2))
