"""The payment: paid once, asked for before it is sent again, handed over when nothing is safe."""

from datetime import timedelta
from typing import Any

import pytest

from refunds.errors import (
    GatewayUnavailable,
    KeyReused,
    NeedsAttention,
    PaymentUnknown,
    StaleRunner,
)
from refunds.ledger import charges, leases, requests, schema
from refunds.models import Case, Payment, PaymentStatus
from tasks import books
from tests.tasks.tasks_world import PAY, World, fault

LISTING = "GET /gateway/v1/refunds"


def pay(world: World, case: Case) -> Payment:
    payment: Payment = world.perform(PAY, (case,))
    return payment


def sent_long_ago(world: World, case: Case, hours: float) -> None:
    """The first send becomes that much older."""
    effect = world.effect(PAY.key(case))
    with world.ledger.writing() as connection:
        connection.execute(
            schema.effects.update()
            .where(schema.effects.c.key == effect.key)
            .values(first_sent_at=effect.first_sent_at - timedelta(hours=hours))
        )


def test_a_payment_is_booked_with_the_gateways_reference(world: World) -> None:
    case = world.running()
    payment = pay(world, case)
    (act,) = world.acts(PAY.key(case))
    assert (payment.status, payment.reference) == (PaymentStatus.SUCCEEDED, act["response_id"])
    assert act["request"]["metadata"]["refund_id"] == case.refund_id
    assert charges.left_on(world.ledger, act["request"]["charge"]) == 9_000


def test_a_declined_payment_is_a_value_and_frees_the_money(world: World) -> None:
    case = world.running()
    world.faults(fault(PAY.endpoint, "decline", message="The card was closed."))
    first = pay(world, case)
    assert first.status is PaymentStatus.FAILED
    assert "The card was closed." in first.detail
    assert pay(world, case) == first
    assert case.charge is not None
    assert charges.left_on(world.ledger, case.charge.charge_id) == 10_000
    assert world.acts(PAY.key(case)) == []


def test_a_pending_payment_is_not_sent_again_and_stays_reserved(world: World) -> None:
    case = world.running()
    world.faults(fault(PAY.endpoint, "pending"))
    first = pay(world, case)
    assert first.status is PaymentStatus.PENDING
    assert pay(world, case) == first
    assert [act["sends"] for act in world.acts(PAY.key(case))] == [1]
    assert requests.read(world.ledger, case.refund_id)["state"] == "settling"
    assert charges.holds_money(world.ledger, case.refund_id)


def test_a_payment_that_failed_before_we_heard_of_it_says_why_every_time(world: World) -> None:
    case = world.running()
    failing: dict[str, Any] = {"settle_as": "failed", "failure_reason": "lost_or_stolen_card"}
    world.faults(
        fault(PAY.endpoint, "error_after"),
        fault(LISTING, "unauthorized", times=None),
        fault(PAY.endpoint, "pending", **failing),
    )
    with pytest.raises(GatewayUnavailable):
        pay(world, case)
    (act,) = world.acts(PAY.key(case))
    world.settle(act["response_id"], "failed", failure_reason="lost_or_stolen_card")
    world.faults()
    first = pay(world, case)
    assert (first.status, first.reference) == (PaymentStatus.FAILED, act["response_id"])
    assert first.detail == "lost_or_stolen_card"
    assert pay(world, case) == first


def test_a_payment_that_fails_later_was_paid_when_it_was_made(world: World) -> None:
    case = world.running()
    world.faults(fault(PAY.endpoint, "fail_later", seconds=3_600))
    assert pay(world, case).status is PaymentStatus.SUCCEEDED
    assert world.effect(PAY.key(case)).state == "succeeded"


def test_a_gateway_that_is_down_has_paid_nothing_and_pays_when_it_is_back(world: World) -> None:
    case = world.running()
    world.process.kill()
    try:
        with pytest.raises(GatewayUnavailable, match="not reachable"):
            pay(world, case)
    finally:
        world.process.start()
    assert pay(world, case).status is PaymentStatus.SUCCEEDED
    assert len(world.acts(PAY.key(case))) == 1


def test_an_unknown_payment_says_that_it_is_unknown(world: World) -> None:
    case = world.running()
    world.faults(fault(PAY.endpoint, "stored_error"))
    with pytest.raises(PaymentUnknown):
        pay(world, case)
    assert charges.holds_money(world.ledger, case.refund_id)


def test_past_the_gateways_memory_nothing_is_sent_and_a_person_is_asked(world: World) -> None:
    case = world.running()
    world.faults(fault(PAY.endpoint, "error_before", times=None))
    with pytest.raises(PaymentUnknown):
        pay(world, case)
    sends = world.effect(PAY.key(case)).sends
    sent_long_ago(world, case, hours=22)
    world.faults()
    with pytest.raises(NeedsAttention, match="may have forgotten the key"):
        pay(world, case)
    effect = world.effect(PAY.key(case))
    assert (effect.state, effect.sends, world.acts(PAY.key(case))) == ("unknown", sends, [])
    assert charges.holds_money(world.ledger, case.refund_id)


def test_past_the_gateways_memory_a_payment_that_was_made_is_still_found(world: World) -> None:
    case = world.running()
    world.faults(fault(PAY.endpoint, "error_after"), fault(LISTING, "unauthorized", times=None))
    with pytest.raises(GatewayUnavailable):
        pay(world, case)
    sent_long_ago(world, case, hours=500)
    world.faults()
    assert pay(world, case).status is PaymentStatus.SUCCEEDED
    assert len(world.acts(PAY.key(case))) == 1


def test_inside_the_gateways_memory_it_is_sent_again_under_the_same_key(world: World) -> None:
    case = world.running()
    world.faults(fault(PAY.endpoint, "error_before", times=None))
    with pytest.raises(PaymentUnknown):
        pay(world, case)
    sent_long_ago(world, case, hours=21)
    world.faults()
    pay(world, case)
    assert len(world.acts(PAY.key(case))) == 1


def test_another_amount_under_the_same_key_is_never_sent(world: World) -> None:
    case = world.running()
    pay(world, case)
    changed = case.request.model_copy(update={"amount_minor": 2_000})
    with pytest.raises(KeyReused):
        pay(world, case.model_copy(update={"request": changed}))
    assert [act["request"]["amount"] for act in world.acts(PAY.key(case))] == [1_000]


def test_a_stale_runner_sends_nothing(world: World) -> None:
    case = world.running()
    leases.take(world.ledger, case.refund_id, "run-1")
    with pytest.raises(StaleRunner):
        pay(world, case)
    books.let_go(case.refund_id)
    with pytest.raises(StaleRunner, match="does not run"):
        pay(world, case)
    assert world.acts(PAY.key(case)) == []


def test_an_order_without_a_charge_needs_a_person(world: World) -> None:
    case = world.running()
    assert case.order is not None
    unpaid = case.order.model_copy(update={"charges": ()})
    with pytest.raises(NeedsAttention, match="no charge"):
        pay(world, case.model_copy(update={"order": unpaid}))
