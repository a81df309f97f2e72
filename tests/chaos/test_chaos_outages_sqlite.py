"""The embedded ledger cannot be written for a while: its disk is full, or somebody locks it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from refunds.ledger import effects
from tests.browser.stack import free_ports
from tests.chaos.chaos_stack import ChaosStack, kill_tree, until

pytestmark = [pytest.mark.long, pytest.mark.slow]

_PAY = "POST /gateway/v1/refunds"
# A client gives up after twelve seconds: it is in the call for nearly as long.
_HELD_SECONDS = 9
# Prefect's database, the ledger and the logs take ten megabytes; this fills in a moment.
_DISK = "96m"
# Half a minute is what a writer waits for another's transaction: each one gives up at least once.
_LOCKED_SECONDS = 35
# Long enough for every process to have met it, and to have tried again.
_FULL_SECONDS = 20


@contextlib.contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "refunds", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk of its own: mounting one takes root's rights")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosStack]:
    outside = tmp_path_factory.mktemp("outside")
    with _small_disk(outside / "home") as home:
        # The rest of the world has a disk of its own.
        (outside / "sandbox").mkdir()
        (home / "sandbox").symlink_to(outside / "sandbox")
        with ChaosStack(home, free_ports(), f"sqlite:///{home / 'ledger.db'}").running() as stack:
            yield stack


@pytest.fixture
def stack(running: ChaosStack) -> Iterator[ChaosStack]:
    with running.entered():
        yield running


def _in_the_middle(stack: ChaosStack, name: str) -> list[str]:
    """One waits for a person, one is being paid, one begins."""
    waits, pays, begins = refund_ids = [f"rf-{name}-{part}" for part in ("waits", "pays", "begins")]
    stack.take(waits, paid_minor=200_000)
    until(lambda: stack.waits_for(waits, "approval"), f"{waits} waits for a person")
    rule = {"endpoint": _PAY, "kind": "timeout_after", "seconds": _HELD_SECONDS, "times": 1}
    stack.faults([{**rule, "match": {"refund_id": pays}}])
    stack.take(pays)
    key = f"{pays}:issue_refund"
    until(lambda: effects.read(stack.ledger, key) is not None, f"{pays} is being paid")
    stack.take(begins)
    return refund_ids


def _finish(stack: ChaosStack, refund_ids: list[str]) -> None:
    """All end paid, once."""

    def are_over() -> bool:
        if stack.waits_for(refund_ids[0], "approval"):
            stack.approve(refund_ids[0])
        return all(stack.row(refund_id)["outcome"] for refund_id in refund_ids)

    until(are_over, f"{', '.join(refund_ids)} end")
    assert {stack.row(refund_id)["outcome"] for refund_id in refund_ids} == {"PAID"}
    for refund_id in refund_ids:
        assert set(Counter(stack.acts(refund_id)).values()) == {1}
    assert stack.problems() == []


def test_refunds_finish_after_the_ledger_was_locked_for_long(stack: ChaosStack) -> None:
    refund_ids = _in_the_middle(stack, "locked")
    other = sqlite3.connect(stack.home / "ledger.db", isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")
        time.sleep(_LOCKED_SECONDS)
        other.execute("ROLLBACK")
    _finish(stack, refund_ids)


def test_refunds_finish_after_the_disk_was_full(stack: ChaosStack) -> None:
    refund_ids = _in_the_middle(stack, "full")
    old_worker = stack.pid("worker")
    full_until = time.monotonic() + _FULL_SECONDS
    _fill(stack.home)
    refused = stack.run("decide", refund_ids[0], "approve", "--as", "mia")
    assert refused.returncode == 1
    assert "make room" in refused.stderr
    # What is started again while nothing can be written down is written down later.
    kill_tree(old_worker)
    while time.monotonic() < full_until:
        # What others give back is taken as well.
        _fill(stack.home)
        time.sleep(1)
    for piece in stack.home.glob("filler-*"):
        piece.unlink()
    until(lambda: stack.pid("worker") != old_worker, "the new worker is written down")
    _finish(stack, refund_ids)


def _fill(home: Path) -> None:
    """Take every byte that is left."""
    size = 2**20
    name = home / f"filler-{time.monotonic_ns()}"
    with contextlib.suppress(OSError), name.open("wb", buffering=0) as piece:
        while size:
            try:
                piece.write(bytes(size))
                os.fsync(piece.fileno())
            except OSError:
                size //= 2
