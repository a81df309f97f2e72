"""The shop's database, by the user's own mapping; read only, and money exactly or not at all."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from refunds import money
from refunds.errors import BadInput, NeedsAttention, SystemUnavailable
from refunds.models import RefundRequest
from refunds.settings import settings
from refunds.shop_mapping import (
    DEFAULT_SHOP_MAPPING,
    PARAMETERS,
    Section,
    ShopMapping,
    in_our_words,
    orders_of_customers,
    read,
    statement,
)
from tasks import books

Rows = list[dict[str, Any]]
History = dict[str, int]

_HISTORY = ("orders_total", "orders_cancelled", "spent_minor", "refunded_minor")

# SQLite's oldest limit on parameters is 999.
_AT_ONCE = 900

# What is text with us, whatever it is in the shop.
_IDS = frozenset(
    {"order_id", "customer_id", "item_id", "payment_method_id", "charge_id", "record_id"}
)


def mapping() -> ShopMapping:
    """The mapping in use: the user's, or the sandbox's. Raises NeedsAttention."""
    try:
        return _mapping(settings().shop_mapping or DEFAULT_SHOP_MAPPING)
    except BadInput as error:
        raise NeedsAttention(str(error)) from error


class Shop:
    """The rows of some orders and of their customers, by order and by customer.

    Raises SystemUnavailable when the shop cannot be asked, NeedsAttention for an amount that is
    not a whole number of minor units.
    """

    def __init__(self, order_ids: Iterable[str]) -> None:
        self._mapping, wanted = mapping(), sorted(set(order_ids))
        with _asking() as connection:
            found = self._found(connection, "orders", wanted)
            self.orders = {order_id: rows[0] for order_id, rows in found.items()}
            _check_currencies(self.orders)
            self.items = self._found(connection, "items", wanted)
            self.payments = self._found(connection, "payments", wanted)
            self.after_sales = self._found(connection, "after_sales", wanted)
            customers = sorted({order["customer_id"] for order in self.orders.values()})
            self.methods = self._found(connection, "payment_methods", customers)
        for kind, field in (("items", "price"), ("payments", "amount"), ("after_sales", "amount")):
            self._count_money(getattr(self, kind), kind, field)

    def _found(self, connection: sa.Connection, name: str, ids: list[str]) -> dict[str, Rows]:
        section: Section | None = getattr(self._mapping, name)
        return _found(connection, section, name, ids) if section is not None else {}

    def _count_money(self, found: dict[str, Rows], kind: str, field: str) -> None:
        for order_id, rows in found.items():
            order = self.orders.get(order_id)
            for row in rows if order is not None else ():
                value, what = row.pop(field), f"order {order_id}, {kind}.{field}"
                currency = str(order["currency"]) if order is not None else ""
                row[f"{field}_minor"] = exactly(value, currency, self._mapping.amounts, what)


def known_orders(order_ids: list[str]) -> dict[str, str]:
    """The currency of each of these orders that the shop knows, by order id."""
    with _asking() as connection:
        found = _found(connection, mapping().orders, "orders", order_ids)
    return {order_id: str(rows[0]["currency"]) for order_id, rows in found.items()}


def histories_of(requests: Sequence[RefundRequest]) -> dict[str, History]:
    """By refund id, the customer's own history in the request's currency, in minor units.

    It has orders_total, orders_cancelled, spent_minor and refunded_minor.
    """
    shop, customers = mapping(), sorted({request.customer_id for request in requests})
    with _asking() as connection:
        found = _found(connection, shop.risk, "risk", customers) if shop.risk is not None else None
        counted = _counted(connection, shop, customers) if found is None else {}
    histories = {}
    for request in requests:
        customer, currency = request.customer_id, request.currency
        if found is None:
            history = counted.get((customer, currency))
        else:
            history = _history(found.get(customer, []), customer, currency, shop.amounts)
        histories[request.refund_id] = history or dict.fromkeys(_HISTORY, 0)
    return histories


def refunded_before(order_ids: Iterable[str]) -> dict[str, int]:
    """What the shop itself has given back on each charge of these orders, in minor units."""
    total: dict[str, int] = defaultdict(int)
    for rows in Shop(order_ids).payments.values():
        for row in rows:
            if row["type"] == "refund":
                total[row["charge_id"]] += row["amount_minor"]
    return dict(total)


def _check_currencies(orders: dict[str, dict[str, Any]]) -> None:
    for order_id, order in orders.items():
        if not money.is_currency(str(order["currency"])):
            raise NeedsAttention(
                f"the shop's order {order_id} is in {order['currency']!r}, which is no currency"
            )


def exactly(value: Any, currency: str, amounts: str, what: str) -> int:
    """The amount in minor units. Raises NeedsAttention for what would have to be rounded."""
    minor = money.minor_of(value, money.digits(currency) if amounts == "decimal" else 0)
    if minor is None:
        raise NeedsAttention(
            f"the shop's {what} is {value!r}, which is no exact amount in {currency}"
        )
    return minor


@lru_cache(maxsize=4)
def _mapping(path: Path) -> ShopMapping:
    return read(path)


@contextmanager
def _asking() -> Iterator[sa.Connection]:
    """A connection to the shop that only reads. Raises SystemUnavailable."""
    try:
        with books.shop().connect().execution_options(reads_only=True) as connection:
            yield connection
    except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
        reason = f"its database cannot be read ({error.orig})"
        raise SystemUnavailable("shop", reason) from error


def _found(
    connection: sa.Connection, section: Section, name: str, ids: list[str]
) -> dict[str, Rows]:
    """The section's rows of each of these orders or customers."""
    query = statement(section, name)
    if not isinstance(query, sa.TextClause):
        return _asked(connection, section, query, ids)
    return {
        wanted: [_ours(section, row) for row in rows]
        for wanted in ids
        if (rows := _rows(connection, query, {PARAMETERS[name]: wanted}))
    }


