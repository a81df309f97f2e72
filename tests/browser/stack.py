"""`refunds up` in a home of its own, driven through the command line only."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.house.patience import PATIENCE_SECONDS

RETAIL = Path(__file__).parents[2] / "sandbox" / "retail"


def free_ports() -> int:
    """The first of three neighbouring free ports."""
    dice = random.Random(os.getpid())
    while True:
        first = dice.randrange(20_000, 30_000)
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + 3):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first


class Stack:
    """One embedded stack."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.prefect_url = f"http://127.0.0.1:{port}"
        self.service_url = f"http://127.0.0.1:{port + 1}"
        self.sandbox_url = f"http://127.0.0.1:{port + 2}"
        self.command = [str(Path(sys.executable).with_name("refunds"))]
        foreign = ("PREFECT_", "REFUNDS_")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "REFUNDS_HOME": str(home),
            "REFUNDS_PORT": str(port),
        }

    def refunds(self, *words: str) -> str:
        """Run one command, which has to end with 0; returns its output."""
        done = self.run(*words)
        assert done.returncode == 0, f"refunds {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one command, however it ends."""
        return subprocess.run(
            [*self.command, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def up(self) -> None:
        """Start, or start again."""
        # The background process keeps what it inherits open, so nothing is piped to it.
        log = (self.home / "start.log").open("ab")
        with log:
            done = subprocess.run(
                [*self.command, "up", "--background"],
                env=self.environment,
                stdout=log,
                stderr=log,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        assert done.returncode == 0, (self.home / "start.log").read_text()[-3000:]

    def down(self) -> None:
        """Stop."""
        self.refunds("down")

    def kill_everything(self) -> None:
        """kill -9 to every process of the stack, as a power cut does."""
        up = json.loads((self.home / "up.json").read_text())
        doomed = []
        for pid in (up["pid"], *up["pids"].values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                doomed += [process, *process.children(recursive=True)]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=60)

    def submit(self, requests: list[dict[str, Any]]) -> None:
        """Submit requests from a file."""
        file = self.home / "requests.jsonl"
        file.write_text("".join(json.dumps(request) + "\n" for request in requests))
        self.refunds("submit", str(file))

    def show(self, refund_id: str) -> dict[str, Any]:
        """What is known of a refund."""
        shown: dict[str, Any] = json.loads(self.refunds("show", refund_id, "--json"))
        return shown

    def until(self, refund_id: str, **expected: str) -> dict[str, Any]:
        """Wait until the refund is as expected."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            shown = self.show(refund_id)
            if all(shown[name] == value for name, value in expected.items()):
                return shown
            assert time.monotonic() < deadline, f"not {expected}: {json.dumps(shown)[:2000]}"

    def until_refused(self, refund_id: str, why: str) -> None:
        """Wait until an answer was refused and the refund's run waits for another one."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            [document] = map(json.loads, self.refunds("history", refund_id, "--json").splitlines())
            told = [e["event"] for e in document["events"] if e["data"].get("why") == why]
            run = self.show(refund_id)
            if told == ["decision.refused"] and run["state"] == "awaiting_approval":
                return
            assert time.monotonic() < deadline, f"not refused: {told}"

    def password_of(self, person: str) -> str:
        """What `refunds up` made for somebody on its first start."""
        lines = (self.home / "approvers.txt").read_text().splitlines()
        return dict(line.split() for line in lines)[person]

    def until_no_run_is_executing(self) -> None:
        """Wait until the worker has no child but its template process."""
        pid = json.loads((self.home / "up.json").read_text())["pids"]["worker"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                templates = psutil.Process(pid).children()
                running = [run for template in templates for run in template.children()]
                if not running:
                    return
            assert time.monotonic() < deadline, f"still running: {running}"


def reviews(count: int, skip: int) -> list[dict[str, Any]]:
    """Real requests that the rules send to a person for their amount alone."""
    requests = [
        json.loads(line) for line in (RETAIL / "refund_requests.jsonl").read_text().splitlines()
    ]
    orders = [request["order_id"] for request in requests]
    fit = [
        request
        for request in requests
        if 100_000 < request["amount_minor"] < 300_000 and orders.count(request["order_id"]) == 1
    ]
    return fit[skip : skip + count]


def paid(stack: Stack, refund_id: str) -> list[dict[str, Any]]:
    """What the gateway's own books say was paid for a refund."""
    answer = httpx.get(
        f"{stack.sandbox_url}/effects", params={"refund_id": refund_id, "system": "gateway"}
    )
    return list(answer.json()["effects"])
