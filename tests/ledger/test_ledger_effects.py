"""An effect is intended before it is sent, and its final ending never changes."""

from functools import partial

import pytest

from refunds.errors import KeyReused, LedgerRefusal
from refunds.ledger import effects, history, requests
from tests.ledger.ledger_desk import Desk, at_once


def test_the_intent_is_committed_with_its_key_and_request(desk: Desk) -> None:
    runner = desk.run()
    before = desk.intend(runner, "sync_crm", note="paid")
    assert (before.state, before.sends) == ("intended", 0)
    (row,) = effects.of_refund(desk.ledger, runner.refund_id)
    assert row["key"] == f"{runner.refund_id}:sync_crm"
    assert (row["request"], row["sends"]) == ({"note": "paid"}, 1)


def test_a_second_intent_says_that_it_may_have_been_sent(desk: Desk) -> None:
    runner = desk.paying()
    again = desk.intend(runner)
    assert (again.state, again.sends) == ("intended", 1)
    assert desk.events(runner.refund_id).count("effect.intended") == 1


def test_one_key_with_another_request_is_refused_loudly(desk: Desk) -> None:
    runner = desk.paying()
    with pytest.raises(KeyReused, match=runner.payment_key):
        desk.intend(runner, amount="2000")


def test_a_business_attempt_has_a_key_of_its_own() -> None:
    assert effects.key_of("rf_7", "issue_refund") == "rf_7:issue_refund"
    assert effects.key_of("rf_7", "issue_refund", 2) == "rf_7:issue_refund:2"


@pytest.mark.parametrize("ending", ["succeeded", "refused"])
@pytest.mark.parametrize("later", ["intended", "unknown", "pending"])
def test_a_final_ending_outlives_what_is_heard_later(desk: Desk, ending: str, later: str) -> None:
    runner = desk.paying()
    desk.record(runner, ending, response={"id": "re_1"}, detail="first")
    desk.record(runner, later, detail="later")
    effect = desk.payment(runner)
    assert (effect.state, effect.response, effect.detail) == (ending, {"id": "re_1"}, "first")


@pytest.mark.parametrize(("first", "other"), [("succeeded", "refused"), ("refused", "succeeded")])
def test_a_final_ending_cannot_become_the_other(desk: Desk, first: str, other: str) -> None:
    runner = desk.paying()
    desk.record(runner, first)
    with pytest.raises(LedgerRefusal, match=f"is {first} and cannot become {other}"):
        desk.record(runner, other)
    assert desk.payment(runner).state == first


def test_the_same_ending_again_changes_nothing(desk: Desk) -> None:
    runner = desk.paying()
    for _ in range(2):
        desk.record(runner, "succeeded", response={"id": "re_1"})
    happened = desk.events(runner.refund_id)
    assert (happened.count("effect.succeeded"), happened.count("money.refunded")) == (1, 1)


def test_two_endings_at_once_leave_one(desk: Desk) -> None:
    runner = desk.paying()
    results = at_once(
        *[partial(desk.record, runner, state) for state in ("succeeded", "refused") * 4]
    )
    ended = desk.payment(runner).state
    assert [isinstance(result, LedgerRefusal) for result in results].count(True) == 4
    assert {r.state for r in results if isinstance(r, effects.Effect)} == {ended}


def test_what_was_never_intended_cannot_have_ended(desk: Desk) -> None:
    runner = desk.run()
    with pytest.raises(LedgerRefusal, match="never intended"):
        desk.record(runner, "succeeded")


def test_sending_again_counts_and_is_in_the_history(desk: Desk) -> None:
    runner = desk.paying()
    desk.record(runner, "unknown", detail="no answer")
    effects.send_again(desk.ledger, runner.refund_id, runner.payment_key, runner.fence)
    assert desk.payment(runner).sends == 2
    assert desk.events(runner.refund_id)[-1] == "effect.sent_again"


@pytest.mark.parametrize("ending", ["succeeded", "refused"])
def test_what_has_ended_is_not_sent_again(desk: Desk, ending: str) -> None:
    runner = desk.paying()
    desk.record(runner, ending)
    with pytest.raises(LedgerRefusal, match="not waiting to be sent"):
        effects.send_again(desk.ledger, runner.refund_id, runner.payment_key, runner.fence)


