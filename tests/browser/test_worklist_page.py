"""The service's page as people meet it: log in, see what happens as it happens, and do something about it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from medseg.service import models
from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Identity
from medseg.service.web import tokens
from tests.pages import pixels, visiting
from tests.service.served import Process, process
from tests.service.web import MARKED, liver
from tests.tiny import nifti, phantom

WAIT_MS = 20_000
NAMES = ("CT Abdomen, portal venous", "CT Thorax", "CT Abdomen nativ", "MR Liver", "CT Thorax HR")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("worklist")
    models.install(folder / "data" / "models", liver(), "liver", "1.0")
    with process(folder, name="Radiology, campus west") as running:
        with running.journal() as journal:
            fill(journal, folder)
        yield running


def fill(journal: Journal, folder: Path) -> None:
    """Jobs in every state that people meet."""
    jobs = journal.jobs
    for number in range(1, 12):
        identity = Identity(
            study_uid=f"1.2.3.{number}",
            patient_id=f"MS{number:04}",
            accession=f"A{number:05}",
            study_date="20261105",
            description=NAMES[number % 5],
            modality="CT",
        )
        one = job(number, folder, identity=MARKED if number == 4 else identity)
        jobs.submit(replace(one, receivers=("pacs", "web")), who="route abdomen")
        taken = jobs.take("queued", "worker 1", becomes="running")
        assert taken
        out = Path(taken.out)
        if number == 3:
            reason = "series 2: found a gap of 27 mm; needed slices without gaps. What to do: send the study again."
            jobs.move(taken.id, "worker 1", "failed", reason_code="missing-slices", reason=reason)
        elif number == 5:
            jobs.give_back(taken.id, "worker 1", "crashed", "the worker's process died", tries=1)
        elif number < 10:
            out.mkdir(parents=True)
            nifti(out / "case.nii.gz", phantom(0)[1])
            sums = {"case.nii.gz": hashlib.sha256((out / "case.nii.gz").read_bytes()).hexdigest()}
            told = {"volume_ml": {"left": 0.73, "right": 0.71}, "quality": {"verdict": "pass", "reasons": []}}
            verdict = "fail" if number == 7 else "look" if number == 8 else "pass"
            jobs.move(taken.id, "worker 1", "written", keep=True, files=sums, facts=told, verdict=verdict)
            jobs.move(taken.id, "worker 1", "proven", keep=True)
            if number == 7:
                jobs.move(taken.id, "worker 1", "held")
                continue
            for delivery in journal.deliveries.of(taken.id):
                journal.deliveries.tell(delivery.id, "confirmed", tried=True)
            jobs.move(taken.id, "worker 1", "sent", keep=True)
            jobs.move(taken.id, "worker 1", "done")
        elif number == 10:
            jobs.beat(taken.id, "worker 1", stage="network", share=0.42)
    jobs.submit(job(12, folder, Identity(study_uid="1.2.3.12", patient_id="MS0012")), who="route abdomen")


def job(number: int, folder: Path, identity: Identity = MARKED) -> Asked:
    scan = nifti(folder / "scans" / f"{number}.nii.gz", phantom(0)[0])
    return Asked(
        source={"all": str(scan)},
        digest=f"{number:064x}",
        case=f"case-{number}",
        model=str(models.find(folder / "data" / "models", "liver")),
        route="abdomen",
        parameters={"outputs": ["nifti"]},
        identity=identity,
        out=str(folder / "data" / "results" / str(number)),
    )


@pytest.fixture
def page(browser: Browser, started: Process) -> Iterator[Page]:
    with visiting(browser, started.address) as opened:
        opened.set_default_timeout(WAIT_MS)
        log_in(opened, started, started.token)
        yield opened


def log_in(page: Page, started: Process, token: str) -> None:
    page.goto(started.address)
    page.get_by_label("Your token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("#live[data-on=yes]")
    page.wait_for_selector("#jobs tr")


def row(page: Page, number: int) -> str:
    return page.locator(f"tr[data-job='{number}']").inner_text()


def test_a_stranger_comes_no_further_than_the_login(browser: Browser, started: Process) -> None:
    with visiting(browser, started.address, forgiven=("status of 401",)) as page:
        page.goto(f"{started.address}jobs/3")
        assert page.url.endswith("/login")
        page.get_by_label("Your token").fill("me.wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("no token that is known")
        assert page.url.endswith("/login") and page.get_by_label("Your token").input_value() == ""


def test_the_worklist_shows_every_job_and_its_summary_adds_up(page: Page) -> None:
    assert page.locator("#jobs tr").count() == 12
    assert "MS0003" in row(page, 3) and "missing-slices" in row(page, 3) and "gap of 27 mm" in row(page, 3)
    assert "liver@1.0" in row(page, 12) and "route abdomen" in row(page, 12)
    assert "42 %, network" in row(page, 10) and "? look" in row(page, 8)
    whole, parts = page.locator("#sum").inner_text().split(" jobs = ")
    assert int(whole) == 12 == sum(int(part.split()[0]) for part in parts.split(" + "))
    assert page.locator("#site").inner_text() == "Radiology, campus west"


def test_jobs_are_found_by_text_and_by_state(page: Page) -> None:
    page.locator("#text").fill("ms0003")
    expect(page.locator("#jobs tr")).to_have_count(1)
    page.locator("#text").fill("")
    page.locator("#state").select_option("held")
    expect(page.locator("#jobs tr")).to_have_count(1)
    page.get_by_role("button", name="need somebody").click()
    expect(page.locator("#jobs tr")).to_have_count(3)
    assert page.locator("#state").input_value() == ""


def test_html_in_names_is_text(page: Page) -> None:
    assert MARKED.description in row(page, 4) and page.title() == "Worklist"
    page.get_by_role("link", name="Job 4", exact=True).click()
    expect(page.locator("#study")).to_contain_text(MARKED.description)
    assert page.locator("#study b, #study script").count() == 0 and page.title() == "Job 4: done"


def test_changes_arrive_by_themselves(page: Page, started: Process) -> None:
    with started.journal() as journal:
        journal.jobs.beat(10, "worker 1", stage="network", share=0.66)
        expect(page.locator("tr[data-job='10']")).to_contain_text("66 %, network")
        assert page.locator("tr[data-job='10'] progress").get_attribute("aria-label") == "Job 10: 66 %"
        new, _ = journal.jobs.submit(job(100, started.site.parent, Identity(patient_id="NEW-ONE")), who="route abdomen")
        expect(page.locator(f"tr[data-job='{new.id}']")).to_contain_text("NEW-ONE")
        expect(page.locator("#sum")).to_contain_text("13 jobs")
        page.goto(f"{started.address}jobs/10")
        expect(page.locator("#stage")).to_have_text("66 %, network")
        journal.jobs.beat(10, "worker 1", stage="network", share=0.9)
        expect(page.locator("#stage")).to_have_text("90 %, network")
        journal.jobs.cancel(new.id, "test")


def test_a_job_that_failed_says_why_and_what_to_do_and_is_tried_again(page: Page, started: Process) -> None:
    page.goto(f"{started.address}jobs/5")
    expect(page.locator("#trouble")).to_contain_text("crashed")
    expect(page.locator("#remedy")).to_contain_text("What to do: retry it")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#state")).to_have_text("queued")
    expect(page.locator("#events tr").first).to_contain_text("token me")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    with started.journal() as journal:
        assert journal.jobs.get(5).state == "cancelled"
        journal.jobs.retry(5, "test")
        taken = journal.jobs.take("queued", "worker 2", becomes="running")
        assert taken and taken.id == 5
        journal.jobs.give_back(5, "worker 2", "crashed", "the worker's process died", tries=1)


def test_a_result_is_listed_and_downloaded(page: Page, started: Process) -> None:
    page.goto(f"{started.address}jobs/9")
    expect(page.locator("#deliveries")).to_contain_text("confirmed")
    expect(page.locator("#facts")).to_contain_text("left: 0.73")
    with page.expect_download() as download:
        page.get_by_role("link", name="case.nii.gz").click()
    fetched = Path(str(download.value.path())).read_bytes()
    assert fetched == (started.site.parent / "data/results/9/case.nii.gz").read_bytes()


def test_a_result_is_looked_at_on_a_page_that_can_reach_nothing(browser: Browser, started: Process) -> None:
    with visiting(browser, started.address, forgiven=("Content Security Policy", "blocked by CORS")) as page:
        log_in(page, started, started.token)
        page.goto(f"{started.address}jobs/9")
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Look at it").click()
        viewer = opened.value
        viewer.wait_for_selector("body[data-ready]", timeout=60_000)
        assert pixels(viewer.locator("canvas").screenshot()).std() > 5, "something is drawn"
        assert viewer.evaluate("self.origin") == "null"
        assert viewer.evaluate("fetch('/api/v1/jobs').then(() => 'reached', () => 'refused')") == "refused"


@pytest.mark.parametrize(("role", "buttons"), [("submit", []), ("admin", ["Cancel", "Release and send"])])
def test_buttons_are_those_that_a_role_may_use(browser: Browser, started: Process, role: str, buttons: list) -> None:
    token = tokens.add(started.site.parent / "tokens.yaml", role, role)  # type: ignore[arg-type]
    with visiting(browser, started.address) as page:
        log_in(page, started, token)
        page.goto(f"{started.address}jobs/7")
        expect(page.locator("#remedy")).to_contain_text("look at the result")
        assert page.locator("#actions button").all_inner_texts() == buttons
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        page.goto(started.address)
        assert page.url.endswith("/login")


def test_it_is_used_by_keyboard_alone(page: Page) -> None:
    page.locator("#text").focus()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    assert {"state", "Jobs"} < reached and any(re.fullmatch(r"Job \d+", str(name)) for name in reached)
    page.get_by_role("link", name="Job 3", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("Job 3")


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_hangs_over_the_edge(browser: Browser, started: Process, width: int) -> None:
    with visiting(browser, started.address, width=width) as page:
        log_in(page, started, started.token)
        for path in ("", "jobs/3", "jobs/9"):
            page.goto(f"{started.address}{path}")
            page.wait_for_selector("tbody tr")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            fits = "all => all.every(one => one.scrollWidth <= one.clientWidth)"
            assert page.locator(".scroll").evaluate_all(fits), (path, width)


def test_it_is_dark_where_the_reader_wants_it_dark(page: Page) -> None:
    def brightness() -> float:
        return float(np.mean(pixels(page.screenshot())))

    light = brightness()
    page.emulate_media(color_scheme="dark")
    assert brightness() < 80 < 200 < light
