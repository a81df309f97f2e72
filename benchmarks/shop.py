"""A shop with as many orders as are to be refunded, and the requests about them."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.shop.schema import SHOP_SCHEMA

# The rules approve it without a person, and its coupon makes it seven calls a refund: a look at
# the charge, label, coupon, payment, CRM, customer and customer service.
_AMOUNT_MINOR, _GOODWILL_MINOR = 8_000, 500

# More than the rules give away by themselves: a person is asked.
_GOODWILL_FOR_A_PERSON_MINOR = 9_000


def fill(database: Path, names: dict[str, int]) -> None:
    """Make a shop's database with so many orders of each name, each of another customer."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("ATTACH ? AS shop", (str(database),))
        connection.executescript(SHOP_SCHEMA)
        for table, count in (("customers", 5), ("payment_methods", 5), ("orders", 7)):
            rows = [row[table] for name in names for row in _orders(name, names[name])]
            _insert(connection, table, count, rows)
        for table, count in (("order_items", 7), ("payments", 6)):
            rows = [row[table] for name in names for row in _orders(name, names[name])]
            _insert(connection, table, count, rows)


def requests(name: str, count: int, *, review_every: int = 0) -> list[dict[str, Any]]:
    """Requests about a name's orders; every n-th is one that a person has to decide."""
    return [
        {
            "refund_id": f"{name}_{number:06}",
            "kind": "return",
            "order_id": f"#{name}{number:06}",
            "customer_id": f"{name}_customer_{number:06}",
            "item_ids": ["i1"],
            "amount_minor": _AMOUNT_MINOR,
            "goodwill_minor": (
                _GOODWILL_FOR_A_PERSON_MINOR
                if review_every and number % review_every == 0
                else _GOODWILL_MINOR
            ),
            "currency": "USD",
            "refund_to": f"card_{name}_{number:06}",
            "reason": "no longer needed",
            "requested_by": "sam",
        }
        for number in range(1, count + 1)
    ]


def _orders(name: str, count: int) -> Iterator[dict[str, tuple[Any, ...]]]:
    for number in range(1, count + 1):
        order, customer = f"#{name}{number:06}", f"{name}_customer_{number:06}"
        card, charge = f"card_{name}_{number:06}", f"ch_{name}_{number:06}"
        yield {
            "customers": (customer, "Ada", f"{customer}@example.com", "NY", "10001"),
            "payment_methods": (card, customer, "credit_card", "visa", "4242"),
            "orders": (order, customer, "delivered", "USD", "NY", "10001", "USA"),
            "order_items": (order, 1, "i1", "p1", "Lamp", _AMOUNT_MINOR, "{}"),
            "payments": (order, 1, "payment", _AMOUNT_MINOR, card, charge),
        }


def _insert(
    connection: sqlite3.Connection, table: str, columns: int, rows: list[tuple[Any, ...]]
) -> None:
    marks = ", ".join("?" * columns)
    connection.executemany(f"INSERT INTO shop.{table} VALUES ({marks})", rows)  # noqa: S608 - names from above
