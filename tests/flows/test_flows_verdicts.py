"""What the rules decide alone: paid, rejected, declined, and what cannot be taken."""

import asyncio
from typing import Any

import pytest

from refunds.errors import BadInput, ContentConflict, UnknownRefund
from refunds.ledger import charges, requests
from tests.flows.flows_world import World, fault

pytestmark = pytest.mark.anyio


async def test_what_the_rules_approve_is_paid_and_everybody_is_told_once(world: World) -> None:
    request = world.request(goodwill_minor=500)
    state = await world.run(request)
    assert (await state.aresult(), world.row(request)["verdict"]) == ("PAID", "APPROVE")
    world.assert_paid_once(request)
    assert world.steps(request) == [
        "create_return_label",
        "issue_coupon",
        "issue_refund",
        "notify_customer",
        "notify_service",
        "sync_crm",
    ]


async def test_a_cancellation_holds_the_parcel_before_it_pays(world: World) -> None:
    request = world.request(kind="cancel")
    world.change_order(request, status="pending", fulfillments=[])
    await world.run(request)
    world.assert_paid_once(request)
    intended = [event["key"] for event in world.events(request, "effect.intended")]
    assert intended[:2] == [
        f"{request.refund_id}:hold_shipment",
        f"{request.refund_id}:issue_refund",
    ]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"customer_id": "eve_1"}, "somebody else"),
        ({"item_ids": ["i9"]}, "not on the order"),
        ({"refund_to": "card_eve_1"}, "neither paid for this order"),
        ({"kind": "cancel"}, "needs an order that is pending"),
    ],
    ids=["order_of_another", "item_not_on_order", "foreign_destination", "wrong_status"],
)
async def test_what_is_not_eligible_is_rejected_and_nothing_is_paid(
    world: World, changes: dict[str, Any], rule: str
) -> None:
    request = world.request(**changes)
    state = await world.run(request)
    assert await state.aresult() == "REJECTED"
    assert any(rule in reason["text"] for reason in world.row(request)["reasons"])
    world.assert_nothing_paid(request)
    assert world.steps(request) == ["notify_customer", "notify_service", "sync_crm"]


async def test_a_declined_payment_is_undone_and_its_money_is_free_again(world: World) -> None:
    request = world.request(goodwill_minor=500)
    world.faults(fault("POST /gateway/v1/refunds", "decline", match=_only(request.refund_id)))
    state = await world.run(request)
    assert await state.aresult() == "FAILED"
    world.assert_nothing_paid(request)
    assert {"cancel_return_label", "void_coupon"} < set(world.steps(request))
    assert charges.left_on(world.ledger, request.order_id.replace("#", "ch_")) == 10_000


async def test_a_declined_cancellation_lets_the_parcel_go(world: World) -> None:
    request = world.request(kind="cancel")
    world.change_order(request, status="pending", fulfillments=[])
    world.faults(fault("POST /gateway/v1/refunds", "decline", match=_only(request.refund_id)))
    await world.run(request)
    assert world.outcome(request) == "FAILED"
    assert "release_shipment" in world.steps(request)
    world.assert_nothing_paid(request)


async def test_two_refunds_of_one_charge_are_never_both_paid(world: World) -> None:
    first = world.request()
    second = first.model_copy(update={"refund_id": f"{first.refund_id}-again"})
    both = (first, second)
    requests.submit(world.ledger, both)
    tasks = [await world.start_waiting(request) for request in both]
    await asyncio.gather(
        *(world.refunds.decide(request.refund_id, "approve", person="lea") for request in both)
    )
    for task in tasks:
        await world.end_of(task)
    assert sorted(str(world.outcome(request)) for request in both) == ["PAID", "REJECTED"]
    assert len(world.at_gateway(first)) == 1
    for request in both:
        world.assert_sound(request)


async def test_an_unknown_order_fails_clearly_and_nothing_is_stored(world: World) -> None:
    request = world.request(order_id="#W-nowhere")
    state = await world.run(request)
    assert state.is_failed()
    with pytest.raises(BadInput, match="the shop has no order #W-nowhere"):
        await state.aresult()
    with pytest.raises(UnknownRefund):
        world.row(request)


async def test_the_same_id_with_other_content_fails_clearly_and_changes_nothing(
    world: World,
) -> None:
    request = world.request()
    await world.run(request)
    before = world.row(request)
    state = await world.run(request.model_copy(update={"amount_minor": 1}))
    with pytest.raises(ContentConflict, match="another amount_minor"):
        await state.aresult()
    assert world.row(request) == before
    world.assert_paid_once(request)


async def test_a_refund_that_is_over_is_not_run_again(world: World) -> None:
    request = world.request()
    await world.run(request)
    before = world.acts(request)
    state = await world.run(request)
    assert (state.name, state.message) == ("AlreadyConcluded", "it ended PAID")
    assert world.acts(request) == before
    world.assert_paid_once(request)


def _only(refund_id: str) -> dict[str, str]:
    return {"refund_id": refund_id}
