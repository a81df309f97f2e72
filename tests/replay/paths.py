"""The paths of the flow, each walked from its request to its end."""

from collections.abc import Callable
from typing import Any

from refunds.ledger import abandonment
from refunds.models import RefundRequest
from tests.replay.rehearsal import Rehearsal

FOR_A_PERSON = 200_000


def approve(world: Rehearsal) -> RefundRequest:
    request = world.request(goodwill_minor=500)
    assert world.run(request) == "PAID"
    return request


def cancel(world: Rehearsal) -> RefundRequest:
    request = world.request(kind="cancel")
    _order(world, request, status="pending", fulfillments=[])
    assert world.run(request) == "PAID"
    return request


def reject(world: Rehearsal) -> RefundRequest:
    request = world.request(item_ids=["i9"])
    assert world.run(request) == "REJECTED"
    return request


def review_approved(world: Rehearsal) -> RefundRequest:
    request = asked(world)
    world.decide(request, "approve")
    assert world.run(request) == "PAID"
    return request


def review_rejected(world: Rehearsal) -> RefundRequest:
    request = asked(world)
    world.decide(request, "reject")
    assert world.run(request) == "REJECTED"
    return request


def escalated(world: Rehearsal) -> RefundRequest:
    request = asked(world)
    world.pass_hours(_HOURS_TO_ESCALATE)
    assert world.run(request) == "suspended"
    world.decide(request, "approve")
    assert world.run(request) == "PAID"
    return request


def expired(world: Rehearsal) -> RefundRequest:
    request = asked(world)
    while world.run(request) == "suspended":
        world.pass_hours(_HOURS_TO_ESCALATE)
    assert world.row(request)["outcome"] == "EXPIRED"
    return request


def facts_changed(world: Rehearsal) -> RefundRequest:
    request = asked(world)
    world.decide(request, "approve")
    dearer = {"item_id": "i1", "product_id": "p1", "name": "Other lamp", "price_minor": 250_000}
    _order(world, request, items=[{**dearer, "options": {}}])
    assert world.run(request) == "suspended"
    world.decide(request, "approve")
    assert world.run(request) == "PAID"
    return request


def settled_late(world: Rehearsal) -> RefundRequest:
    request = world.request()
    world.faults(_only(request, "POST /gateway/v1/refunds", "pending"))
    assert world.run(request) == "suspended"
    world.settle(request, "succeeded")
    assert world.run(request) == "PAID"
    return request


def declined(world: Rehearsal) -> RefundRequest:
    request = world.request(goodwill_minor=500)
    world.faults(_only(request, "POST /gateway/v1/refunds", "decline"))
    assert world.run(request) == "FAILED"
    return request


def crashed(world: Rehearsal) -> RefundRequest:
    """It dies after the gateway paid and before anybody learned of it, and once more later."""
    request = world.request()
    world.prefect.dies_after = "issue_refund"
    assert world.run(request) == "killed"
    world.prefect.dies_before = "notify_service"
    assert world.run(request) == "killed"
    assert world.run(request) == "PAID"
    return request


def outage(world: Rehearsal) -> RefundRequest:
    """The CRM is away for longer than the quick retries, and back after the first wait."""
    request = world.request()
    world.faults(_only(request, "POST /crm/v1/cases", "error_before", times=5))
    assert world.run(request) == "suspended"
    world.pass_hours(1)
    assert world.run(request) == "PAID"
    return request


def given_up(world: Rehearsal) -> RefundRequest:
    """A refund that a person gives up after the CRM of coupons refused for good."""
    request = world.request(goodwill_minor=500)
    world.faults(_only(request, "POST /coupons/v1/coupons", "unauthorized", times=5))
    assert world.run(request) == "suspended"
    abandonment.abandon(world.ledger, request.refund_id, "lea", "the coupon is not worth it")
    assert world.run(request) == "FAILED"
    return request


PATHS: dict[str, Callable[[Rehearsal], RefundRequest]] = {
    path.__name__: path
    for path in (
        *(approve, cancel, reject, review_approved, review_rejected, escalated, expired),
        *(facts_changed, settled_late, declined, crashed, outage, given_up),
    )
}

# Longer than any level of the default policy; its levels end within three days.
_HOURS_TO_ESCALATE = 49


def asked(world: Rehearsal) -> RefundRequest:
    """A refund that waits for a person."""
    request = world.request(FOR_A_PERSON)
    assert world.run(request) == "suspended"
    return request


def stuck(world: Rehearsal) -> RefundRequest:
    """A refund whose coupon was refused, so that a person is needed."""
    request = world.request(goodwill_minor=500)
    world.faults(_only(request, "POST /coupons/v1/coupons", "error_before", status=422))
    assert world.run(request) == "suspended"
    return request


def _order(world: Rehearsal, request: RefundRequest, **changes: Any) -> None:
    number = int(request.order_id.removeprefix("#W"))
    world.shop_has(number, request.amount_minor, **changes)


def _only(request: RefundRequest, endpoint: str, kind: str, **more: int) -> dict[str, Any]:
    match = {"refund_id": request.refund_id}
    return {"endpoint": endpoint, "kind": kind, "times": 1, "match": match, **more}
