"""The shop's database: the order and its after-sale records, read with plain SQL."""

from typing import Any

import sqlalchemy as sa
from prefect import task

from refunds.errors import SystemUnavailable
from refunds.ledger import charges, requests
from refunds.models import AfterSale, Case, Charge, Item, Order, RefundRequest
from tasks import books, steps

_ORDER = sa.text(
    "SELECT order_id, customer_id, status, currency FROM orders WHERE order_id = :order_id"
)
_ITEMS = sa.text(
    "SELECT item_id, name, price_minor FROM order_items WHERE order_id = :order_id ORDER BY line_no"
)
_PAYMENTS = sa.text(
    "SELECT type, amount_minor, payment_method_id, charge_id FROM payments "
    "WHERE order_id = :order_id ORDER BY line_no"
)
_METHODS = sa.text(
    "SELECT payment_method_id, source FROM payment_methods WHERE customer_id = :customer_id "
    "ORDER BY payment_method_id"
)
_AFTER_SALES = sa.text(
    "SELECT record_id, kind, status, amount_minor, note FROM after_sales "
    "WHERE order_id = :order_id ORDER BY record_id"
)


@task(
    name="load_order",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # Reading is harmless, so a database that is away is simply asked again.
    retries=4,
    retry_delay_seconds=[1, 2, 5, 10],
    retry_condition_fn=steps.may_retry,
    timeout_seconds=30,
)
@steps.journaled
async def load_order(request: RefundRequest, round_number: int) -> Case:
    """The order with its charges as the ledger knows them, and who else asks for it."""
    return read_case(request, round_number)


@task(
    name="load_after_sale",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # As for the order.
    retries=4,
    retry_delay_seconds=[1, 2, 5, 10],
    retry_condition_fn=steps.may_retry,
    timeout_seconds=30,
)
@steps.journaled
async def load_after_sale(case: Case) -> Case:
    """The case with the earlier after-sale records of its order."""
    return with_after_sales(case)


def read_case(request: RefundRequest, round_number: int) -> Case:
    """The order as it is now. Raises SystemUnavailable when the shop cannot be asked."""
    rows = {
        name: _rows(query, order_id=request.order_id)
        for name, query in (("order", _ORDER), ("items", _ITEMS), ("payments", _PAYMENTS))
    }
    if not rows["order"]:
        return Case(request=request, round=round_number, order=None)
    order = rows["order"][0]
    methods = _rows(_METHODS, customer_id=order["customer_id"])
    return Case(
        request=request,
        round=round_number,
        order=Order(
            **order,
            items=tuple(Item(**item) for item in rows["items"]),
            charges=_charges(rows["payments"], order["currency"]),
            payment_methods={row["payment_method_id"]: row["source"] for row in methods},
        ),
        rivals=requests.rivals(books.ledger(), request),
    )


def with_after_sales(case: Case) -> Case:
    """The case with its order's after-sale records as they are now."""
    rows = _rows(_AFTER_SALES, order_id=case.request.order_id)
    return case.model_copy(update={"after_sales": tuple(AfterSale(**row) for row in rows)})


def known_orders(order_ids: list[str]) -> dict[str, str]:
    """The currency of each of these orders that the shop knows, by order id."""
    query = sa.text("SELECT order_id, currency FROM orders WHERE order_id IN :ids").bindparams(
        sa.bindparam("ids", expanding=True)
    )
    found: dict[str, str] = {}
    # SQLite's oldest limit on parameters is 999.
    for start in range(0, len(order_ids), 900):
        rows = _rows(query, ids=order_ids[start : start + 900])
        found.update({row["order_id"]: row["currency"] for row in rows})
    return found


def _charges(payments: list[dict[str, Any]], currency: str) -> tuple[Charge, ...]:
    """Each captured payment; refunds made before we first saw the charge count against it."""
    refunded: dict[str, int] = {}
    for line in payments:
        if line["type"] == "refund":
            before = refunded.get(line["charge_id"], 0)
            refunded[line["charge_id"]] = before + line["amount_minor"]
    return tuple(
        Charge(
            charge_id=line["charge_id"],
            payment_method_id=line["payment_method_id"],
            currency=currency,
            captured_minor=line["amount_minor"],
            left_minor=charges.open_charge(
                books.ledger(),
                line["charge_id"],
                currency,
                line["amount_minor"],
                min(refunded.get(line["charge_id"], 0), line["amount_minor"]),
            ),
        )
        for line in payments
        if line["type"] == "payment"
    )


def _rows(query: sa.TextClause, **parameters: Any) -> list[dict[str, Any]]:
    try:
        with books.shop().connect().execution_options(reads_only=True) as connection:
            return [dict(row) for row in connection.execute(query, parameters).mappings()]
    except sa.exc.OperationalError as error:
        raise SystemUnavailable("shop", f"its database cannot be read ({error.orig})") from error
