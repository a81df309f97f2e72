"""The shop's and the ledger's facts on many refunds, with one query a table."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from refunds.errors import SystemUnavailable
from refunds.ledger import Ledger, charges, requests
from refunds.ledger.pages import among
from refunds.models import (
    AfterSale,
    Case,
    Charge,
    Item,
    Order,
    RefundRequest,
    RiskFeatures,
    Rival,
)
from tasks import books

Rows = list[dict[str, Any]]
ByKey = dict[str, Rows]

_ORDERS = sa.table("orders", *map(sa.column, ("order_id", "customer_id", "status", "currency")))
_ITEMS = sa.table(
    "order_items", *map(sa.column, ("order_id", "line_no", "item_id", "name", "price_minor"))
)
_PAYMENTS = sa.table(
    "payments",
    *map(
        sa.column,
        ("order_id", "line_no", "type", "amount_minor", "payment_method_id", "charge_id"),
    ),
)
_METHODS = sa.table(
    "payment_methods", *map(sa.column, ("customer_id", "payment_method_id", "source"))
)
_AFTER_SALES = sa.table(
    "after_sales",
    *map(sa.column, ("order_id", "record_id", "kind", "status", "amount_minor", "note")),
)
_FEATURES = sa.table(
    "risk_features",
    *map(
        sa.column,
        (
            "customer_id",
            "currency",
            "orders_total",
            "orders_cancelled",
            "spent_minor",
            "refunded_minor",
        ),
    ),
)


def cases(ledger: Ledger, wanted: Sequence[tuple[RefundRequest, int]]) -> dict[str, Case]:
    """Each request's case in its round, by refund id, as the world is now.

    Raises SystemUnavailable when the shop cannot be asked.
    """
    found = _Shop(sorted({request.order_id for request, _ in wanted}))
    left = _left_on_charges(ledger, found)
    found.disputed = charges.disputed_among(ledger, left)
    rivals = requests.rivals_of_many(ledger, [request for request, _ in wanted])
    return {
        request.refund_id: _case(request, round_number, found, left, rivals[request.refund_id])
        for request, round_number in wanted
    }


def features(ledger: Ledger, wanted: Iterable[RefundRequest]) -> dict[str, RiskFeatures]:
    """Each request's risk features, by refund id. Raises SystemUnavailable."""
    asked = list(wanted)
    row = _FEATURES.c
    with _asking_the_shop() as connection:
        by_customer = _grouped(
            connection,
            sa.select(_FEATURES).where(
                among(connection, row.customer_id, {request.customer_id for request in asked})
            ),
            "customer_id",
        )
    others = requests.other_refunds_of_many(ledger, asked)
    return {
        request.refund_id: _features(by_customer, request, others[request.refund_id])
        for request in asked
    }


class _Shop:
    """The rows of some orders and of their customers, and which charges are known as disputed."""

    disputed: frozenset[str] = frozenset()

    def __init__(self, order_ids: list[str]) -> None:
        with _asking_the_shop() as connection:

            def of_orders(table: Any, *order_by: str) -> ByKey:
                query = sa.select(table).where(among(connection, table.c.order_id, order_ids))
                return _grouped(
                    connection, query.order_by(*(table.c[name] for name in order_by)), "order_id"
                )

            self.orders = {key: rows[0] for key, rows in of_orders(_ORDERS, "order_id").items()}
            self.items = of_orders(_ITEMS, "order_id", "line_no")
            self.payments = of_orders(_PAYMENTS, "order_id", "line_no")
            self.after_sales = of_orders(_AFTER_SALES, "record_id")
            customers = {order["customer_id"] for order in self.orders.values()}
            self.methods = _grouped(
                connection,
                sa.select(_METHODS)
                .where(among(connection, _METHODS.c.customer_id, customers))
                .order_by(_METHODS.c.payment_method_id),
                "customer_id",
            )


def _case(
    request: RefundRequest,
    round_number: int,
    shop: _Shop,
    left: dict[str, int],
    rivals: tuple[Rival, ...],
) -> Case:
    order, order_id = shop.orders.get(request.order_id), request.order_id
    after_sales = tuple(
        AfterSale(**_without(row, "order_id")) for row in shop.after_sales.get(order_id, [])
    )
    if order is None:
        return Case(request=request, round=round_number, order=None, after_sales=after_sales)
    items = shop.items.get(order_id, [])
    methods = shop.methods.get(order["customer_id"], [])
    return Case(
        request=request,
        round=round_number,
        order=Order(
            **order,
            items=tuple(Item(**_without(row, "order_id", "line_no")) for row in items),
            charges=tuple(
                Charge(
                    charge_id=line["charge_id"],
                    payment_method_id=line["payment_method_id"],
                    currency=order["currency"],
                    captured_minor=line["amount_minor"],
                    left_minor=left[line["charge_id"]],
                    is_disputed=line["charge_id"] in shop.disputed,
                )
                for line in shop.payments.get(order_id, [])
                if line["type"] == "payment"
            ),
            payment_methods={row["payment_method_id"]: row["source"] for row in methods},
        ),
        after_sales=after_sales,
        rivals=rivals,
    )


def _left_on_charges(ledger: Ledger, shop: _Shop) -> dict[str, int]:
    """What the ledger would still let go of each charge; new ones are taken into the books."""
    seen: list[charges.Seen] = []
    for order_id, lines in shop.payments.items():
        if order_id not in shop.orders:
            continue
        refunded: dict[str, int] = defaultdict(int)
        for line in lines:
            if line["type"] == "refund":
                refunded[line["charge_id"]] += line["amount_minor"]
        seen += [
            charges.Seen(
                line["charge_id"],
                shop.orders[order_id]["currency"],
                line["amount_minor"],
                min(refunded[line["charge_id"]], line["amount_minor"]),
            )
            for line in lines
            if line["type"] == "payment"
        ]
    return charges.open_charges(ledger, seen)


def _features(by_customer: ByKey, request: RefundRequest, others: int) -> RiskFeatures:
    for row in by_customer.get(request.customer_id, []):
        if row["currency"] in (request.currency, None):
            return RiskFeatures(**_without(row, "customer_id", "currency"), other_refunds=others)
    nothing = dict.fromkeys(RiskFeatures.model_fields, 0)
    return RiskFeatures(**{**nothing, "other_refunds": others})


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _grouped(connection: sa.Connection, query: Any, key: str) -> ByKey:
    grouped: ByKey = defaultdict(list)
    for row in connection.execute(query).mappings():
        grouped[row[key]].append(dict(row))
    return grouped


@contextmanager
def _asking_the_shop() -> Iterator[sa.Connection]:
    """A connection to the shop that only reads. Raises SystemUnavailable."""
    try:
        with books.shop().connect().execution_options(reads_only=True) as connection:
            yield connection
    except sa.exc.OperationalError as error:
        reason = f"its database cannot be read ({error.orig})"
        raise SystemUnavailable("shop", reason) from error
