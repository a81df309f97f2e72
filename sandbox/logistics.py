"""Logistics: shipments held back and labels for what comes back."""

import json
import sqlite3
from typing import Annotated, Any

from pydantic import Field

from sandbox.clock import to_iso
from sandbox.door import Effect, Reading
from sandbox.identifiers import to_id
from sandbox.listing import Listing
from sandbox.records import Id
from sandbox.systems import AboutRefund, Systems, Thing, Undoing


class NewHold(AboutRefund):
    """The body of `POST /logistics/v1/holds`."""

    order_id: Id


class NewLabel(AboutRefund):
    """The body of `POST /logistics/v1/labels`."""

    order_id: Id
    # One parcel; the largest order of the retail data has five items.
    item_ids: Annotated[list[Id], Field(min_length=1, max_length=100)]


def _hold_shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "hold_id": to_id("hold", row["number"]),
        "status": row["status"],
        "refund_id": row["refund_id"],
        "reference": row["reference"],
        "order_id": row["order_id"],
        "created_at": to_iso(row["at_ms"]),
    }


def _label_shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "label_id": to_id("label", row["number"]),
        "tracking_number": f"SBX{row['number']:012d}",
        "status": row["status"],
        "refund_id": row["refund_id"],
        "reference": row["reference"],
        "order_id": row["order_id"],
        "item_ids": json.loads(row["item_ids"]),
        "created_at": to_iso(row["at_ms"]),
    }


HOLDS = Thing(
    system="logistics",
    path="/logistics/v1/holds",
    made_as="hold_shipment",
    body=NewHold,
    row=lambda body: {"order_id": body.order_id, "status": "held"},
    listing=Listing(
        name="holds",
        prefix="hold",
        source="holds",
        filters=("refund_id", "reference"),
        shown=_hold_shown,
    ),
)
RELEASING = Undoing(verb="release", undone_as="release_shipment", status="released")

LABELS = Thing(
    system="logistics",
    path="/logistics/v1/labels",
    made_as="create_label",
    body=NewLabel,
    row=lambda body: {
        "order_id": body.order_id,
        "item_ids": json.dumps(body.item_ids),
        "status": "created",
    },
    listing=Listing(
        name="labels",
        prefix="label",
        source="labels",
        filters=("refund_id", "reference"),
        shown=_label_shown,
    ),
)
CANCELLING = Undoing(verb="cancel", undone_as="cancel_label", status="cancelled")


def endpoints(systems: Systems) -> list[Effect | Reading]:
    """Return the endpoints of logistics."""
    return [
        systems.making(HOLDS),
        systems.undoing(HOLDS, RELEASING),
        systems.listing(HOLDS),
        systems.making(LABELS),
        systems.undoing(LABELS, CANCELLING),
        systems.listing(LABELS),
    ]
