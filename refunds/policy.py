"""The policy: from facts to a verdict with reasons. Pure: no clock, no I/O, no Prefect.

Order of the rules: eligibility first (never up to a model or a person), then what sends a
refund to a person, then the model's opinion, which can only make the verdict stricter.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from refunds import money
from refunds.digests import digest
from refunds.models import (
    Advice,
    Assessment,
    Case,
    Kind,
    NoOpinion,
    Opinion,
    Order,
    Proposal,
    Reason,
    Recommendation,
    RefundRequest,
    RiskFeatures,
    Verdict,
)
from refunds.policy_file import ModelRule, Policy


def assess(
    case: Case, risk: RiskFeatures | None, policy: Policy, opinion: Advice = None
) -> Assessment:
    """The verdict on a case: the strictest that any rule reached, with every reason."""
    reasons = tuple(_ineligible(case, policy))
    if not reasons and case.order is not None:
        reasons = (
            *_for_a_person(case, case.order, policy),
            *_risky(risk, policy),
            *_advised(opinion, policy.model),
        )
    strictest = max((r.verdict for r in reasons), key=_STRICTNESS.index, default=Verdict.APPROVE)
    if strictest is Verdict.APPROVE:
        within = Reason(rule="rules", verdict=Verdict.APPROVE, text=_within(case, policy))
        reasons = (within, *reasons)
    return Assessment(
        verdict=strictest,
        reasons=reasons,
        policy_version=policy.full_version,
        opinion=opinion,
    )


_STRICTNESS = [Verdict.APPROVE, Verdict.REVIEW, Verdict.REJECT]


def _reject(rule: str, text: str) -> Reason:
    return Reason(rule=rule, verdict=Verdict.REJECT, text=text)


def _review(rule: str, text: str) -> Reason:
    return Reason(rule=rule, verdict=Verdict.REVIEW, text=text)


def _within(case: Case, policy: Policy) -> str:
    amount = money.show(case.request.amount_minor, case.request.currency)
    return f"{policy.rule_for(case.request.kind).why} {amount} is within what the rules approve."


def _ineligible(case: Case, policy: Policy) -> Iterator[Reason]:
    """What can never be paid, whoever says so."""
    request, order = case.request, case.order
    if order is None:
        yield _reject("order_unknown", f"The shop has no order {request.order_id}.")
        return
    if order.customer_id != request.customer_id:
        yield _reject("order_of_another", f"Order {order.order_id} belongs to somebody else.")
        return
    if order.status not in policy.rule_for(request.kind).order_status:
        yield _reject(
            "order_status",
            f"A {request.kind} needs an order that is "
            f"{' or '.join(policy.rule_for(request.kind).order_status)}; "
            f"this one is {order.status}.",
        )
    if order.currency != request.currency:
        yield _reject(
            "currency", f"The order is in {order.currency}, the request in {request.currency}."
        )
    ordered = Counter(item.item_id for item in order.items)
    for item_id, units in Counter(request.item_ids).items():
        if units > ordered[item_id]:
            yield _reject("item_not_on_order", f"Item {item_id} is not on the order {units}×.")
    yield from _destination(case, order)
    yield from _already_refunded(case, order)


def _destination(case: Case, order: Order) -> Iterator[Reason]:
    """Money goes back to the method that paid, or to one of the customer's own gift cards."""
    to = case.request.refund_to
    paid_with = {charge.payment_method_id for charge in order.charges}
    if to not in paid_with and order.payment_methods.get(to) != "gift_card":
        yield _reject(
            "destination", f"{to} neither paid for this order nor is the customer's own gift card."
        )


def _already_refunded(case: Case, order: Order) -> Iterator[Reason]:
    request, charge = case.request, case.charge
    if charge is None:
        yield _reject("nothing_paid", "Nothing was paid for this order.")
        return
    if charge.currency != request.currency:
        yield _reject(
            "currency",
            f"The charge is in {charge.currency}, the request in {request.currency}.",
        )
    elif request.amount_minor > charge.left_minor:
        left = money.show(charge.left_minor, charge.currency)
        yield _reject("more_than_left", f"Only {left} is left on charge {charge.charge_id}.")
    ordered = Counter(item.item_id for item in order.items)
    free = ordered.copy()
    for rival in case.rivals:
        if rival.holds_money:
            free.subtract(rival.item_ids)
    for item_id, units in Counter(request.item_ids).items():
        if free[item_id] < units <= ordered[item_id]:
            holders = (r for r in case.rivals if r.holds_money and item_id in r.item_ids)
            others = ", ".join(rival.refund_id for rival in holders)
            yield _reject("item_refunded", f"Item {item_id} is already refunded by {others}.")


def _for_a_person(case: Case, order: Order, policy: Policy) -> Iterator[Reason]:
    """What the rules do not cover."""
    request = case.request
    rule = policy.rule_for(request.kind)
    if rule.reasons and request.reason not in rule.reasons:
        yield _review("reason", f"The rules do not cover the reason {request.reason!r}.")
    prices: dict[str, int] = {item.item_id: item.price_minor for item in order.items}
    worth = sum(prices[item_id] for item_id in request.item_ids)
    if request.amount_minor != worth:
        yield _review(
            "amount",
            f"The items cost {money.show(worth, order.currency)}, "
            f"asked is {money.show(request.amount_minor, request.currency)}.",
        )
    if request.kind is Kind.CANCEL and len(request.item_ids) != len(order.items):
        yield _review("part_of_order", "A pending order is cancelled in full; this is a part.")
    if case.charge is not None and case.charge.is_disputed:
        yield _review("disputed", _DISPUTED)
    if case.proposal is not None:
        yield _review("proposal", _proposed(case.proposal, request.currency))
    yield from _competing(case, request)
    yield from _above_limits(request, policy)


