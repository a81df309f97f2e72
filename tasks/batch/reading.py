"""The shop's and the ledger's facts on many refunds, with one query a table."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from refunds.errors import BadInput, NeedsAttention
from refunds.ledger import Ledger, charges, requests, updates
from refunds.models import (
    AfterSale,
    Case,
    Charge,
    RefundRequest,
    RiskFeatures,
    Rival,
)
from refunds.policy_file import Policy
from tasks import books, orders, shop


def cases(ledger: Ledger, wanted: Sequence[tuple[RefundRequest, int]]) -> dict[str, Case]:
    """Each request's case in its round, by refund id, as the world is now.

    It is for the amount that is in force, and with the evidence that people added. Raises
    SystemUnavailable when the shop cannot be asked.
    """
    found = shop.Shop({request.order_id for request, _ in wanted})
    captured = _captured(ledger, found)
    asked = [request for request, _ in wanted]
    rivals = requests.rivals_of_many(ledger, asked)
    in_force = requests.in_force_of_many(ledger, asked)
    evidence = updates.evidence_of_many(ledger, [request.refund_id for request in asked])
    known = {}
    for request, round_number in wanted:
        refund_id = request.refund_id
        amended, proposal = in_force[refund_id]
        case = _case(amended, round_number, found, captured, rivals[refund_id])
        added = {"proposal": proposal, "evidence": evidence[refund_id]}
        known[refund_id] = case.model_copy(update=added)
    return known


def features(ledger: Ledger, wanted: Iterable[RefundRequest]) -> dict[str, RiskFeatures]:
    """Each request's risk features, by refund id. Raises SystemUnavailable."""
    asked = list(wanted)
    histories = shop.histories_of(asked)
    others = requests.other_refunds_of_many(ledger, asked)
    return {
        request.refund_id: RiskFeatures(
            **histories[request.refund_id], other_refunds=others[request.refund_id]
        )
        for request in asked
    }


def rules() -> Policy:
    """The policy in force. Raises NeedsAttention when it is not readable."""
    try:
        return books.policy()
    except BadInput as error:
        raise NeedsAttention(str(error)) from error


def _case(
    request: RefundRequest,
    round_number: int,
    found: shop.Shop,
    captured: dict[str, tuple[Charge, ...]],
    rivals: tuple[Rival, ...],
) -> Case:
    order_id = request.order_id
    order = found.orders.get(order_id)
    after_sales = tuple(AfterSale(**row) for row in found.after_sales.get(order_id, []))
    if order is None:
        return Case(request=request, round=round_number, order=None, after_sales=after_sales)
    known = orders.fitting(found, order_id, captured[order_id])
    return Case(
        request=request,
        round=round_number,
        order=known,
        after_sales=after_sales,
        rivals=rivals,
    )


def _captured(ledger: Ledger, found: shop.Shop) -> dict[str, tuple[Charge, ...]]:
    """The charges of each order, as the ledger knows them."""
    left = _left_on_charges(ledger, found)
    disputed = charges.disputed_among(ledger, left)
    return {
        order_id: tuple(
            Charge(
                charge_id=line["charge_id"],
                payment_method_id=line["payment_method_id"],
                currency=order["currency"],
                captured_minor=line["amount_minor"],
                left_minor=left[line["charge_id"]],
                is_disputed=line["charge_id"] in disputed,
            )
            for line in found.payments.get(order_id, [])
            if line["type"] == "payment"
        )
        for order_id, order in found.orders.items()
    }


def _left_on_charges(ledger: Ledger, found: shop.Shop) -> dict[str, int]:
    """What the ledger would still let go of each charge; new ones are taken into the books."""
    seen: list[charges.Seen] = []
    for order_id, lines in found.payments.items():
        if order_id not in found.orders:
            continue
        refunded: dict[str, int] = defaultdict(int)
        for line in lines:
            if line["type"] == "refund":
                refunded[line["charge_id"]] += line["amount_minor"]
        seen += [
            charges.Seen(
                line["charge_id"],
                found.orders[order_id]["currency"],
                line["amount_minor"],
                min(refunded[line["charge_id"]], line["amount_minor"]),
            )
            for line in lines
            if line["type"] == "payment"
        ]
    return charges.open_charges(ledger, seen)
