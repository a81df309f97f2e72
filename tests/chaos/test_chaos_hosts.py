"""Two hosts: one dies with its runs and never comes back, the other takes them over."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from deployments.stack_environment import PROJECT, client_environment
from refunds.ledger import history
from refunds.names import WORK_POOL
from refunds.settings import settings
from tests.chaos.chaos_matrix import BOUNDARIES
from tests.chaos.chaos_stack import ChaosStack, kill_tree, until

_IN_THE_CALL = next(b for b in BOUNDARIES if b.name.startswith("after the gateway acted"))


@contextlib.contextmanager
def _worker_on(host: str) -> Iterator[int]:
    """A worker that believes to be on a host of that name."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a host of another name needs root and unshare")
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
        yield process.pid
    finally:
        kill_tree(process.pid)
        process.wait()


@pytest.mark.postgresql
@pytest.mark.slow
def test_the_runs_of_a_host_that_never_comes_back_are_taken_over_by_another(
    stack: ChaosStack,
) -> None:
    refund_id = "rf-hosts"
    stack.faults([{"times": 1, "match": {"refund_id": refund_id}, **_IN_THE_CALL.fault}])
    with stack.frozen("worker"), _worker_on("elsewhere"):
        stack.take(refund_id)
        until(lambda: f"{refund_id}:issue_refund" in stack.acts(refund_id), "the gateway has paid")
        assert "@elsewhere:" in stack.row(refund_id)["lease_holder"]
    died_at = time.monotonic()
    until(lambda: stack.row(refund_id)["run_number"] == 2, "another run has it")
    print(f"taken over {time.monotonic() - died_at:.0f} s after its host died")
    until(lambda: stack.row(refund_id)["outcome"] == "PAID", "it ends")
    events = [event["event"] for event in history.read(stack.ledger, refund_id)]
    assert events.count("run.took_over") == 2
    assert stack.acts(refund_id).count(f"{refund_id}:issue_refund") == 1
    assert psutil.Process(stack.pid("worker")).is_running()
    assert stack.problems() == []