def test_the_first_send_keeps_its_time_over_later_ones(desk: Desk) -> None:
    runner = desk.paying()
    first = desk.payment(runner).first_sent_at
    desk.clock.advance(20)
    effects.send_again(desk.ledger, runner.refund_id, runner.payment_key, runner.fence)
    assert desk.payment(runner).first_sent_at == first == desk.clock.now.replace(second=0)


def test_a_pending_payment_settles_the_refund_and_its_ending_may_come_from_a_webhook(
    desk: Desk,
) -> None:
    runner = desk.paying()
    desk.record(runner, "pending", response={"id": "re_1"})
    assert requests.read(desk.ledger, runner.refund_id)["state"] == "settling"
    assert runner.payment_key in {row["key"] for row in effects.unsettled(desk.ledger)}
    effects.record(
        desk.ledger, runner.refund_id, runner.payment_key, "succeeded", response={"id": "re_1"}
    )
    assert runner.payment_key not in {row["key"] for row in effects.unsettled(desk.ledger)}


@pytest.mark.parametrize("state", ["intended", "unknown"])
def test_only_the_runner_may_say_that_it_does_not_know(desk: Desk, state: str) -> None:
    runner = desk.paying()
    with pytest.raises(LedgerRefusal, match="only the runner"):
        effects.record(desk.ledger, runner.refund_id, runner.payment_key, state)


def test_refused_steps_may_be_tried_again_but_never_the_payment(desk: Desk) -> None:
    runner = desk.paying()
    desk.intend(runner, "sync_crm")
    key = effects.key_of(runner.refund_id, "sync_crm")
    for refused in (key, runner.payment_key):
        effects.record(desk.ledger, runner.refund_id, refused, "refused", fence=runner.fence)
    assert effects.reopen_refused(desk.ledger, runner.refund_id) == 1
    crm = effects.read(desk.ledger, key)
    assert crm is not None
    assert (crm.state, desk.payment(runner).state) == ("intended", "refused")


def test_a_paid_refund_that_came_back_needs_a_person(desk: Desk) -> None:
    order = desk.order()
    runner = desk.paying(desk.case(order))
    desk.record(runner, "succeeded", response={"id": "re_1"})
    effects.payment_came_back(desk.ledger, runner.refund_id, "account closed")
    row = requests.read(desk.ledger, runner.refund_id)
    assert row["state"] == "needs_attention"
    assert "account closed" in row["attention"]
    assert desk.money(order) == (0, 0)


def test_a_blocked_payment_keeps_its_money_and_goes_on_as_a_new_attempt(desk: Desk) -> None:
    order = desk.order()
    runner = desk.paying(desk.case(order))
    desk.record(runner, "blocked", detail="charge_disputed")
    assert desk.money(order) == (1_000, 0)
    known = desk.intend(runner)
    assert (known.state, known.wire_key) == ("blocked", runner.payment_key)
    desk.clock.advance(3_600)
    with pytest.raises(LedgerRefusal, match=r"blocked \(charge_disputed\): `refunds resume`"):
        effects.send_again(desk.ledger, runner.refund_id, runner.payment_key, runner.fence)
    history.append(desk.ledger, runner.refund_id, "refund.resumed", {}, runner.fence)
    again = effects.send_again(desk.ledger, runner.refund_id, runner.payment_key, runner.fence)
    assert (again.state, again.wire_key) == ("intended", f"{runner.payment_key}:2")
    # What the gateway keeps of the new key begins with its own first send.
    assert again.first_sent_at == desk.clock()
    assert desk.record(runner, "succeeded", response={"id": "re_1"}).state == "succeeded"
    assert desk.money(order) == (0, 1_000)


def test_an_unknown_payment_is_sent_again_under_the_key_it_had(desk: Desk) -> None:
    runner = desk.paying()
    desk.record(runner, "unknown", detail="no answer")
    again = effects.send_again(desk.ledger, runner.refund_id, runner.payment_key, runner.fence)
    assert (again.wire_key, again.attempt) == (runner.payment_key, 1)


def test_only_the_runner_may_say_that_a_payment_is_blocked(desk: Desk) -> None:
    runner = desk.paying()
    with pytest.raises(LedgerRefusal, match="only the runner"):
        effects.record(desk.ledger, runner.refund_id, runner.payment_key, "blocked")
