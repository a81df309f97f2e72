"""Loading customers and orders: a batch as a whole or not at all, and again without a change."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from sandbox.answers import Answer, Refused
from sandbox.clock import Clock, to_ms
from sandbox.records import Record, error, explain
from sandbox.shop.charges import ChargeConflict, load_charges
from sandbox.shop.records import Customer, Order
from sandbox.store import Store

# About 2 MB of the retail data, and a fifth of a second of the writer's time.
_BATCH_LIMIT = 2_000

R = TypeVar("R", bound=Record)


class Conflict(Exception):
    """A well-formed record contradicts what is stored."""


class Shop:
    """Takes batches into shop.db and opens the gateway's charges for them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def load_customers(self, body: bytes) -> Answer:
        """Store customers; 422 names every bad record by its index."""
        customers = _records(Customer, body, lambda customer: customer.customer_id)
        return await self._load(customers, _store_customer)

    async def load_orders(self, body: bytes) -> Answer:
        """Store orders with their charges and past refunds; their customers must be stored."""
        orders = _records(Order, body, lambda order: order.order_id)
        now_ms = to_ms(self._clock())
        return await self._load(orders, lambda tx, order: _store_order(tx, order, now_ms))

    async def _load(
        self, records: Sequence[R], store: Callable[[sqlite3.Connection, R], None]
    ) -> Answer:
        def job(tx: sqlite3.Connection) -> Answer:
            problems = []
            for index, record in enumerate(records):
                try:
                    store(tx, record)
                except (Conflict, ChargeConflict) as conflict:
                    problems.append({"index": index, "error": str(conflict)})
            _refuse(problems)
            return Answer.of(200, {"loaded": len(records)})

        return await self._store.write(job)


def _refuse(problems: list[dict[str, object]]) -> None:
    if problems:
        summary = {"code": "invalid_records", "message": "Nothing was stored."}
        raise Refused(Answer.of(422, {"error": summary, "errors": problems}))


def _records(model: type[R], body: bytes, id_of: Callable[[R], str]) -> list[R]:
    try:
        values = from_json(body)
    except ValueError as problem:
        raise Refused(error(400, "invalid_json", str(problem)[:500])) from problem
    if not isinstance(values, list):
        raise Refused(error(422, "invalid_request", "Send a JSON array of records."))
    if len(values) > _BATCH_LIMIT:
        text = f"Send at most {_BATCH_LIMIT} records at once."
        raise Refused(error(422, "too_many_records", text))
    records: list[R] = []
    problems: list[dict[str, object]] = []
    seen: set[str] = set()
    for index, value in enumerate(values):
        try:
            record = model.model_validate(value)
        except ValidationError as problem:
            problems.append({"index": index, "error": explain(problem)})
            continue
        if id_of(record) in seen:
            problems.append({"index": index, "error": f"{id_of(record)} is twice in this batch"})
        seen.add(id_of(record))
        records.append(record)
    _refuse(problems)
    return records


def _store_customer(tx: sqlite3.Connection, customer: Customer) -> None:
    tx.execute(
        "INSERT INTO customers VALUES (?, ?, ?, ?, ?) ON CONFLICT (customer_id) DO UPDATE SET"
        " name = excluded.name, email = excluded.email, state = excluded.state, zip = excluded.zip",
        (customer.customer_id, customer.name, customer.email, customer.state, customer.zip),
    )
    tx.execute("DELETE FROM payment_methods WHERE customer_id = ?", (customer.customer_id,))
    for method in customer.payment_methods:
        row = (method.id, customer.customer_id, method.source, method.brand, method.last_four)
        try:
            tx.execute("INSERT INTO payment_methods VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as problem:
            raise Conflict(f"payment method {method.id} is named twice") from problem


def _store_order(tx: sqlite3.Connection, order: Order, now_ms: int) -> None:
    known = tx.execute(
        "SELECT 1 FROM customers WHERE customer_id = ?", (order.customer_id,)
    ).fetchone()
    if known is None:
        raise Conflict(f"customer {order.customer_id} is not loaded")
    load_charges(tx, order, now_ms)
    tx.execute(
        "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            order.order_id,
            order.customer_id,
            order.status,
            order.currency,
            order.ship_to.state,
            order.ship_to.zip,
            order.ship_to.country,
        ),
    )
    for table in ("order_items", "payments", "fulfillments", "after_sales"):
        tx.execute(f"DELETE FROM {table} WHERE order_id = ?", (order.order_id,))  # noqa: S608  names from the code
    _store_lines(tx, order)
    _store_after_sale(tx, order)


def _store_lines(tx: sqlite3.Connection, order: Order) -> None:
    tx.executemany(
        "INSERT INTO order_items VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                order.order_id,
                line_no,
                item.item_id,
                item.product_id,
                item.name,
                item.price_minor,
                json.dumps(item.options, sort_keys=True),
            )
            for line_no, item in enumerate(order.items, start=1)
        ],
    )
    tx.executemany(
        "INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                order.order_id,
                line_no,
                payment.type,
                payment.amount_minor,
                payment.payment_method_id,
                order.charge_of(payment),
            )
            for line_no, payment in enumerate(order.payments, start=1)
        ],
    )
    tx.executemany(
        "INSERT INTO fulfillments VALUES (?, ?, ?)",
        [
            (order.order_id, tracking_id, item_id)
            for fulfillment in order.fulfillments
            for tracking_id in fulfillment.tracking_id
            for item_id in fulfillment.item_ids
        ],
    )


def _store_after_sale(tx: sqlite3.Connection, order: Order) -> None:
    refunds = [payment for payment in order.payments if payment.type == "refund"]
    if not refunds:
        return
    cancelled = order.status == "cancelled"
    tx.execute(
        "INSERT INTO after_sales VALUES (?, ?, ?, ?, 'refunded', ?, ?, ?)",
        (
            f"as_{order.order_id}",
            order.order_id,
            order.customer_id,
            "cancellation" if cancelled else "return",
            sum(payment.amount_minor for payment in refunds),
            order.currency,
            "order cancelled and refunded" if cancelled else "items refunded earlier",
        ),
    )