def _asked(
    connection: sa.Connection, section: Section, query: sa.Select[Any], ids: list[str]
) -> dict[str, Rows]:
    found = defaultdict[str, Rows](list)
    for start in range(0, len(ids), _AT_ONCE):
        for row in _rows(connection, query, {"ids": ids[start : start + _AT_ONCE]}):
            found[str(row.pop("shop_key"))].append(_ours(section, row))
    return dict(found)


def _rows(connection: sa.Connection, query: Any, asked: dict[str, Any]) -> Rows:
    """What the database has; an id that is not even of the column's type is not there."""
    try:
        return [dict(row) for row in connection.execute(query, asked).mappings()]
    except sa.exc.DataError:
        connection.rollback()
        ids = asked.get("ids", ())
        return [
            row for one in ids if len(ids) > 1 for row in _rows(connection, query, {"ids": [one]})
        ]


def _ours(section: Section, row: dict[str, Any]) -> dict[str, Any]:
    for name in _IDS & row.keys():
        row[name] = str(row[name])
    if row.get("currency") is not None:
        row["currency"] = str(row["currency"]).strip().upper()
    return in_our_words(section, row)


def _history(rows: Rows, customer: str, currency: str, amounts: str) -> History | None:
    for row in rows:
        if row["currency"] not in (currency, None):
            continue
        history = {name: int(row[name]) for name in ("orders_total", "orders_cancelled")}
        for name in ("spent", "refunded"):
            what = f"customer {customer}, risk.{name}"
            history[f"{name}_minor"] = exactly(row[name], currency, amounts, what)
        return history
    return None


def _counted(
    connection: sa.Connection, shop: ShopMapping, customers: list[str]
) -> dict[tuple[str, str], History]:
    """The histories by customer and currency, counted from the orders and payments themselves."""
    found = _asked(connection, shop.orders, orders_of_customers(shop.orders), customers)
    orders = {order["order_id"]: order for rows in found.values() for order in rows}
    counted: dict[tuple[str, str], History] = defaultdict(lambda: dict.fromkeys(_HISTORY, 0))
    for order in orders.values():
        history = counted[order["customer_id"], order["currency"]]
        history["orders_total"] += 1
        history["orders_cancelled"] += order["status"] == "cancelled"
    sums = {"payment": "spent_minor", "refund": "refunded_minor"}
    for order_id, lines in _found(connection, shop.payments, "payments", sorted(orders)).items():
        order = orders[order_id]
        for line in lines:
            if line["type"] in sums:
                what = f"order {order_id}, payments.amount"
                amount = exactly(line["amount"], order["currency"], shop.amounts, what)
                counted[order["customer_id"], order["currency"]][sums[line["type"]]] += amount
    return counted
