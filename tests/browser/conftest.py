"""One browser for all tests of pages. It is closed after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests import pages


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pages.NEEDED)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with pages.chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[[Path], Page]]:
    with pages.opening(browser) as show:
        yield show
