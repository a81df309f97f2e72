"""A refund is given up only while nothing of it was paid, may have been, or is being told."""

from datetime import timedelta

import pytest

from refunds.errors import BadInput, CannotGiveUp, LedgerRefusal, StaleRunner, UnknownRefund
from refunds.ledger import abandonment, approvals, charges, effects, leases, requests, waits
from refunds.ledger.book import LEASE_SECONDS
from refunds.models import State
from tests.ledger.ledger_desk import Desk, Runner


def stuck(desk: Desk, runner: Runner) -> Runner:
    """Handed to a person, as a step that was refused leaves it."""
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        page.change(attention="logistics: it answered 422")
        page.enter(State.NEEDS_ATTENTION)
    sleeping(desk, runner, "attention-1")
    return runner


def sleeping(desk: Desk, runner: Runner, name: str) -> None:
    waits.open_wait(
        desk.ledger,
        runner.refund_id,
        name,
        reason="person",
        run_id="run-1",
        fence=runner.fence,
    )


def reserved(desk: Desk) -> Runner:
    runner = desk.run()
    charges.reserve(desk.ledger, runner.case, runner.fence)
    return runner


def give_up(desk: Desk, runner: Runner) -> None:
    abandonment.abandon(desk.ledger, runner.refund_id, "lea", "the parcel is lost")


def money(desk: Desk, runner: Runner) -> tuple[int, int]:
    assert runner.case.order is not None
    return desk.money(runner.case.order)


def test_giving_up_frees_the_money_and_wakes_the_run(desk: Desk) -> None:
    runner = stuck(desk, reserved(desk))
    assert money(desk, runner) == (1_000, 0)
    for _ in range(2):
        give_up(desk, runner)
    assert money(desk, runner) == (0, 0)
    with desk.ledger.page(runner.refund_id) as page:
        assert waits.claim_wake(page) == "run-1"
    assert desk.events(runner.refund_id).count("refund.given_up") == 1


def test_the_next_run_learns_who_gave_it_up_and_why(desk: Desk) -> None:
    runner = stuck(desk, reserved(desk))
    give_up(desk, runner)
    lease = leases.take(desk.ledger, runner.refund_id, "run-1")
    assert lease.given_up == "Given up by lea: the parcel is lost"


def test_what_was_given_up_can_be_paid_by_nobody(desk: Desk) -> None:
    runner = reserved(desk)
    sleeping(desk, runner, "outage-gateway-1")
    give_up(desk, runner)
    with pytest.raises(StaleRunner):
        desk.intend(runner)
    fence = leases.take(desk.ledger, runner.refund_id, "run-1").fence
    assert fence is not None
    with pytest.raises(LedgerRefusal, match="no money is reserved"):
        desk.intend(Runner(runner.case, fence))


def test_a_runner_that_was_slow_is_fenced_off(desk: Desk) -> None:
    runner = reserved(desk)
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        page.enter(State.NEEDS_ATTENTION)
    desk.clock.advance(LEASE_SECONDS)
    give_up(desk, runner)
    with pytest.raises(StaleRunner):
        desk.intend(runner)


def test_an_open_question_is_taken_back(desk: Desk) -> None:
    runner = stuck(desk, desk.asked())
    give_up(desk, runner)
    assert desk.standing(runner).status == approvals.SUPERSEDED


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("intended", "may have been sent"),
        ("unknown", "may have been made"),
        ("pending", "is pending at the gateway"),
        ("succeeded", "it is paid"),
        ("refused", "has refused it for good"),
    ],
)
def test_a_payment_that_was_begun_forbids_giving_up(desk: Desk, state: str, why: str) -> None:
    runner = desk.paying()
    if state != "intended":
        desk.record(runner, state, response={"id": "re_1"})
    before = money(desk, runner)
    stuck(desk, runner)
    with pytest.raises(CannotGiveUp, match=why):
        give_up(desk, runner)
    assert money(desk, runner) == before
    assert "refund.given_up" not in desk.events(runner.refund_id)


def test_an_ending_that_is_being_told_forbids_giving_up(desk: Desk) -> None:
    runner = desk.run()
    desk.intend(runner, "sync_crm")
    stuck(desk, runner)
    with pytest.raises(CannotGiveUp, match="is being told"):
        give_up(desk, runner)


def test_a_refund_that_is_being_carried_on_is_not_given_up(desk: Desk) -> None:
    runner = stuck(desk, desk.run())
    assert leases.take(desk.ledger, runner.refund_id, "run-1").fence is not None
    with pytest.raises(CannotGiveUp, match="at this moment"):
        give_up(desk, runner)


def test_a_refund_that_is_not_stuck_is_not_given_up(desk: Desk) -> None:
    runner = desk.asked(deadline=desk.clock() + timedelta(hours=1))
    sleeping(desk, runner, "approval-1-team")
    with pytest.raises(CannotGiveUp, match="can be rejected"):
        give_up(desk, runner)


def test_a_refund_that_is_over_is_not_given_up(desk: Desk) -> None:
    runner = desk.run()
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        page.append("refund.concluded", {"outcome": "REJECTED", "why": "rules"})
        page.change(outcome="REJECTED")
    with pytest.raises(BadInput, match="is over: REJECTED"):
        give_up(desk, runner)
    with pytest.raises(UnknownRefund):
        abandonment.abandon(desk.ledger, "rf_none", "lea", "because")


def test_money_that_was_given_up_is_free_for_another_refund(desk: Desk) -> None:
    order = desk.order(1_000, items=("item_0",))
    first = stuck(desk, desk.run(desk.case(order)))
    first = Runner(first.case, leases.take(desk.ledger, first.refund_id, "run-1").fence or 0)
    charges.reserve(desk.ledger, first.case, first.fence)
    sleeping(desk, first, "outage-logistics-1")
    give_up(desk, first)
    second = desk.paying(desk.case(order))
    assert effects.read(desk.ledger, second.payment_key) is not None
    assert requests.read(desk.ledger, first.refund_id)["attention"] is None


def test_a_payment_that_the_gateway_would_not_make_may_be_given_up_and_is_never_made(
    desk: Desk,
) -> None:
    runner = reserved(desk)
    desk.intend(runner)
    desk.record(runner, "blocked", detail="charge_disputed")
    give_up(desk, stuck(desk, runner))
    assert money(desk, runner) == (0, 0)
    assert desk.payment(runner).state == "refused"
    assert "effect.refused" in desk.events(runner.refund_id)
