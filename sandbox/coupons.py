"""Coupons: a goodwill credit that can be made void again."""

import sqlite3
from typing import Any

from sandbox.clock import to_iso
from sandbox.door import Effect, Reading
from sandbox.identifiers import to_id
from sandbox.listing import Listing
from sandbox.records import Amount, Currency, Id
from sandbox.systems import AboutRefund, Systems, Thing, Undoing


class NewCoupon(AboutRefund):
    """The body of `POST /coupons/v1/coupons`."""

    customer_id: Id
    amount_minor: Amount
    currency: Currency


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "coupon_id": to_id("coupon", row["number"]),
        "code": f"SORRY-{row['number']:06d}",
        "status": row["status"],
        "refund_id": row["refund_id"],
        "reference": row["reference"],
        "customer_id": row["customer_id"],
        "amount_minor": row["amount_minor"],
        "currency": row["currency"],
        "created_at": to_iso(row["at_ms"]),
    }


COUPONS = Thing(
    system="coupons",
    path="/coupons/v1/coupons",
    made_as="issue_coupon",
    body=NewCoupon,
    row=lambda body: body.model_dump(exclude={"refund_id", "reference"}) | {"status": "issued"},
    listing=Listing(
        name="coupons",
        prefix="coupon",
        source="coupons",
        filters=("refund_id", "reference"),
        shown=_shown,
    ),
)
VOIDING = Undoing(verb="void", undone_as="void_coupon", status="void")


def endpoints(systems: Systems) -> list[Effect | Reading]:
    """Return the coupon service's endpoints."""
    return [systems.making(COUPONS), systems.undoing(COUPONS, VOIDING), systems.listing(COUPONS)]
