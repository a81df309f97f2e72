"""The service at an address of its own, a real browser in front of it, and axe beside it."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, sync_playwright

from tests.service.service_world import PASSWORD

# Only this machine: none of Chromium's own services is asked.
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

# What keeps somebody from using a page, or makes it hard.
_SERIOUS = ("serious", "critical")


@contextlib.contextmanager
def served(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The service in a thread; its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@contextlib.contextmanager
def a_browser(path: Path) -> Iterator[Browser]:
    """A real browser; no other event loop may run in this thread meanwhile."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield chromium
        chromium.close()


def a_page(browser: Browser) -> Page:
    """A page with cookies of its own."""
    return browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()


def sign_in(page: Page, address: str, person: str, password: str = PASSWORD) -> None:
    """Sign in as a person does."""
    page.goto(f"{address}/inbox")
    give_name_and_password(page, person, password)
    page.get_by_role("heading", name="Inbox").wait_for()


def give_name_and_password(page: Page, person: str, password: str) -> None:
    """Fill in the sign-in to which somebody was led."""
    page.get_by_label("Name").fill(person)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def nothing_serious(page: Page) -> None:
    """Whoever cannot see well or uses no mouse can use this page."""
    found = Axe().run(page).response["violations"]
    serious = [f"{v['id']}: {v['help']}" for v in found if v["impact"] in _SERIOUS]
    assert not serious, (page.url, serious)


def picture(page: Page, name: str) -> None:
    """Keep a picture for the documentation, when one is asked for."""
    if folder := os.environ.get("PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png")
