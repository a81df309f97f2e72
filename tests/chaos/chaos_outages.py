"""A stack whose Prefect, ledger and clock can be taken away for a while, all from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from refunds.ledger.engine import dispose_engines
from tasks import books
from tests.chaos.chaos_stack import ChaosStack, kill_tree, until
from tests.house.patience import PATIENCE_SECONDS
from tests.house.services import Cluster

# How long something stays away. CI takes seconds, with clients that give up as much sooner; ten
# minutes are `REFUNDS_CHAOS_OUTAGE_SECONDS=600 make test TESTS=tests/chaos/test_chaos_outages.py`.
_SCALED = 15.0
OUTAGE_SECONDS = float(os.environ.get("REFUNDS_CHAOS_OUTAGE_SECONDS", _SCALED))
IS_SCALED = OUTAGE_SECONDS == _SCALED


class OutageStack(ChaosStack):
    """A stack in the foreground of this process, on a ledger and a clock of its own."""

    def __init__(self, home: Path, port: int, cluster: Cluster) -> None:
        super().__init__(home, port, cluster.url)
        self.cluster = cluster
        self._offset = home / "clock-offset"
        self._process: subprocess.Popen[bytes] | None = None
        if IS_SCALED:
            # Five tries take a minute, which is nothing in ten.
            self.environment["PREFECT_CLIENT_MAX_RETRIES"] = "1"
        if library := _clock_library(home):
            self._set_clock(0)
            self.environment |= {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._offset)}

    # --- Up and down ---

    def up(self) -> None:
        """Start, or start again."""
        log = (self.home / "start.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self.command, "up"], env=self.environment, stdout=log, stderr=log
            )
        addresses = self.home / "up.json"
        until(lambda: addresses.exists() or self._process_ended(), "it is up")
        assert addresses.exists(), (self.home / "start.log").read_text()[-3000:]

    def down(self) -> None:
        """Stop, however."""
        if self._process is not None and not self._process_ended():
            self.stop()

    def stop(self) -> int:
        """SIGTERM, as from an operating system that shuts down; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_SECONDS)

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    # --- What goes away ---

    @contextlib.contextmanager
    def without(self, role: str) -> Iterator[None]:
        """A role's process is dead, and nobody starts it again meanwhile."""
        up = json.loads((self.home / "up.json").read_text())
        supervisor = psutil.Process(up["pid"])
        supervisor.suspend()
        try:
            kill_tree(up["pids"][role])
            yield
        finally:
            supervisor.resume()

    @contextlib.contextmanager
    def without_ledger(self) -> Iterator[None]:
        """The ledger's database refuses every connection."""
        self.cluster.stop()
        try:
            yield
        finally:
            self.cluster.start()
            # This process, too, holds connections that are dead now.
            dispose_engines()
            books._engine.cache_clear()

    def jump(self, hours: float) -> None:
        """Set the time of day of every process of the stack, while it runs."""
        if not self._offset.exists():
            pytest.skip("no C compiler: install one, to let clocks jump")
        self._set_clock(round(hours * 3600))

    def _set_clock(self, seconds: int) -> None:
        # In place and at once: every process has it in its memory.
        descriptor = os.open(self._offset, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, struct.pack("q", seconds), 0)
        finally:
            os.close(descriptor)

    # --- Refunds ---

    def pass_time(self, since: float) -> None:
        """Let the rest of an outage pass that began at a monotonic time."""
        time.sleep(max(0.0, since + OUTAGE_SECONDS - time.monotonic()))

    def approve_by_command(self, refund_id: str) -> subprocess.CompletedProcess[str]:
        """A person approves at the command line, under the stack's own clock."""
        return self.run("decide", refund_id, "approve", "--as", "mia")

    def finish(self, *refund_ids: str) -> None:
        """All end paid, by themselves, and nothing was done twice."""
        until(
            lambda: all(self.row(refund_id)["outcome"] for refund_id in refund_ids),
            f"{', '.join(refund_ids)} end",
        )
        assert {self.row(refund_id)["outcome"] for refund_id in refund_ids} == {"PAID"}
        for refund_id in refund_ids:
            acts = Counter(self.acts(refund_id))
            assert acts[f"{refund_id}:issue_refund"] == 1
            assert set(acts.values()) == {1}
        assert self.problems() == []


def _clock_library(home: Path) -> Path | None:
    """What moves the time of day of whoever loads it, made by the machine's own compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = home / "clock.so"
    source = str(Path(__file__).with_name("chaos_clock.c"))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), source, "-ldl"], check=True)
    return library
