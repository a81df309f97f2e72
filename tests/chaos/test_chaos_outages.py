"""What a refund needs goes away for a while, in the middle: it ends afterwards, once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from refunds.ledger import effects, history
from tests.browser.stack import free_ports
from tests.chaos.chaos_outages import IS_SCALED, OutageStack
from tests.chaos.chaos_stack import until
from tests.house import services

# The first one also starts the stack, which takes minutes on a busy machine; the long version
# takes ten of them away.
pytestmark = [pytest.mark.postgresql, pytest.mark.slow, pytest.mark.timeout(1_800)]

_PAY = "POST /gateway/v1/refunds"
# Long enough to take something away while the gateway holds the call, on a busy machine too; the
# client gives up after twelve.
_HELD_SECONDS = 9


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutageStack]:
    home = tmp_path_factory.mktemp("outages")
    with (
        services.cluster() as cluster,
        OutageStack(home, free_ports(), cluster).running() as stack,
    ):
        assert isinstance(stack, OutageStack)
        yield stack


@pytest.fixture
def stack(running: OutageStack) -> Iterator[OutageStack]:
    with running.entered():
        yield running


def _bring_to_pay(stack: OutageStack, refund_id: str, kind: str = "timeout_after") -> None:
    """The refund is in the call that pays."""
    rule = {"endpoint": _PAY, "kind": kind, "seconds": _HELD_SECONDS, "times": 1}
    stack.faults([{**rule, "match": {"refund_id": refund_id}}])
    stack.take(refund_id)
    key = f"{refund_id}:issue_refund"
    until(lambda: effects.read(stack.ledger, key) is not None, f"{refund_id} is being paid")


def _bring_to_wait(stack: OutageStack, refund_id: str) -> None:
    """A person is asked about the refund."""
    stack.take(refund_id, paid_minor=200_000)
    until(lambda: stack.waits_for(refund_id, "approval"), f"{refund_id} waits for a person")


# One that is gone is also in the crash matrix; CI has little time.
@pytest.mark.parametrize("how", ["hangs"] if IS_SCALED else ["hangs", "is gone"])
def test_refunds_finish_after_prefect_was_away_in_every_phase_of_theirs(
    stack: OutageStack, how: str
) -> None:
    name = f"rf-prefect-{how.replace(' ', '-')}"
    waits, pays, begins, comes = (f"{name}-{part}" for part in ("waits", "pays", "begins", "comes"))
    _bring_to_wait(stack, waits)
    _bring_to_pay(stack, pays)
    stack.take(begins)
    since = time.monotonic()
    with stack.frozen("prefect") if how == "hangs" else stack.without("prefect"):
        # Both are taken at the door: they need the ledger alone.
        stack.approve(waits)
        assert stack.row(waits)["state"] == "approved"
        stack.take(comes)
        assert stack.row(comes)["state"] == "received"
        stack.pass_time(since)
    stack.finish(waits, pays, begins, comes)


def test_refunds_finish_after_the_ledger_was_away_in_the_middle_of_a_payment(
    stack: OutageStack,
) -> None:
    asked, acted, waits = "rf-ledger-asked", "rf-ledger-acted", "rf-ledger-waits"
    _bring_to_wait(stack, waits)
    _bring_to_pay(stack, asked, "slow")
    _bring_to_pay(stack, acted)
    since = time.monotonic()
    with stack.without_ledger():
        refused = stack.run("list")
        assert refused.returncode == 1
        assert "the database does not answer" in refused.stderr
        stack.pass_time(since)
    stack.approve(waits)
    stack.finish(asked, acted, waits)


@pytest.mark.long
@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_an_hour_pays_nothing_twice_and_stops_nothing(
    stack: OutageStack, hours: int
) -> None:
    name = f"rf-clock-{'ahead' if hours > 0 else 'back'}"
    pays, waits = f"{name}-pays", f"{name}-waits"
    stack.jump(0)
    _bring_to_wait(stack, waits)
    _bring_to_pay(stack, pays)
    stack.jump(hours)
    try:
        done = stack.approve_by_command(waits)
        assert done.returncode == 0, done.stderr
        stack.finish(pays, waits)
    finally:
        stack.jump(0)


@pytest.mark.long
def test_what_expired_while_the_clock_was_ahead_is_not_approved_when_it_is_back(
    stack: OutageStack,
) -> None:
    waits = "rf-clock-expires"
    stack.jump(0)
    _bring_to_wait(stack, waits)
    # Past the two days that both levels have.
    stack.jump(100)
    try:
        late = stack.approve_by_command(waits)
        assert late.returncode == 1
        until(lambda: stack.row(waits)["outcome"], f"{waits} ends")
    finally:
        stack.jump(0)
    assert stack.row(waits)["outcome"] == "EXPIRED"
    assert stack.approve_by_command(waits).returncode == 1
    assert f"{waits}:issue_refund" not in stack.acts(waits)
    assert stack.problems() == []


def test_a_stack_that_is_told_to_stop_lets_refunds_finish_or_hands_them_over(
    stack: OutageStack,
) -> None:
    waits, pays, begins = "rf-stop-waits", "rf-stop-pays", "rf-stop-begins"
    _bring_to_wait(stack, waits)
    _bring_to_pay(stack, pays)
    stack.take(begins)
    began = time.monotonic()
    assert stack.stop() == 0
    print(f"stopped in {time.monotonic() - began:.1f} s")
    stack.up()
    stack.approve(waits)
    stack.finish(waits, pays, begins)
    names = [event["event"] for event in history.read(stack.ledger, pays)]
    assert names.count("effect.intended") == len(set(stack.acts(pays)))
