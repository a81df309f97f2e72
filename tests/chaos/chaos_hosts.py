"""Two hosts: one dies with its runs and never comes back, the other takes them over."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from deployments.stack_environment import PROJECT, client_environment
from refunds.names import WORK_POOL
from refunds.settings import settings
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack, kill_tree, until

# Ten submitted at once are carried together.
_TOGETHER = 10


def can_be_named() -> bool:
    """Whether a process of this machine may believe to be on another host."""
    return os.geteuid() == 0 and shutil.which("unshare") is not None


def take_over(stack: ChaosStack, holds: Holds, name: str) -> dict[str, float]:
    """Seconds after a host's death until each of its refunds was another host's; by refund.

    One has a run of its own, the others are a batch. It is waited for, as it would be; then for
    their ends. Raises AssertionError.
    """
    alone, batch = f"{name}-alone", [f"{name}-{number}" for number in range(_TOGETHER)]
    refund_ids = [alone, *batch]
    for refund_id in (alone, batch[-1]):
        holds.at(refund_id, "record:issue_refund:succeeded")
    with stack.frozen("worker"), _worker_on("elsewhere"):
        stack.take(alone)
        stack.take_together(dict.fromkeys(batch, 10_000))
        for refund_id in (alone, batch[-1]):
            until(partial(holds.has_come, refund_id), f"{refund_id} is paid")
        assert all("@elsewhere:" in stack.row(each)["lease_holder"] for each in refund_ids)
    fences = {refund_id: stack.row(refund_id)["fence"] for refund_id in refund_ids}
    holds.let_all_go()
    died_at, seconds = time.monotonic(), dict[str, float]()

    def all_are_taken() -> bool:
        for refund_id in set(refund_ids) - seconds.keys():
            if stack.row(refund_id)["fence"] > fences[refund_id]:
                seconds[refund_id] = time.monotonic() - died_at
        return len(seconds) == len(refund_ids)

    until(all_are_taken, "this host has them all")
    for refund_id in refund_ids:
        until(partial(_is_paid, stack, refund_id), f"{refund_id} ends")
        assert stack.acts(refund_id).count(f"{refund_id}:issue_refund") == 1
    return seconds


def told(seconds: dict[str, float]) -> str:
    """It in two sentences; empty where it was not tried."""
    if not seconds:
        return ""
    return (
        f"It died with {len(seconds)} refunds, one with a run of its own and the others in a "
        f"batch. Another host had the first of them after "
        f"{min(seconds.values()):.0f} s and the last after {max(seconds.values()):.0f} s; nothing "
        "was done but to wait."
    )


def _is_paid(stack: ChaosStack, refund_id: str) -> bool:
    return bool(stack.row(refund_id)["outcome"] == "PAID")


@contextlib.contextmanager
def _worker_on(host: str) -> Iterator[None]:
    """A worker that believes to be on a host of that name."""
    worker = f"{sys.executable} -m deployments.warm_worker --pool {WORK_POOL} --name {host}"
    process = subprocess.Popen(
        ["unshare", "--uts", "sh", "-c", f"hostname {host} && exec {worker}"],
        env=client_environment(settings(), os.environ),
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        kill_tree(process.pid)
        process.wait()
