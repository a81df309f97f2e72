"""Counts of what the shop and the gateway hold."""

import sqlite3

from sandbox.answers import Answer

_TABLES = (
    "customers",
    "payment_methods",
    "orders",
    "order_items",
    "payments",
    "fulfillments",
    "after_sales",
    "charges",
    "refunds",
)


def stats(reader: sqlite3.Connection) -> Answer:
    """Answer the number of rows of each table; `charges` and `refunds` are the gateway's."""
    counts = {
        table: reader.execute(f"SELECT count(*) AS rows FROM {table}").fetchone()["rows"]  # noqa: S608  names from the code
        for table in _TABLES
    }
    return Answer.of(200, counts)
