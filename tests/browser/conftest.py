"""Chromium without a screen, for pages that must work without a network. Tests are skipped where there is none."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
LAPTOP = {"width": 1366, "height": 768}
OF_THE_BROWSER = "GL Driver Message"
"""What the graphics driver says of its own speed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="not installed: Chromium (Debian package chromium)"))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all tests here. It is closed after them: while it runs, no other test could start an event loop."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[[Path], Page]]:
    """Opens a file. Afterwards nothing may have been asked of anybody, and the console must have stayed silent."""
    context = browser.new_context(viewport=LAPTOP, color_scheme="light")  # type: ignore[arg-type]
    asked: list[str] = []
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and OF_THE_BROWSER not in message.text:
            said.append(message.text)

    def show(path: Path) -> Page:
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: said.append(str(error)))
        address = path.resolve().as_uri()

        def decide(route: Route) -> None:
            if route.request.url == address:
                route.continue_()
            else:
                asked.append(route.request.url)
                route.abort()

        page.route("**/*", decide)
        page.goto(address)
        return page

    yield show
    context.close()
    assert asked == [], "asked of somebody"
    assert said == [], "in the console"


def pixels(picture: bytes) -> np.ndarray:
    """(rows, columns, 3) uint8 of a screenshot."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