_DISPUTED = "The customer asks the bank for this money: nothing is paid while that is open."


def _proposed(proposal: Proposal, currency: str) -> str:
    return (
        f"{proposal.proposed_by} proposed {money.show(proposal.amount_minor, currency)} in place "
        f"of the {money.show(proposal.asked_minor, currency)} that was asked."
    )


def _competing(case: Case, request: RefundRequest) -> Iterator[Reason]:
    """Undecided requests on the same order that cannot all be paid are for a person to sort out."""
    undecided = [rival for rival in case.rivals if not rival.holds_money]
    wanted = request.amount_minor + sum(rival.amount_minor for rival in undecided)
    too_much = case.charge is not None and wanted > case.charge.left_minor
    for rival in undecided:
        if too_much or set(rival.item_ids) & set(request.item_ids):
            yield _review(
                "rival", f"{rival.refund_id} ({rival.state}) asks for the same items or money."
            )


def _above_limits(request: RefundRequest, policy: Policy) -> Iterator[Reason]:
    currency = request.currency
    limit = policy.approve_without_a_person.of(currency)
    if limit is None:
        yield _review("limit", f"The policy sets no limit for {currency}.")
    elif request.amount_minor > limit:
        yield _review(
            "limit",
            f"{money.show(request.amount_minor, currency)} is above "
            f"{money.show(limit, currency)}, up to which the rules decide.",
        )
    goodwill = policy.goodwill.of(currency) or 0
    if request.goodwill_minor > goodwill:
        yield _review(
            "goodwill",
            f"A goodwill coupon of {money.show(request.goodwill_minor, currency)} is above "
            f"{money.show(goodwill, currency)}.",
        )


def _risky(risk: RiskFeatures | None, policy: Policy) -> Iterator[Reason]:
    if risk is None:
        yield _review("risk_unknown", "The customer's history could not be read.")
        return
    rule = policy.risk
    if risk.other_refunds >= rule.other_refunds:
        yield _review("many_refunds", f"The customer has {risk.other_refunds} other refunds.")
    cancelled_too_often = risk.orders_cancelled * 100 > rule.cancelled_percent * risk.orders_total
    if risk.orders_cancelled >= rule.cancelled_orders and cancelled_too_often:
        yield _review(
            "many_cancelled",
            f"{risk.orders_cancelled} of {risk.orders_total} orders were cancelled.",
        )


def _advised(opinion: Advice, rule: ModelRule | None) -> Iterator[Reason]:
    """The model's part: an unreserved `approve` changes nothing, all else asks a person."""
    if opinion is None:
        return
    if isinstance(opinion, NoOpinion):
        yield _review("model", f"The model was asked and gave no opinion: {opinion.missing}.")
        return
    said = f"The model says {opinion.recommendation}, {opinion.confidence_percent} % sure"
    why = " ".join(opinion.reasons) or "no reason given"
    verdict = Verdict.REVIEW if _has_reservations(opinion, rule) else Verdict.APPROVE
    yield Reason(rule="model", verdict=verdict, text=f"{said}: {why}{_signals(opinion)}")


def _has_reservations(opinion: Opinion, rule: ModelRule | None) -> bool:
    if opinion.recommendation is not Recommendation.APPROVE:
        return True
    if rule is None:
        return False
    is_unsure = opinion.confidence_percent < rule.approve_confidence_percent
    return is_unsure or bool(set(opinion.signals) & set(rule.signals_for_a_person))


def _signals(opinion: Opinion) -> str:
    return f" It noticed: {', '.join(opinion.signals)}." if opinion.signals else ""


def is_for_the_model(verdict: Verdict, policy: Policy) -> bool:
    """Whether the policy wants a second look at this verdict of the rules; never at a REJECT."""
    return policy.model is not None and verdict in policy.model.asked_about


def bound_facts(case: Case, opinion: Advice, policy_version: str) -> dict[str, Any]:
    """What an approval binds to; a change of any of it needs a new approval.

    Source: rule 5 of the ledger. Of the charge its identity is bound, not what is left on it:
    the reservation checks that in the moment it matters.
    """
    request, order, charge = case.request, case.order, case.charge
    wanted = [item for item in (order.items if order else ()) if item.item_id in request.item_ids]
    added = {"evidence": list(case.evidence)} if case.evidence else {}
    return {
        **request.plain(),
        **added,
        "charge_id": charge.charge_id if charge else None,
        "is_disputed": charge.is_disputed if charge else False,
        "order_status": order.status if order else None,
        "items": [item.plain() for item in wanted],
        "after_sales": [record.plain() for record in case.after_sales],
        "opinion": opinion.plain() if opinion else None,
        "policy_version": policy_version,
        **({"proposal": case.proposal.plain()} if case.proposal else {}),
    }


def binding_digest(facts: dict[str, Any]) -> str:
    """The digest an approval carries: SHA-256 of `bound_facts`, in hex."""
    return digest(facts)
