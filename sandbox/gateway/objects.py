"""Rows as the objects of Stripe's API; amounts in minor units, times in seconds."""

import json
import sqlite3
from typing import Any

from sandbox.identifiers import to_id


def refund_object(row: sqlite3.Row) -> dict[str, Any]:
    """Return a refund; failure fields are there only when it failed."""
    refund: dict[str, Any] = {
        "id": to_id("re", row["number"]),
        "object": "refund",
        "amount": row["amount_minor"],
        "balance_transaction": None,
        "charge": row["charge_id"],
        "created": row["created_ms"] // 1_000,
        "currency": row["currency"].lower(),
        "metadata": json.loads(row["metadata"]),
        "payment_intent": row["payment_intent"],
        "reason": row["reason"],
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": row["status"],
        "transfer_reversal": None,
    }
    if row["status"] == "failed":
        refund |= {"failure_reason": row["failure_reason"], "failure_balance_transaction": None}
    if row["status"] == "pending":
        refund["pending_reason"] = "processing"
    return refund


def charge_object(row: sqlite3.Row) -> dict[str, Any]:
    """Return a charge with what was captured and what was given back, unfailed pending included."""
    return {
        "id": row["charge_id"],
        "object": "charge",
        "amount": row["captured_minor"],
        "amount_captured": row["captured_minor"],
        "amount_refunded": row["refunded_minor"],
        "balance_transaction": None,
        "captured": True,
        "created": row["created_ms"] // 1_000,
        "currency": row["currency"].lower(),
        "customer": row["customer_id"],
        "disputed": bool(row["disputed"]),
        "livemode": False,
        "metadata": {"order_id": row["order_id"]},
        "paid": True,
        "payment_intent": row["payment_intent"],
        "payment_method": row["payment_method_id"],
        "refunded": row["refunded_minor"] == row["captured_minor"],
        "status": "succeeded",
    }


def dispute_object(row: sqlite3.Row) -> dict[str, Any]:
    """Return a dispute; `status` says how it stands."""
    return {
        "id": f"dp_{row['charge_id'].removeprefix('ch_')}",
        "object": "dispute",
        "charge": row["charge_id"],
        "created": row["created_ms"] // 1_000,
        "payment_intent": row["payment_intent"],
        "status": row["status"],
    }


def intent_object(row: sqlite3.Row) -> dict[str, Any]:
    """Return the payment intent behind a charge."""
    return {
        "id": row["payment_intent"],
        "object": "payment_intent",
        "amount": row["captured_minor"],
        "amount_received": row["captured_minor"],
        "created": row["created_ms"] // 1_000,
        "currency": row["currency"].lower(),
        "customer": row["customer_id"],
        "latest_charge": row["charge_id"],
        "livemode": False,
        "metadata": {"order_id": row["order_id"]},
        "payment_method": row["payment_method_id"],
        "status": "succeeded",
    }


def event_object(row: sqlite3.Row) -> dict[str, Any]:
    """Return an event exactly as its webhook carries it."""
    event: dict[str, Any] = json.loads(row["body"])
    return event


def refund_id_of(row: sqlite3.Row) -> str | None:
    """Return our refund request's id from a refund's metadata."""
    refund_id: str | None = json.loads(row["metadata"]).get("refund_id")
    return refund_id
