"""The gateway's side of an order: its charges, and the refunds that are already past."""

import sqlite3
from dataclasses import dataclass

from sandbox.shop.records import Order

_PAST_METADATA = '{"source": "history"}'


class ChargeConflict(Exception):
    """The payments of an order do not fit the gateway's books."""


@dataclass(slots=True)
class _Charge:
    payment_method_id: str
    captured_minor: int = 0
    past_minor: int = 0


def load_charges(tx: sqlite3.Connection, order: Order, now_ms: int) -> None:
    """Open or correct the order's charges; loading the same order again changes nothing.

    Raises ChargeConflict when a refund line has no payment line, a charge belongs to another
    order, or more would be refunded than was paid.
    """
    charges = _charges(order)
    _check_dropped(tx, order, charges)
    for charge_id, charge in charges.items():
        _check(tx, order, charge_id, charge)
    _store_past(tx, order, now_ms)
    for charge_id, charge in charges.items():
        _store(tx, order, charge_id, charge, now_ms)


def _charges(order: Order) -> dict[str, _Charge]:
    charges: dict[str, _Charge] = {}
    for payment in order.payments:
        if payment.type == "payment":
            charge_id = order.charge_of(payment)
            charge = charges.setdefault(charge_id, _Charge(payment.payment_method_id))
            charge.captured_minor += payment.amount_minor
    for payment in order.payments:
        if payment.type == "refund":
            charge_id = order.charge_of(payment)
            if charge_id not in charges:
                raise ChargeConflict(f"charge {charge_id} has a refund and no payment")
            charges[charge_id].past_minor += payment.amount_minor
    return charges


def _check_dropped(tx: sqlite3.Connection, order: Order, charges: dict[str, _Charge]) -> None:
    rows = tx.execute("SELECT charge_id FROM charges WHERE order_id = ?", (order.order_id,))
    for charge_id in {row["charge_id"] for row in rows.fetchall()} - charges.keys():
        if _new_refunds_minor(tx, charge_id):
            raise ChargeConflict(f"charge {charge_id} has refunds and is no longer on the order")
        tx.execute("DELETE FROM refunds WHERE charge_id = ?", (charge_id,))
        tx.execute("DELETE FROM charges WHERE charge_id = ?", (charge_id,))


def _check(tx: sqlite3.Connection, order: Order, charge_id: str, charge: _Charge) -> None:
    known = tx.execute("SELECT * FROM charges WHERE charge_id = ?", (charge_id,)).fetchone()
    if known is not None and known["order_id"] != order.order_id:
        raise ChargeConflict(f"charge {charge_id} belongs to order {known['order_id']}")
    if known is not None and known["currency"] != order.currency:
        raise ChargeConflict(f"charge {charge_id} is in {known['currency']}")
    if charge.past_minor + _new_refunds_minor(tx, charge_id) > charge.captured_minor:
        raise ChargeConflict(f"more is refunded on charge {charge_id} than was paid")


def _new_refunds_minor(tx: sqlite3.Connection, charge_id: str) -> int:
    total: int = tx.execute(
        "SELECT coalesce(sum(amount_minor), 0) AS total FROM refunds"
        " WHERE charge_id = ? AND past_payment IS NULL"
        " AND status IN ('pending', 'requires_action', 'succeeded')",
        (charge_id,),
    ).fetchone()["total"]
    return total


def _store_past(tx: sqlite3.Connection, order: Order, now_ms: int) -> None:
    names = []
    for line_no, payment in enumerate(order.payments, start=1):
        if payment.type != "refund":
            continue
        charge_id = order.charge_of(payment)
        names.append(f"{order.order_id} {line_no}")
        tx.execute(
            "INSERT INTO refunds (charge_id, payment_intent, amount_minor, currency, status,"
            " metadata, created_ms, past_payment) VALUES (?, ?, ?, ?, 'succeeded', ?, ?, ?)"
            " ON CONFLICT (past_payment) DO UPDATE SET charge_id = excluded.charge_id,"
            " payment_intent = excluded.payment_intent, amount_minor = excluded.amount_minor",
            (
                charge_id,
                payment_intent_of(charge_id),
                payment.amount_minor,
                order.currency,
                _PAST_METADATA,
                now_ms,
                names[-1],
            ),
        )
    marks = ", ".join("?" * len(names))
    tx.execute(
        "DELETE FROM refunds WHERE past_payment IS NOT NULL"  # noqa: S608  only question marks
        " AND charge_id IN (SELECT charge_id FROM charges WHERE order_id = ?)"
        f" AND past_payment NOT IN ({marks})",
        (order.order_id, *names),
    )


def _store(
    tx: sqlite3.Connection, order: Order, charge_id: str, charge: _Charge, now_ms: int
) -> None:
    tx.execute(
        "INSERT INTO charges (charge_id, payment_intent, order_id, customer_id,"
        " payment_method_id, currency, captured_minor, refunded_minor, created_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (charge_id) DO UPDATE SET customer_id = excluded.customer_id,"
        " payment_method_id = excluded.payment_method_id,"
        " captured_minor = excluded.captured_minor, refunded_minor = excluded.refunded_minor",
        (
            charge_id,
            payment_intent_of(charge_id),
            order.order_id,
            order.customer_id,
            charge.payment_method_id,
            order.currency,
            charge.captured_minor,
            charge.past_minor + _new_refunds_minor(tx, charge_id),
            now_ms,
        ),
    )


def payment_intent_of(charge_id: str) -> str:
    """Return the payment intent that `charge_id` was captured under."""
    return f"pi_{charge_id.removeprefix('ch_')}"
