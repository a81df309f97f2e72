"""A payment that may have been made, and of which the gateway does not know."""

from __future__ import annotations

from refunds.models import RefundRequest
from sandbox.testing import AUTHORIZATION
from tests.replay.rehearsal import Rehearsal

PAY = "POST /gateway/v1/refunds"
# Longer than any gateway is trusted to keep a key.
_LONG_AFTER_HOURS = 25


def unknown(world: Rehearsal, paid_minor: int = 10_000) -> RefundRequest:
    """A refund in the hands of people: it may be paid, and the gateway does not know it."""
    request = unanswered(world, paid_minor)
    world.pass_hours(_LONG_AFTER_HOURS)
    assert world.run(request) == "suspended"
    assert "`refunds settle`" in world.row(request)["attention"]
    world.faults()
    return request


def unanswered(world: Rehearsal, paid_minor: int = 10_000) -> RefundRequest:
    """A refund that was just sent to be paid, and of which nothing was heard."""
    request = world.request(paid_minor, goodwill_minor=500)
    match = {"refund_id": request.refund_id}
    world.faults({"endpoint": PAY, "kind": "reset_before", "times": 50, "match": match})
    assert world.run(request) == "suspended"
    if world.row(request)["state"] == "awaiting_approval":
        for person in ("mia", "tom"):
            world.decide(request, "approve", person)
        assert world.run(request) == "suspended"
    assert world.payment(request).state == "unknown"
    return request


def at_gateway(world: Rehearsal, request: RefundRequest, name: str, **form: str) -> str:
    """A refund of its charge appears at the gateway; returns the gateway's id."""
    given = {"charge": charge_of(request), "amount": "10000", **form}
    headers = AUTHORIZATION | {"Idempotency-Key": f"{name}-{request.refund_id}"}
    answer = world.client.post("/gateway/v1/refunds", data=given, headers=headers)
    return str(answer.raise_for_status().json()["id"])


def charge_of(request: RefundRequest) -> str:
    """The charge that is refunded."""
    return request.order_id.replace("#", "ch_")
