"""The gateway's books: charges, refunds and the statuses that move money between them."""

import json
import sqlite3
from typing import Any

from sandbox.answers import Refused
from sandbox.clock import Clock, to_ms
from sandbox.fault_rules import Decline, FailLater, Pending, Rule
from sandbox.gateway.dialect import invalid, missing, stripe_error
from sandbox.gateway.disputes import dispute_of
from sandbox.gateway.events import Events
from sandbox.gateway.forms import RefundForm
from sandbox.gateway.objects import charge_object, refund_id_of, refund_object

# In these statuses the amount is given back, or about to be.
_HOLDING = ("pending", "requires_action", "succeeded")


class Books:
    """Opens refunds and changes their status, keeping each charge's refunded amount true."""

    def __init__(self, clock: Clock, events: Events) -> None:
        self._clock = clock
        self._events = events

    def open_refund(
        self, tx: sqlite3.Connection, form: RefundForm, fault: Rule | None, key: str | None
    ) -> sqlite3.Row:
        """Refund what `form` asks for and return the new refund's row.

        Raises Refused: not final for a parameter that fits nothing, final for a decline or a
        charge that has too little left.
        """
        charge = _charge_for(tx, form)
        _refuse_disputed(tx, charge)
        amount_minor = _amount_for(charge, form)
        if isinstance(fault, Decline):
            answer = stripe_error(fault.status, fault.message, kind="card_error", code=fault.code)
            raise Refused(answer, final=True)
        number = self._insert(tx, charge, amount_minor, form, fault)
        tx.execute(
            "UPDATE charges SET refunded_minor = refunded_minor + ? WHERE charge_id = ?",
            (amount_minor, charge["charge_id"]),
        )
        row = refund_row(tx, number)
        assert row is not None  # noqa: S101  it was inserted above
        self._tell(tx, "refund.created", row, key=key)
        if row["status"] == "succeeded":
            self._tell_charge(tx, row, key)
        return row

    def change_status(
        self, tx: sqlite3.Connection, row: sqlite3.Row, status: str, failure_reason: str | None
    ) -> sqlite3.Row:
        """Give a refund a new status and return its new row; a failed one frees its amount."""
        if row["status"] in _HOLDING and status not in _HOLDING:
            tx.execute(
                "UPDATE charges SET refunded_minor = refunded_minor - ? WHERE charge_id = ?",
                (row["amount_minor"], row["charge_id"]),
            )
        tx.execute(
            "UPDATE refunds SET status = ?, failure_reason = ?, settle_at_ms = NULL"
            " WHERE number = ?",
            (status, failure_reason, row["number"]),
        )
        changed = refund_row(tx, row["number"])
        assert changed is not None  # noqa: S101  it was updated above
        self._tell(tx, "refund.updated", changed, previous={"status": row["status"]})
        if status == "failed":
            self._tell(tx, "refund.failed", changed)
        if status == "succeeded":
            self._tell_charge(tx, changed, None)
        return changed

    def set_metadata(
        self, tx: sqlite3.Connection, row: sqlite3.Row, metadata: dict[str, str]
    ) -> sqlite3.Row:
        """Replace a refund's metadata and return its new row."""
        tx.execute(
            "UPDATE refunds SET metadata = ? WHERE number = ?",
            (json.dumps(metadata), row["number"]),
        )
        changed = refund_row(tx, row["number"])
        assert changed is not None  # noqa: S101  it was updated above
        previous = {"metadata": json.loads(row["metadata"])}
        self._tell(tx, "refund.updated", changed, previous=previous)
        return changed

    def _insert(
        self,
        tx: sqlite3.Connection,
        charge: sqlite3.Row,
        amount_minor: int,
        form: RefundForm,
        fault: Rule | None,
    ) -> int:
        now_ms = to_ms(self._clock())
        values: dict[str, Any] = {
            "charge_id": charge["charge_id"],
            "payment_intent": charge["payment_intent"],
            "amount_minor": amount_minor,
            "currency": charge["currency"],
            "reason": form.reason,
            "metadata": json.dumps(dict(form.metadata)),
            "created_ms": now_ms,
            **_settlement(fault, now_ms),
        }
        cursor = tx.execute(
            "INSERT INTO refunds (charge_id, payment_intent, amount_minor, currency, reason,"
            " metadata, created_ms, status, settle_at_ms, settle_as, settle_failure_reason)"
            " VALUES (:charge_id, :payment_intent, :amount_minor, :currency, :reason,"
            " :metadata, :created_ms, :status, :settle_at_ms, :settle_as, :settle_failure_reason)",
            values,
        )
        assert cursor.lastrowid is not None  # noqa: S101  an INSERT has one
        return cursor.lastrowid

    def _tell(
        self,
        tx: sqlite3.Connection,
        kind: str,
        row: sqlite3.Row,
        *,
        previous: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> None:
        thing, refund_id = refund_object(row), refund_id_of(row)
        self._events.record(tx, kind, thing, refund_id=refund_id, previous=previous, key=key)

    def _tell_charge(self, tx: sqlite3.Connection, row: sqlite3.Row, key: str | None) -> None:
        charge = tx.execute(
            "SELECT * FROM charges_shown WHERE charge_id = ?", (row["charge_id"],)
        ).fetchone()
        thing, refund_id = charge_object(charge), refund_id_of(row)
        self._events.record(tx, "charge.refunded", thing, refund_id=refund_id, key=key)


def refund_row(connection: sqlite3.Connection, number: int | None) -> sqlite3.Row | None:
    """Return a refund's row by its number."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM refunds WHERE number = ?", (number,)
    ).fetchone()
    return row


def _charge_for(tx: sqlite3.Connection, form: RefundForm) -> sqlite3.Row:
    column = "charge_id" if form.charge else "payment_intent"
    identifier = form.charge or form.payment_intent or ""
    charge: sqlite3.Row | None = tx.execute(
        f"SELECT * FROM charges_shown WHERE {column} = ?",  # noqa: S608  one of two columns
        (identifier,),
    ).fetchone()
    if charge is None:
        kind = "charge" if form.charge else "payment_intent"
        raise missing(kind, identifier, status=400, param=kind)
    if form.currency not in (None, charge["currency"]):
        message = f"The charge is in {charge['currency'].lower()}, not in {form.currency}."
        raise invalid(message, param="currency")
    refund_to = form.metadata.get("refund_to")
    if refund_to is not None and not _owns(tx, charge["customer_id"], refund_to):
        message = "refund_to is not a payment method of the charge's customer."
        raise invalid(message, param="metadata[refund_to]")
    return charge


def _refuse_disputed(tx: sqlite3.Connection, charge: sqlite3.Row) -> None:
    """Not while the bank decides, and not when it decided for the customer."""
    dispute = dispute_of(tx, charge["charge_id"])
    if dispute is not None and dispute["status"] != "won":
        message = f"Charge {charge['charge_id']} has been charged back; cannot issue a refund."
        raise Refused(stripe_error(400, message, code="charge_disputed"), final=True)


def _owns(tx: sqlite3.Connection, customer_id: str, payment_method_id: str) -> bool:
    found = tx.execute(
        "SELECT 1 FROM payment_methods WHERE payment_method_id = ? AND customer_id = ?",
        (payment_method_id, customer_id),
    ).fetchone()
    return found is not None


def _amount_for(charge: sqlite3.Row, form: RefundForm) -> int:
    left_minor: int = charge["captured_minor"] - charge["refunded_minor"]
    if left_minor == 0:
        message = f"Charge {charge['charge_id']} has already been refunded."
        answer = stripe_error(400, message, code="charge_already_refunded")
        raise Refused(answer, final=True)
    amount_minor = left_minor if form.amount_minor is None else form.amount_minor
    if amount_minor > left_minor:
        currency = charge["currency"].lower()
        message = (
            f"Refund amount ({amount_minor} {currency}) is greater than unrefunded amount on"
            f" charge ({left_minor} {currency}), in minor units"
        )
        # Stripe gives this error no code.
        raise Refused(stripe_error(400, message, param="amount"), final=True)
    return amount_minor


def _settlement(fault: Rule | None, now_ms: int) -> dict[str, str | int | None]:
    match fault:
        case Pending() as pending:
            after = pending.settle_after_seconds
            return {
                "status": pending.start_as,
                "settle_at_ms": None if after is None else now_ms + int(after * 1_000),
                "settle_as": pending.settle_as,
                "settle_failure_reason": pending.failure_reason,
            }
        case FailLater(seconds=seconds, failure_reason=failure_reason):
            return {
                "status": "succeeded",
                "settle_at_ms": now_ms + int(seconds * 1_000),
                "settle_as": "failed",
                "settle_failure_reason": failure_reason,
            }
        case _:
            return {
                "status": "succeeded",
                "settle_at_ms": None,
                "settle_as": None,
                "settle_failure_reason": None,
            }
