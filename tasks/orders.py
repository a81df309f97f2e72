"""The shop: the order and its after-sale records."""

from typing import Any

from prefect import task
from pydantic import ValidationError

from refunds.errors import NeedsAttention
from refunds.ledger import charges, requests, updates
from refunds.models import AfterSale, Case, Charge, Item, Order, RefundRequest
from tasks import books, rounds, shop, steps


@task(
    name="load_order",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # Reading is harmless, so a database that is away is simply asked again.
    **steps.QUICK_RETRIES,
    timeout_seconds=30,
)
@steps.journaled
async def load_order(request: RefundRequest, round_number: int) -> Case:
    """The order with its charges as the ledger knows them, and who else asks for it."""
    return rounds.case_of(request, round_number) or read_case(request, round_number)


@task(
    name="load_after_sale",
    cache_key_fn=steps.by_round,
    persist_result=True,
    # As for the order.
    **steps.QUICK_RETRIES,
    timeout_seconds=30,
)
@steps.journaled
async def load_after_sale(case: Case) -> Case:
    """The case with the earlier after-sale records of its order."""
    known = rounds.case_of(case.request, case.round)
    if known is not None:
        return known
    return with_after_sales(case)


def read_whole_case(request: RefundRequest, round_number: int) -> Case:
    """The order with its after-sale records, as both are now; raises as `read_case`."""
    found = shop.Shop([request.order_id])
    return with_after_sales(read_case(request, round_number, found), found)


def read_case(request: RefundRequest, round_number: int, found: shop.Shop | None = None) -> Case:
    """The order as it is now, or was `found`, for the amount that is in force.

    Raises SystemUnavailable when the shop cannot be asked.
    """
    request, proposal = requests.in_force(books.ledger(), request)
    found, order_id = found or shop.Shop([request.order_id]), request.order_id
    order = found.orders.get(order_id)
    if order is None:
        return Case(request=request, round=round_number, order=None, proposal=proposal)
    captured = _charges(found.payments.get(order_id, []), order["currency"])
    return Case(
        request=request,
        round=round_number,
        order=fitting(found, order_id, captured),
        proposal=proposal,
        rivals=requests.rivals(books.ledger(), request),
    )


def fitting(found: shop.Shop, order_id: str, captured: tuple[Charge, ...]) -> Order:
    """The order with its charges. Raises NeedsAttention for what is no order of ours."""
    order = found.orders[order_id]
    methods = found.methods.get(order["customer_id"], [])
    try:
        return Order(
            **order,
            items=tuple(Item(**item) for item in found.items.get(order_id, [])),
            charges=captured,
            payment_methods={row["payment_method_id"]: row["source"] for row in methods},
        )
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise NeedsAttention(f"the shop's order {order_id} does not fit: {wrong}") from error


def with_after_sales(case: Case, found: shop.Shop | None = None) -> Case:
    """The case with its order's after-sale records, as they are now or were `found`.

    What people added is as it is now.
    """
    order_id = case.request.order_id
    rows = (found or shop.Shop([order_id])).after_sales.get(order_id, [])
    earlier = tuple(AfterSale(**row) for row in rows)
    added = updates.evidence_of(books.ledger(), case.refund_id)
    return case.model_copy(update={"after_sales": earlier, "evidence": added})


def known_orders(order_ids: list[str]) -> dict[str, str]:
    """The currency of each of these orders that the shop knows, by order id."""
    return shop.known_orders(order_ids)


def _charges(payments: list[dict[str, Any]], currency: str) -> tuple[Charge, ...]:
    """Each captured payment; refunds made before we first saw the charge count against it."""
    refunded: dict[str, int] = {}
    charge_ids = [line["charge_id"] for line in payments if line["type"] == "payment"]
    disputed = charges.disputed_among(books.ledger(), charge_ids)
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
            is_disputed=line["charge_id"] in disputed,
        )
        for line in payments
        if line["type"] == "payment"
    )
