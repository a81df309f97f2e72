"""A payment that is pending, unknown or late, and systems that are away: paid once, told once."""

import pytest

from refunds.ledger import charges, effects, outages, waits
from refunds.models import RefundRequest
from tasks import books, runs, upkeep
from tests.flows.flows_world import World, edit_policy, fault, until

pytestmark = pytest.mark.anyio

PAY = "POST /gateway/v1/refunds"
CASES = "POST /crm/v1/cases"
LABELS = "POST /logistics/v1/labels"
WEBHOOK = "webhook"


async def test_a_pending_payment_is_settled_by_the_gateways_webhook(world: World) -> None:
    request = world.request()
    world.faults(fault(PAY, "pending", match=_only(request)))
    task = await world.start_waiting(request, "settlement")
    assert world.row(request)["state"] == "settling"
    assert world.steps(request) == ["create_return_label", "issue_refund"]
    _settle(world, request, "succeeded")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_pending_payment_that_fails_is_undone(world: World) -> None:
    request = world.request(goodwill_minor=500)
    world.faults(fault(PAY, "pending", match=_only(request)))
    task = await world.start_waiting(request, "settlement")
    _settle(world, request, "failed", failure_reason="lost_or_stolen_card")
    await world.end_of(task)
    assert world.outcome(request) == "FAILED"
    assert {"void_coupon", "cancel_return_label"} < set(world.steps(request))
    assert charges.left_on(world.ledger, request.order_id.replace("#", "ch_")) == 10_000
    world.assert_sound(request)


async def test_the_sweep_asks_when_the_webhook_never_comes(world: World) -> None:
    request = world.request()
    world.faults(
        fault(PAY, "pending", match=_only(request)),
        fault(WEBHOOK, "webhook_drop", times=None, match=_only(request)),
    )
    task = await world.start_waiting(request, "settlement")
    _settle(world, request, "succeeded")
    assert not task.done()
    done = await world.sweep()
    assert done["settled"] >= 1
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_sweep_without_news_leaves_a_pending_payment_alone(world: World) -> None:
    request = world.request()
    world.faults(fault(PAY, "pending", match=_only(request)))
    task = await world.start_waiting(request, "settlement")
    before = world.row(request)
    assert await upkeep.reconcile_payments.fn() == 0
    assert world.row(request) == before
    _settle(world, request, "succeeded")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_payment_that_does_not_settle_in_time_becomes_a_persons_case(
    world: World,
) -> None:
    request = world.request()
    world.faults(fault(PAY, "pending", match=_only(request)))
    task = await world.start_waiting(request, "settlement")
    patience_seconds = books.policy().patience.settle_within_hours * 3600
    with world.later(patience_seconds - 60):
        assert request.refund_id not in waits.end_due(world.ledger)
    with world.later(patience_seconds):
        assert request.refund_id in waits.end_due(world.ledger)
        await runs.wake(request.refund_id)
        await world.until_waiting(request, "attention")
    assert "not settled by" in world.row(request)["attention"]
    assert charges.holds_money(world.ledger, request.refund_id)
    # However late, the gateway's word is taken.
    _settle(world, request, "succeeded")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_payment_with_an_unknown_ending_is_asked_for_and_not_sent_again(
    world: World,
) -> None:
    request = world.request()
    world.faults(fault(PAY, "error_after", match=_only(request)))
    await world.run(request)
    world.assert_paid_once(request)
    status = await world.refunds.status(request.refund_id)
    (payment,) = (effect for effect in status["effects"] if effect["step"] == "issue_refund")
    assert payment["sends"] == 1


async def test_a_gateway_that_stays_away_becomes_a_wait_and_is_paid_later(world: World) -> None:
    request = world.request()
    world.faults(fault(PAY, "error_before", times=None, status=503, match=_only(request)))
    task = await world.start_waiting(request, "outage-gateway-1")
    world.assert_nothing_paid(request)
    assert world.row(request)["lease_holder"] is None
    await world.pass_time(request, hours=1)
    await world.until_waiting(request, "outage-gateway-2")
    world.assert_nothing_paid(request)
    world.faults()
    await world.pass_time(request, hours=1)
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_patience_with_a_system_that_is_away_runs_out_and_a_person_is_called(
    world: World,
) -> None:
    request = world.request()
    world.faults(fault(LABELS, "error_before", times=None, status=503, match=_only(request)))
    edit_policy("300, 900, 1800, 3600, 7200, 14400, 28800]", "7200]")
    pauses = books.policy().patience.outage_seconds
    task = world.start(request)
    passed_seconds = 0
    for number, pause_seconds in enumerate(pauses, start=1):
        with world.later(passed_seconds):
            await world.until_waiting(request, f"outage-logistics-{number}")
        passed_seconds += pause_seconds
        with world.later(passed_seconds):
            assert request.refund_id in waits.end_due(world.ledger)
            await runs.wake(request.refund_id)
            after = "attention" if number == len(pauses) else f"outage-logistics-{number + 1}"
            await world.until_waiting(request, after)
    assert f"after {len(pauses)} attempts" in world.row(request)["attention"]
    world.assert_nothing_paid(request)
    world.faults()
    await world.refunds.resume(request.refund_id, person="ops")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_crm_that_is_away_after_the_payment_is_waited_for(world: World) -> None:
    request = world.request()
    world.faults(fault(CASES, "error_before", times=None, status=503, match=_only(request)))
    task = await world.start_waiting(request, "outage-crm-1")
    assert len(world.at_gateway(request)) == 1
    assert "notify_customer" not in world.steps(request)
    world.faults()
    await world.pass_time(request, hours=1)
    await world.end_of(task)
    world.assert_paid_once(request)
    assert world.steps(request).count("notify_customer") == 1


