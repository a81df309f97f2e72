"""Two processes of the service behind one ledger are one service."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path
from typing import cast

import httpx2
import pytest
from starlette.testclient import TestClient

from refunds import links
from refunds.ledger.access import accounts
from tests.browser.stack import free_ports
from tests.house.patience import PATIENCE_SECONDS
from tests.service.service_world import PASSWORD, Browser, World, review

PROJECT = Path(__file__).parents[2]


class Doors:
    """Both processes, and browsers that meet now one and now the other."""

    def __init__(self, addresses: tuple[str, str], running: ExitStack) -> None:
        self._addresses = addresses
        self._running = running

    def browsers(self) -> tuple[Browser, Browser]:
        """One person's browser, as each of the two processes meets it."""
        jar = CookieJar()
        first, second = (
            self._running.enter_context(
                httpx2.Client(base_url=address, cookies=jar, follow_redirects=True, timeout=30)
            )
            for address in self._addresses
        )
        # Clients like the test client, which is one itself.
        return Browser(cast("TestClient", first)), Browser(cast("TestClient", second))


@pytest.fixture
def doors(desk: World) -> Iterator[Doors]:
    """Two processes over the desk's ledger."""
    port = free_ports()
    command = [sys.executable, "-m", "uvicorn", "refunds.service.app:app", "--log-level", "error"]
    with ExitStack() as running:
        for number in (port, port + 1):
            process = subprocess.Popen(
                [*command, "--port", str(number)], env=dict(os.environ), cwd=PROJECT
            )
            running.callback(process.wait)
            running.callback(process.terminate)
        addresses = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
        for address in addresses:
            _until_it_answers(address)
        yield Doors(addresses, running)


def _until_it_answers(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            httpx2.get(f"{address}/health/ready").raise_for_status()
        except httpx2.HTTPError:
            assert time.monotonic() < deadline, address
            time.sleep(0.05)
        else:
            return


def test_sessions_links_and_limits_are_those_of_all_processes(desk: World, doors: Doors) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    refund_id = desk.waiting(amount_minor=1_500_000)
    here, there = doors.browsers()

    # The form of one process is taken by the other, and so is the session.
    here.get("/sign-in")
    there.page = here.page
    assert there.post("/sign-in", person="ann", password=PASSWORD).status_code == 303
    assert here.get("/inbox").status_code == 200
    assert here.listed == [refund_id]

    standing = desk.standing(refund_id)
    token = links.sign(refund_id, "ann", standing.digest, standing.deadline)
    there.get(f"{review(refund_id)}?link={token}")
    form = {"decision": "approve", "digest": standing.digest, "link": token}
    assert there.post(review(refund_id), **form).status_code == 303
    assert here.get(f"{review(refund_id)}?link={token}").status_code == 409
    assert "this link was used already" in here.text
    assert desk.said(refund_id) == [("ann", "APPROVED")]

    here.get("/inbox")
    assert here.post("/sign-out").status_code == 303
    assert "Sign in" in there.get("/inbox").text

    guesses = [
        browser.sign_in("ann", f"guess {number}").status_code
        for number in range(6)
        for browser in (here, there)
    ]
    assert guesses[:9] == [401] * 9
    assert guesses[-1] == 429


def test_a_page_of_one_process_hears_what_was_decided_at_the_other(
    desk: World, doors: Doors
) -> None:
    accounts.set_password(desk.ledger, "ann", PASSWORD)
    refund_id = desk.waiting()
    here, there = doors.browsers()
    here.sign_in("ann")
    with there.client.stream("GET", "/changes") as stream:
        marks = (line for line in stream.iter_lines() if line.startswith("data:"))
        before = next(marks)
        assert here.decide(refund_id, "approve").status_code == 303
        assert next(marks) != before
    there.get("/inbox")
    assert re.search("Nothing waits for you", there.text)
