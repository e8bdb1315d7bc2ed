"""Chromium without a screen, for pages that must work without a network; tests skip where there is none."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="not installed: Chromium (Debian package chromium)")
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


@contextmanager
def chromium() -> Iterator[Browser]:
    """While it runs, no other test can start an event loop."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@contextmanager
def opening(browser: Browser) -> Iterator[Callable[[Path], Page]]:
    """Yield a function that opens a file. In the end nothing may have been asked of anybody, and the console must have
    stayed silent."""
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
    assert said == [], f"in the console: {said}"


@contextmanager
def visiting(browser: Browser, address: str, *, width: int = 1280, forgiven: tuple[str, ...] = ()) -> Iterator[Page]:
    """A page of a server. In the end nothing may have been asked of anybody else, and the console must have stayed
    silent.

    Args:
        address: all that is asked must begin so.
        forgiven: parts of what the browser itself says of answers that a test asks for.
    """
    viewport = {"width": width, "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme="light")  # type: ignore[arg-type]
    asked: list[str] = []
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        fine = (OF_THE_BROWSER, *forgiven)
        if message.type in ("error", "warning") and not any(part in message.text for part in fine):
            said.append(message.text)

    def decide(route: Route) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    context.on("console", listen)
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.route("**/*", decide)
    yield context.new_page()
    context.close()
    assert asked == [], f"asked of somebody else: {asked}"
    assert said == [], f"in the console: {said}"


def pixels(picture: bytes) -> np.ndarray:
    """(rows, columns, 3) uint8 of a screenshot."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