async def test_a_refusal_after_the_payment_is_a_persons_case_and_goes_on_when_mended(
    world: World,
) -> None:
    request = world.request()
    world.faults(fault(CASES, "error_before", status=422, match=_only(request)))
    task = await world.start_waiting(request, "attention")
    row = world.row(request)
    assert row["state"] == "needs_attention"
    assert "crm" in row["attention"]
    await world.refunds.resume(request.refund_id, person="ops")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_coupon_service_that_refuses_stops_before_the_payment(world: World) -> None:
    request = world.request(goodwill_minor=500)
    refusal = fault("POST /coupons/v1/coupons", "error_before", status=422, match=_only(request))
    world.faults(refusal)
    task = await world.start_waiting(request, "attention")
    world.assert_nothing_paid(request)
    await world.refunds.resume(request.refund_id, person="ops")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_payment_that_comes_back_is_handed_to_a_person(world: World) -> None:
    request = world.request()
    await world.run(request)
    world.assert_paid_once(request)
    _settle(world, request, "failed", failure_reason="declined")
    await until(
        lambda: world.row(request)["state"] == "needs_attention", "the return is in the ledger"
    )
    assert world.events(request, "payment.came_back") == [{"detail": "declined"}]
    world.assert_sound(request)


def _only(request: RefundRequest) -> dict[str, str]:
    return {"refund_id": request.refund_id}


def _settle(world: World, request: RefundRequest, status: str, **more: str) -> None:
    """Let the bank settle the refund's payment now."""
    (payment,) = world.at_gateway(request)
    body = {"refund": payment["id"], "status": status, **more}
    world.sandbox.put("/gateway/settle", json=body).raise_for_status()


async def test_a_disputed_charge_is_a_persons_case_and_is_paid_once_the_dispute_is_won(
    world: World,
) -> None:
    request = world.request()
    disputed = fault(PAY, "decline", status=400, code="charge_disputed", match=_only(request))
    world.faults(disputed)
    task = await world.start_waiting(request, "attention")
    assert "charge_disputed" in world.row(request)["attention"]
    world.assert_nothing_paid(request)
    assert charges.left_on(world.ledger, request.order_id.replace("#", "ch_")) == 0
    await world.refunds.resume(request.refund_id, person="ops")
    await world.end_of(task)
    world.assert_sound(request)
    assert world.outcome(request) == "PAID"
    # The gateway repeats its refusal under the first key, so the payment has one of its own.
    assert world.acts(request, "create_refund") == [f"{request.refund_id}:issue_refund:2"]


async def test_a_pending_payment_is_settled_by_an_event_about_its_charge(world: World) -> None:
    request = world.request()
    world.faults(
        fault(PAY, "pending", match=_only(request)),
        fault(WEBHOOK, "webhook_drop", times=None, match={"event_type": "refund.updated"}),
    )
    task = await world.start_waiting(request, "settlement")
    _settle(world, request, "succeeded")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_gateway_that_is_away_is_tried_by_one_refund_and_then_pays_all(
    world: World,
) -> None:
    requests = [world.request() for _ in range(5)]
    world.faults(fault(PAY, "error_before", times=None, status=503))
    tasks = [await world.start_waiting(request, "outage-gateway-1") for request in requests[:3]]
    (outage,) = outages.every(world.ledger)
    sends = _sends(world)
    # Whoever comes later sends nothing and waits at once.
    tasks += [await world.start_waiting(request, "outage-gateway-1") for request in requests[3:]]
    assert _sends(world) == sends
    assert [world.row(request)["lease_holder"] for request in requests] == [None] * 5

    world.outage_is_due(outage.system)
    await world.wake_due()
    await until(lambda: _sends(world) > sends, "one of them tries")
    world.faults()
    await until(lambda: not outages.every(world.ledger), "the gateway answered")
    await world.wake_due()
    for request, task in zip(requests, tasks, strict=True):
        await world.end_of(task)
        world.assert_paid_once(request)


def _sends(world: World) -> int:
    """How often the ledger let a payment be sent."""
    rows = effects.unsettled(world.ledger)
    return sum(row["sends"] for row in rows)
