"""Pages of results to look at: where they lie, and what happens to others while one is made."""

from __future__ import annotations

import threading

import pytest
from anyio import to_thread

from medseg.service.intake.store import Store
from medseg.service.web import health, views
from tests.service.web import finished, serving, site_in

WAIT_S = 60


@pytest.fixture
def service(tmp_path):
    with serving(site_in(tmp_path)) as started:
        yield started


@pytest.fixture
def job(service, tmp_path):
    found = finished(service)
    scan = tmp_path / "scan.nii.gz"
    scan.touch()
    found.source["all"] = str(scan)
    return found


def test_a_page_goes_with_the_process_that_has_made_it(service, job, monkeypatch):
    monkeypatch.setattr(views, "_make", lambda job, scan, labels, page: page.write_text("a patient's voxels"))
    made = service.client.app.state.views
    page = made.page(job, service.site.at(job.out))
    assert page.is_relative_to(service.store.incoming) and page.parent.stat().st_mode & 0o077 == 0
    service.store._alive.release()  # as a kill does
    Store(service.site, service.journal).close()
    assert not page.exists() and not service.store.incoming.exists()


def test_who_wants_a_page_while_another_is_made_is_told_to_come_back(service, job, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def slowly(job, scan, labels, page):
        begun.set()
        assert go.wait(WAIT_S)
        page.write_text("page")

    monkeypatch.setattr(views, "_make", slowly)
    monkeypatch.setattr(views, "_scan", lambda found: labels)
    labels = views.label_map(job, service.site.at(job.out))
    answers: list = []
    first = threading.Thread(target=lambda: answers.append(service.get(f"/jobs/{job.id}/viewer")))
    first.start()
    second = threading.Thread(target=lambda: answers.append(service.get(f"/jobs/{job.id}/viewer")))
    try:
        assert begun.wait(WAIT_S)
        second.start()
        second.join(WAIT_S / 6)
        assert not second.is_alive(), "it waits, and keeps a thread"
        assert answers[0].status_code == 503 and int(answers[0].headers["retry-after"]) == views.AGAIN_S
    finally:
        go.set()
        first.join(WAIT_S)
        second.join(WAIT_S)
    assert answers[1].status_code == 200 and answers[1].text == "page"


def test_it_says_that_it_is_up_though_all_its_threads_are_busy(service, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def slowly(room):
        begun.set()
        assert go.wait(WAIT_S)
        return ""

    def one_thread():
        to_thread.current_default_thread_limiter().total_tokens = 1

    monkeypatch.setattr(health, "_trouble", slowly)
    service.client.portal.call(one_thread)
    busy = threading.Thread(target=lambda: service.get("/readyz", ""))
    answers: list = []
    asking = threading.Thread(target=lambda: answers.append(service.get("/healthz", "").json()))
    busy.start()
    try:
        assert begun.wait(WAIT_S)
        asking.start()
        asking.join(WAIT_S / 6)
        assert answers == [{"up": True}]
    finally:
        go.set()
        busy.join(WAIT_S)
        asking.join(WAIT_S)
