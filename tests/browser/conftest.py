"""One embedded stack and one Chromium for every test here."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser.stack import RETAIL, Stack, free_ports
from tests.service.chromium import CHROMIUM


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all browser tests."""
    running = Stack(tmp_path_factory.mktemp("home"), free_ports())
    running.up()
    try:
        running.refunds("load", str(RETAIL))
        yield running
    finally:
        running.down()


@pytest.fixture
def page(chromium_path: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM)
        yield browser.new_page(viewport={"width": 1280, "height": 1000})
        browser.close()
