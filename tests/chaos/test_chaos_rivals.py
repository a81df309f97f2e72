"""Two processes that both take themselves for the one runner of a refund."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil
import pytest

from refunds.ledger import history
from tests.chaos.chaos_boundaries import TIMEOUT_AFTER
from tests.chaos.chaos_stack import ChaosStack, has_ended, let_the_lease_run_out, until


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[psutil.Process]:
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


@pytest.mark.postgresql
@pytest.mark.slow
def test_a_runner_that_slept_past_its_lease_is_refused_when_it_wakes_up(
    stack: ChaosStack,
) -> None:
    refund_id = "rf-rivals"
    stack.faults([{"times": 1, "match": {"refund_id": refund_id}, **TIMEOUT_AFTER}])
    stack.take(refund_id)
    until(lambda: f"{refund_id}:issue_refund" in stack.acts(refund_id), "the gateway has paid")
    first_pid = stack.pid_of_run(refund_id)
    assert first_pid is not None
    with _stopped(first_pid) as first:
        let_the_lease_run_out(stack, refund_id)
        until(lambda: stack.row(refund_id)["outcome"] == "PAID", "another runner has finished it")
        events = history.read(stack.ledger, refund_id)
        first.resume()
        until(lambda: not first.is_running() or has_ended(first.pid), "the first runner has ended")
    assert history.read(stack.ledger, refund_id) == events
    names = [event["event"] for event in events]
    assert names.count("run.took_over") == 2
    assert names.count("effect.intended") == len(set(stack.acts(refund_id)))
    assert stack.acts(refund_id).count(f"{refund_id}:issue_refund") == 1
    assert stack.problems() == []
