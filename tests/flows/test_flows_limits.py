"""Limits on a real Prefect server, which counts for all processes together."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.setup import set_up
from refunds.settings import Limit, Settings
from tests.flows.flows_world import World
from tests.house.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

_AT_ONCE = 3

# Calls from a process of its own, each until it gets its turn, or once.
_CALLS = """
import asyncio, json, sys
from refunds.errors import SystemBusy
from tasks import http

async def call(patient):
    while True:
        try:
            await http.call("coupons", "POST", "/take", json={})
            return "done"
        except SystemBusy:
            if not patient:
                return "busy"

async def all_of_them(count, patient):
    ends = await asyncio.gather(*(call(patient) for _ in range(count)))
    await http.close()
    print(json.dumps(ends))

asyncio.run(all_of_them(int(sys.argv[1]), sys.argv[2] == "patient"))
"""


class Counter:
    """A server that answers when so many are there at once, and remembers the most."""

    def __init__(self, wave: int) -> None:
        self.now = self.most = self.taken = 0
        self._gate = threading.Barrier(wave)
        self._lock = threading.Lock()
        counter = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with counter.counted():
                    counter._gate.wait(PATIENCE_SECONDS)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                """Nothing is written to the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self.now += 1
            self.taken += 1
            self.most = max(self.most, self.now)
        yield
        with self._lock:
            self.now -= 1

    @contextmanager
    def running(self) -> Iterator[Counter]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._gate.abort()
            self._server.shutdown()
            thread.join()
            self._server.server_close()


async def _two_processes(
    world: World, url: str, limit: Limit, count: int, *, patient: bool
) -> list[str]:
    """So many calls from each of two processes under a limit that was set up; how they ended."""
    home, port = Path(world.environment["REFUNDS_HOME"]), int(world.environment["REFUNDS_PORT"])
    await set_up(Settings(home=home, port=port, limits={"coupons": limit}))
    limits = {"coupons": limit.model_dump(exclude_none=True)}
    environment = world.environment | {
        "REFUNDS_COUPONS_URL": url,
        "REFUNDS_LIMITS": json.dumps(limits),
    }
    words = (str(count), "patient" if patient else "once")
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _CALLS, *words),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = [(await process.communicate())[0] for process in processes]
    return [end for ends in said for end in json.loads(ends)]


async def test_two_processes_together_send_no_more_at_once_than_allowed(world: World) -> None:
    with Counter(_AT_ONCE).running() as counter:
        ends = await _two_processes(
            world, counter.url, Limit(at_once=_AT_ONCE), 2 * _AT_ONCE, patient=True
        )
    assert ends == ["done"] * 4 * _AT_ONCE
    assert (counter.taken, counter.most) == (4 * _AT_ONCE, _AT_ONCE)


async def test_two_processes_share_one_rate(world: World) -> None:
    # One call in a hundred seconds: each process alone would send its first at once.
    with Counter(1).running() as counter:
        ends = await _two_processes(world, counter.url, Limit(per_second=0.01), 1, patient=False)
    assert sorted(ends) == ["busy", "done"]
    assert counter.taken == 1
