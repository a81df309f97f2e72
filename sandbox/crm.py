"""The CRM: one case per refund that has ended."""

import sqlite3
from typing import Any

from sandbox.clock import to_iso
from sandbox.door import Effect, Reading
from sandbox.identifiers import to_id
from sandbox.listing import Listing
from sandbox.records import Amount, Currency, Id, Line, Text
from sandbox.systems import AboutRefund, Systems, Thing


class NewCase(AboutRefund):
    """The body of `POST /crm/v1/cases`."""

    customer_id: Id
    order_id: Id
    outcome: Line
    amount_minor: Amount
    currency: Currency
    note: Text | None = None


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "case_id": to_id("case", row["number"]),
        "refund_id": row["refund_id"],
        "reference": row["reference"],
        "customer_id": row["customer_id"],
        "order_id": row["order_id"],
        "outcome": row["outcome"],
        "amount_minor": row["amount_minor"],
        "currency": row["currency"],
        "note": row["note"],
        "created_at": to_iso(row["at_ms"]),
    }


CASES = Thing(
    system="crm",
    path="/crm/v1/cases",
    made_as="create_case",
    body=NewCase,
    row=lambda body: body.model_dump(exclude={"refund_id", "reference"}),
    listing=Listing(
        name="cases",
        prefix="case",
        source="cases",
        filters=("refund_id", "reference"),
        shown=_shown,
    ),
)


def endpoints(systems: Systems) -> list[Effect | Reading]:
    """Return the CRM's endpoints."""
    return [systems.making(CASES), systems.listing(CASES)]
