"""Runs at the real service that are cancelled, slowed down or cut off."""

from __future__ import annotations

import random
import time

import pytest

from MedSegLib.work import CANCELLED, DONE, FAILED, Line, Progress
from tests.slicer.asking import SOON, WAIT_S, asked, left, order, remote
from tests.slicer.heard import AT_ONCE_S, Heard, is_stage
from tests.slicer.rude import road


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_cancel_at_any_moment_leaves_nothing(site, folder, seed):
    one = order(folder, 128)
    heard = Heard(remote(site).start(one))
    moment = random.Random(seed).uniform(0, 3)
    heard.during(moment)
    heard.cancel()
    assert heard.outcome(2).state == CANCELLED and left(one) == [], moment
    assert heard.slowest < AT_ONCE_S
    end = time.monotonic() + WAIT_S
    while any(not job["ended"] for job in asked(site, "jobs")["jobs"]):
        assert time.monotonic() < end, "the service is at it still"
        time.sleep(0.1)


def test_what_was_cancelled_is_tried_again_when_it_is_asked_for_again(site, folder):
    one = order(folder, 64)
    heard = Heard(remote(site).start(one))
    heard.until(lambda event: isinstance(event, Line) and "queued" in event.text)
    heard.cancel()
    assert heard.outcome(2).state == CANCELLED
    again = Heard(remote(site).start(one))
    assert again.outcome().state == DONE
    assert any("same job" in line for line in again.lines)


def test_a_cancel_leaves_a_job_to_whoever_had_it_begun(site, folder):
    first = Heard(remote(site).start(order(folder, 80, seed=77)))
    first.until(lambda event: isinstance(event, Line) and "queued" in event.text)
    one = order(folder, 80, seed=77)
    second = Heard(remote(site, "admin").start(one))
    second.until(lambda event: isinstance(event, Line) and "same job" in event.text)
    second.cancel()
    assert second.outcome(2).state == CANCELLED and left(one) == []
    ended = first.outcome()
    assert ended.state == DONE, ended.failure


def test_a_stalled_network_keeps_nobody_waiting(site, folder):
    """While it is asked, sent, listened to and fetched."""
    with road(site.port) as way:
        for stage in ("asking", "sending", "waiting", "segmenting"):
            one = order(folder, 96)
            if stage == "asking":
                way.open.clear()
            heard = Heard(remote(site, address=site.at(way.port)).start(one))
            heard.until(is_stage(stage))
            way.open.clear()
            heard.during(0.3)
            heard.cancel()
            assert heard.outcome(2).state == CANCELLED and left(one) == [], stage
            assert heard.slowest < AT_ONCE_S, stage
            way.open.set()


@pytest.mark.slow
def test_a_slow_network_only_takes_longer(site, folder):
    with road(site.port) as way:
        way.delay_s = 0.2
        heard = Heard(remote(site, address=site.at(way.port)).start(order(folder)))
        assert heard.outcome().state == DONE and heard.slowest < AT_ONCE_S


def test_a_service_that_dies_half_way_and_comes_back(site, folder):
    heard = Heard(remote(site).start(order(folder, 80)))
    heard.until(lambda event: isinstance(event, Progress) and event.percent >= 10)
    site.kill("serve")
    heard.until(lambda event: isinstance(event, Line) and "Trying again" in event.text)
    site.start("serve")
    assert heard.outcome().state == DONE and heard.slowest < AT_ONCE_S
    assert heard.percents == sorted(heard.percents)


def test_a_service_that_is_gone_for_good_is_given_up(site, folder):
    one = order(folder, 128)
    heard = Heard(remote(site, limits=SOON).start(one))
    heard.until(is_stage("segmenting"))
    site.kill("serve")
    try:
        gone = heard.outcome(SOON.patience + SOON.connect + 10)
    finally:
        site.start("serve")
    assert gone.state == FAILED and gone.failure and gone.failure.code == "no-server"
    assert "Nothing answers at 127.0.0.1" in gone.failure.what and "run it again" in gone.failure.remedy
    assert left(one) == [] and heard.slowest < AT_ONCE_S
    again = Heard(remote(site).start(one))
    again.until(lambda event: isinstance(event, Line) and "same job" in event.text)
    again.cancel()
    assert again.outcome(2).state == CANCELLED


def test_an_upload_that_is_cut_is_sent_again_and_is_one_job(site, folder):
    before = len(asked(site, "jobs")["jobs"])
    with road(site.port) as way:
        for late in (False, True):
            way.limit, way.late = 200_000, late
            heard = Heard(remote(site, address=site.at(way.port)).start(order(folder, 64)))
            assert heard.outcome().state == DONE and way.limit is None
            assert any("Trying again" in line for line in heard.lines)
            assert any("same job" in line for line in heard.lines) == late
    assert len(asked(site, "jobs")["jobs"]) == before + 2


def test_a_stream_that_is_cut_again_and_again_is_taken_up(site, folder):
    with road(site.port) as way:
        heard = Heard(remote(site, address=site.at(way.port)).start(order(folder, 80)))
        for percent in (10, 40):
            heard.until(lambda event, least=percent: isinstance(event, Progress) and event.percent >= least)
            way.cut()
        assert heard.outcome().state == DONE
    said = [line for line in heard.lines if line.startswith("service:")]
    assert len(said) == len(set(said)), "each change once"
    assert heard.percents == sorted(heard.percents)
