"""The default policy on the whole real data set: 292 requests of a shop nobody here invented."""

from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from refunds import policy
from refunds.intake import read_requests
from refunds.models import (
    Assessment,
    Case,
    Charge,
    Item,
    Kind,
    Order,
    RefundRequest,
    RiskFeatures,
    Rival,
    State,
    Verdict,
)
from refunds.shop_data import ShopCustomer, ShopOrder, read_customers, read_orders
from tests.domain.domain_cases import POLICY

RETAIL = Path(__file__).parents[2] / "sandbox" / "retail"


def read(name: str) -> tuple[bytes, str]:
    return (RETAIL / name).read_bytes(), name


REQUESTS = read_requests(*read("refund_requests.jsonl"))
ORDERS = {order.order_id: order for order in read_orders(*read("orders.jsonl"))}
CUSTOMERS = {c.customer_id: c for c in read_customers(*read("customers.jsonl"))}

ON_ORDER: dict[str, list[RefundRequest]] = defaultdict(list)
for _request in REQUESTS:
    ON_ORDER[_request.order_id].append(_request)


def paid_minor(order: ShopOrder, kind: str) -> int:
    return sum(payment.amount_minor for payment in order.payments if payment.type == kind)


def as_order(order: ShopOrder, customer: ShopCustomer) -> Order:
    charge = Charge(
        charge_id=f"ch_{order.order_id}",
        payment_method_id=order.payments[0].payment_method_id,
        currency=order.currency,
        captured_minor=paid_minor(order, "payment"),
        left_minor=paid_minor(order, "payment") - paid_minor(order, "refund"),
    )
    return Order(
        order_id=order.order_id,
        customer_id=order.customer_id,
        status=order.status,
        currency=order.currency,
        items=tuple(
            Item(item_id=i.item_id, name=i.name, price_minor=i.price_minor) for i in order.items
        ),
        charges=(charge,),
        payment_methods={method.id: method.source for method in customer.payment_methods},
    )


def as_case(request: RefundRequest) -> Case:
    """The case when every request was submitted and none is decided."""
    order = ORDERS[request.order_id]
    rivals = tuple(
        Rival(
            refund_id=other.refund_id,
            state=State.RECEIVED,
            item_ids=other.item_ids,
            amount_minor=other.amount_minor,
            holds_money=False,
        )
        for other in ON_ORDER[request.order_id]
        if other != request
    )
    customer = CUSTOMERS[order.customer_id]
    return Case(request=request, round=1, order=as_order(order, customer), rivals=rivals)


def as_risk(request: RefundRequest) -> RiskFeatures:
    """What the shop's own history says of the customer, before any refund of ours."""
    orders = [ORDERS[order_id] for order_id in CUSTOMERS[request.customer_id].orders]
    return RiskFeatures(
        orders_total=len(orders),
        orders_cancelled=sum(order.status == "cancelled" for order in orders),
        spent_minor=sum(paid_minor(order, "payment") for order in orders),
        refunded_minor=sum(paid_minor(order, "refund") for order in orders),
        other_refunds=0,
    )


ASSESSED: dict[str, Assessment] = {
    request.refund_id: policy.assess(as_case(request), as_risk(request), POLICY)
    for request in REQUESTS
}


def verdict(request: RefundRequest) -> Verdict:
    return ASSESSED[request.refund_id].verdict


def test_all_of_the_data_is_read() -> None:
    assert (len(REQUESTS), len(ORDERS), len(CUSTOMERS)) == (292, 1_000, 500)
    assert Counter(r.kind for r in REQUESTS) == {Kind.RETURN: 143, Kind.CANCEL: 149}


def test_the_verdicts_of_the_default_policy() -> None:
    assert Counter((request.kind, verdict(request)) for request in REQUESTS) == {
        (Kind.CANCEL, Verdict.APPROVE): 66,
        (Kind.CANCEL, Verdict.REVIEW): 83,
        (Kind.RETURN, Verdict.APPROVE): 81,
        (Kind.RETURN, Verdict.REVIEW): 62,
    }


def test_the_rules_that_speak_under_the_default_policy() -> None:
    spoke = Counter(
        rule for a in ASSESSED.values() for rule in {reason.rule for reason in a.reasons}
    )
    assert spoke == {"rules": 147, "limit": 120, "rival": 36}


def test_requests_that_together_exceed_their_charge_are_never_both_approved() -> None:
    pairs = [
        (one, other)
        for requests in ON_ORDER.values()
        for one, other in combinations(requests, 2)
        if one.amount_minor + other.amount_minor > paid_minor(ORDERS[one.order_id], "payment")
    ]
    assert pairs
    for pair in pairs:
        assert [verdict(request) for request in pair].count(Verdict.APPROVE) < 2


def test_what_is_approved_on_one_order_never_exceeds_what_was_paid() -> None:
    for order_id, requests in ON_ORDER.items():
        approved = [r.amount_minor for r in requests if verdict(r) is Verdict.APPROVE]
        assert sum(approved) <= paid_minor(ORDERS[order_id], "payment")


def test_requests_for_the_same_item_are_never_both_approved() -> None:
    for order_id, requests in ON_ORDER.items():
        approved = [r for r in requests if verdict(r) is Verdict.APPROVE]
        wanted = Counter(item_id for r in approved for item_id in r.item_ids)
        assert wanted <= Counter(item.item_id for item in ORDERS[order_id].items)


def test_only_the_shops_own_statuses_are_approved() -> None:
    needed = {Kind.CANCEL: "pending", Kind.RETURN: "delivered"}
    for request in REQUESTS:
        if verdict(request) is not Verdict.REJECT:
            assert ORDERS[request.order_id].status == needed[request.kind]


def test_nothing_above_the_limit_is_approved_and_money_stays_with_the_customer() -> None:
    for request in REQUESTS:
        if verdict(request) is not Verdict.REJECT:
            methods = {m.id: m.source for m in CUSTOMERS[request.customer_id].payment_methods}
            paid_with = ORDERS[request.order_id].payments[0].payment_method_id
            assert request.refund_to == paid_with or methods[request.refund_to] == "gift_card"
        if verdict(request) is Verdict.APPROVE:
            assert request.amount_minor <= 100_000


@pytest.mark.parametrize("status", ["processed", "cancelled"])
def test_a_processed_or_cancelled_order_is_never_refunded_automatically(status: str) -> None:
    orders = [order for order in ORDERS.values() if order.status == status]
    assert len(orders) > 100
    for order in orders:
        request = RefundRequest(
            refund_id="rf_new",
            kind=Kind.RETURN,
            order_id=order.order_id,
            customer_id=order.customer_id,
            item_ids=(order.items[0].item_id,),
            amount_minor=order.items[0].price_minor,
            currency=order.currency,
            refund_to=order.payments[0].payment_method_id,
            reason="broken",
        )
        for kind in Kind:
            case = as_case(request.model_copy(update={"kind": kind}))
            assert policy.assess(case, as_risk(request), POLICY).verdict is Verdict.REJECT
