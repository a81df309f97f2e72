"""A refund that cannot go on is given up: what was done is undone, and everybody is told."""

import pytest

from refunds.errors import CannotGiveUp
from refunds.ledger import charges
from refunds.models import RefundRequest
from tests.flows.flows_world import World, fault

pytestmark = pytest.mark.anyio

LABELS = "POST /logistics/v1/labels"
COUPONS = "POST /coupons/v1/coupons"
VOIDS = "POST /logistics/v1/labels/{id}/cancel"
CASES = "POST /crm/v1/cases"

LOST = {"person": "lea", "reason": "the parcel is lost"}


async def test_a_refund_whose_parcel_is_refused_is_given_up_and_ends_failed(world: World) -> None:
    request = world.request()
    world.faults(_refuses(request, LABELS))
    task = await world.start_waiting(request, "attention")
    assert charges.holds_money(world.ledger, request.refund_id)
    await world.refunds.abandon(request.refund_id, **LOST)
    assert not charges.holds_money(world.ledger, request.refund_id)
    await world.end_of(task)
    assert world.outcome(request) == "FAILED"
    world.assert_nothing_paid(request)
    assert world.steps(request) == ["notify_customer", "notify_service", "sync_crm"]
    (concluded,) = world.events(request, "refund.concluded")
    assert concluded["why"] == "Given up by lea: the parcel is lost"


@pytest.mark.parametrize("kind", ["return", "cancel"])
async def test_what_was_done_before_is_undone(world: World, kind: str) -> None:
    request = world.request(goodwill_minor=500, kind=kind)
    if kind == "cancel":
        world.change_order(request, status="pending", fulfillments=[])
    world.faults(_refuses(request, COUPONS))
    task = await world.start_waiting(request, "attention")
    await world.refunds.abandon(request.refund_id, **LOST)
    await world.end_of(task)
    done, undone = {
        "return": ("create_return_label", "cancel_return_label"),
        "cancel": ("hold_shipment", "release_shipment"),
    }[kind]
    assert {done, undone} <= set(world.steps(request))
    assert "issue_coupon" not in world.steps(request)
    assert world.outcome(request) == "FAILED"
    world.assert_nothing_paid(request)


async def test_a_step_with_an_unknown_ending_is_asked_about_and_undone(world: World) -> None:
    request = world.request(goodwill_minor=500)
    world.faults(
        fault(COUPONS, "error_after", times=None, match=_only(request)),
        fault("GET /coupons/v1/coupons", "error_before", times=None, status=503),
    )
    task = await world.start_waiting(request, "outage-coupons")
    world.faults()
    await world.refunds.abandon(request.refund_id, **LOST)
    await world.end_of(task)
    assert {"issue_coupon", "void_coupon", "cancel_return_label"} <= set(world.steps(request))
    assert world.outcome(request) == "FAILED"
    world.assert_nothing_paid(request)


async def test_an_undoing_that_is_refused_is_a_persons_case_and_goes_on_when_mended(
    world: World,
) -> None:
    request = world.request(goodwill_minor=500)
    world.faults(_refuses(request, COUPONS), fault(VOIDS, "error_before", status=422))
    task = await world.start_waiting(request, "attention-1")
    await world.refunds.abandon(request.refund_id, **LOST)
    await world.until_waiting(request, "attention-2")
    assert world.outcome(request) is None
    await world.refunds.resume(request.refund_id, person="ops")
    await world.end_of(task)
    assert world.outcome(request) == "FAILED"
    # Under the old key the other system may repeat its old answer.
    assert "cancel_return_label:2" in world.steps(request)
    world.assert_nothing_paid(request)


async def test_a_paid_refund_cannot_be_given_up(world: World) -> None:
    request = world.request()
    world.faults(_refuses(request, CASES))
    task = await world.start_waiting(request, "attention")
    with pytest.raises(CannotGiveUp, match="it is paid"):
        await world.refunds.abandon(request.refund_id, **LOST)
    await world.refunds.resume(request.refund_id, person="ops")
    await world.end_of(task)
    world.assert_paid_once(request)


def _only(request: RefundRequest) -> dict[str, str]:
    return {"refund_id": request.refund_id}


def _refuses(request: RefundRequest, endpoint: str) -> dict[str, object]:
    return fault(endpoint, "error_before", status=422, match=_only(request))
