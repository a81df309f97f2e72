"""The rules, one sentence each."""

from typing import Any

import pytest

from refunds import policy
from refunds.models import AfterSale, Assessment, Case, Charge, Item, Recommendation, Verdict
from tests.domain import domain_cases as a
from tests.domain.domain_cases import CALM, CARD, DESK, LAMP, POLICY, case, order, rival

APPROVE, REJECT, REVIEW = Verdict.APPROVE, Verdict.REJECT, Verdict.REVIEW


def assess(the_case: Case, **risk: int) -> Assessment:
    return policy.assess(the_case, CALM.model_copy(update=risk), POLICY)


def spoke(the_case: Case, **risk: int) -> tuple[Verdict, list[str]]:
    """The verdict and the rules that led to it."""
    assessment = assess(the_case, **risk)
    return assessment.verdict, [reason.rule for reason in assessment.reasons]


def text(the_case: Case) -> str:
    return " ".join(reason.text for reason in assess(the_case).reasons)


def test_a_delivered_item_is_returned_to_the_card_that_paid() -> None:
    assert spoke(case()) == (APPROVE, ["rules"])
    assert "$30.00" in text(case())


def test_a_pending_order_is_cancelled_in_full() -> None:
    assert spoke(a.cancelled_whole()) == (APPROVE, ["rules"])


def test_an_order_the_shop_does_not_know_is_rejected() -> None:
    unknown = Case(request=a.request(), round=1, order=None)
    assert spoke(unknown) == (REJECT, ["order_unknown"])


def test_somebody_elses_order_is_rejected() -> None:
    verdict, rules = spoke(case(order(customer_id="bob")))
    assert (verdict, "order_of_another" in rules) == (REJECT, True)


@pytest.mark.parametrize("status", ["pending", "processed", "cancelled", "lost"])
def test_a_return_needs_a_delivered_order(status: str) -> None:
    assert spoke(case(order(status=status))) == (REJECT, ["order_status"])


@pytest.mark.parametrize("status", ["delivered", "processed", "cancelled"])
def test_a_cancellation_needs_a_pending_order(status: str) -> None:
    pending = a.cancelled_whole()
    moved_on = pending.model_copy(update={"order": order(status=status)})
    assert spoke(moved_on) == (REJECT, ["order_status"])


def test_a_request_in_another_currency_than_the_order_is_rejected() -> None:
    verdict, rules = spoke(case(currency="EUR"))
    assert (verdict, "currency" in rules) == (REJECT, True)


def test_an_order_in_another_currency_than_its_charge_is_rejected() -> None:
    euros = CARD.model_copy(update={"currency": "EUR"})
    assert spoke(case(order(charges=(euros,)), currency="EUR")) == (REJECT, ["currency"])


def test_a_charge_in_another_currency_than_the_request_is_rejected() -> None:
    yen = CARD.model_copy(update={"currency": "JPY"})
    assert spoke(case(order(charges=(yen,)))) == (REJECT, ["currency"])


def test_an_item_that_is_not_on_the_order_is_rejected_for_that_alone() -> None:
    assert spoke(case(item_ids=["sofa"])) == (REJECT, ["item_not_on_order"])


def test_an_item_bought_once_is_not_refunded_twice_in_one_request() -> None:
    assert spoke(case(item_ids=["lamp", "lamp"])) == (REJECT, ["item_not_on_order"])


def test_an_item_bought_twice_may_be_refunded_twice_in_one_request() -> None:
    two_lamps = order(items=(LAMP, LAMP, DESK))
    assert spoke(case(two_lamps, item_ids=["lamp", "lamp"], amount_minor=6_000))[0] is APPROVE


def test_money_may_go_to_the_customers_own_gift_card() -> None:
    assert spoke(case(refund_to="gift_1"))[0] is APPROVE


@pytest.mark.parametrize("elsewhere", ["card_2", "gift_of_bob"])
def test_money_never_goes_to_another_card_or_somebody_elses_gift_card(elsewhere: str) -> None:
    assert spoke(case(refund_to=elsewhere)) == (REJECT, ["destination"])


def test_an_order_nobody_paid_for_is_not_refunded() -> None:
    verdict, rules = spoke(case(order(charges=())))
    assert (verdict, "nothing_paid" in rules) == (REJECT, True)


@pytest.mark.parametrize(("left", "verdict"), [(3_000, APPROVE), (2_999, REJECT), (0, REJECT)])
def test_more_than_is_left_on_the_charge_is_rejected(left: int, verdict: Verdict) -> None:
    spent = case(order(charges=(CARD.model_copy(update={"left_minor": left}),)))
    assert spoke(spent)[0] is verdict


def test_of_two_charges_the_one_paid_by_the_destination_is_refunded() -> None:
    other = Charge(
        charge_id="ch_2",
        payment_method_id="card_3",
        currency="USD",
        captured_minor=50_000,
        left_minor=50_000,
    )
    charge = case(order(charges=(other, CARD))).charge
    to_gift_card = case(order(charges=(CARD, other)), refund_to="gift_1").charge
    assert (charge, to_gift_card) == (CARD, other)


def test_an_item_that_a_paid_refund_covers_is_not_refunded_again() -> None:
    paid = rival(item_ids=["lamp"], amount_minor=3_000, holds_money=True)
    waiting = rival(refund_id="rf_3", item_ids=["lamp"])
    assert spoke(case(None, paid, waiting)) == (REJECT, ["item_refunded"])
    assert "rf_2" in text(case(None, paid, waiting))
    assert "rf_3" not in text(case(None, paid, waiting))


def test_of_an_item_bought_twice_the_second_may_follow_the_first() -> None:
    two_lamps = order(items=(LAMP, LAMP, DESK))
    first = rival(item_ids=["lamp"], amount_minor=3_000, holds_money=True)
    second = first.model_copy(update={"refund_id": "rf_3"})
    assert spoke(case(two_lamps, first))[0] is APPROVE
    assert spoke(case(two_lamps, first, second)) == (REJECT, ["item_refunded"])


def test_undecided_requests_for_the_same_item_go_to_a_person() -> None:
    assert spoke(case(None, rival(item_ids=["lamp"], amount_minor=1))) == (REVIEW, ["rival"])


def test_undecided_requests_that_together_exceed_the_charge_go_to_a_person() -> None:
    assert spoke(case(None, rival(amount_minor=7_000)))[0] is APPROVE
    assert spoke(case(None, rival(amount_minor=7_001))) == (REVIEW, ["rival"])


def test_a_reason_the_rules_do_not_cover_goes_to_a_person() -> None:
    assert spoke(a.cancelled_whole(reason="too slow")) == (REVIEW, ["reason"])


@pytest.mark.parametrize("amount", [2_999, 3_001])
def test_an_amount_other_than_the_items_prices_goes_to_a_person(amount: int) -> None:
    assert spoke(case(amount_minor=amount)) == (REVIEW, ["amount"])


def test_a_cancellation_of_a_part_goes_to_a_person() -> None:
    part = a.cancelled_whole(item_ids=["lamp"], amount_minor=3_000)
    assert spoke(part) == (REVIEW, ["part_of_order"])


@pytest.mark.parametrize(("price", "verdict"), [(100_000, APPROVE), (100_001, REVIEW)])
def test_an_amount_above_the_limit_goes_to_a_person(price: int, verdict: Verdict) -> None:
    rich = CARD.model_copy(update={"captured_minor": price, "left_minor": price})
    piano = Item(item_id="lamp", name="Piano", price_minor=price)
    assert spoke(case(order(items=(piano,), charges=(rich,)), amount_minor=price))[0] is verdict


def test_a_currency_without_a_limit_goes_to_a_person() -> None:
    francs = CARD.model_copy(update={"currency": "CHF"})
    swiss = case(order(currency="CHF", charges=(francs,)), currency="CHF")
    assert spoke(swiss) == (REVIEW, ["limit"])


@pytest.mark.parametrize(("coupon", "verdict"), [(2_500, APPROVE), (2_501, REVIEW)])
def test_a_goodwill_coupon_above_the_cap_goes_to_a_person(coupon: int, verdict: Verdict) -> None:
    assert spoke(case(goodwill_minor=coupon))[0] is verdict


@pytest.mark.parametrize(("others", "verdict"), [(3, APPROVE), (4, REVIEW)])
def test_a_customer_with_many_refunds_is_looked_at(others: int, verdict: Verdict) -> None:
    assert spoke(case(), other_refunds=others)[0] is verdict


@pytest.mark.parametrize(
    ("cancelled", "total", "verdict"), [(4, 7, REVIEW), (4, 8, APPROVE), (3, 3, APPROVE)]
)
def test_a_customer_who_cancelled_most_orders_is_looked_at(
    cancelled: int, total: int, verdict: Verdict
) -> None:
    assert spoke(case(), orders_cancelled=cancelled, orders_total=total)[0] is verdict


def test_a_customer_whose_history_cannot_be_read_is_looked_at() -> None:
    assert policy.assess(case(), None, POLICY).verdict is REVIEW


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (Recommendation.APPROVE, APPROVE),
        (Recommendation.REVIEW, REVIEW),
        (Recommendation.REJECT, REVIEW),
    ],
)
def test_a_models_doubt_asks_a_person_and_never_rejects(
    said: Recommendation, verdict: Verdict
) -> None:
    assessment = policy.assess(case(), CALM, POLICY, a.opinion(said))
    assert (assessment.verdict, assessment.opinion) == (verdict, a.opinion(said))


def test_a_models_part_is_named_as_the_models_with_what_it_noticed() -> None:
    said = a.opinion(Recommendation.APPROVE, signals=("urgency",))
    assessment = policy.assess(case(), CALM, POLICY, said)
    assert [(reason.rule, reason.verdict) for reason in assessment.reasons] == [
        ("rules", APPROVE),
        ("model", APPROVE),
    ]
    assert assessment.reasons[1].text == (
        "The model says approve, 90 % sure: Odd. It noticed: urgency."
    )


@pytest.mark.parametrize(
    "reservation",
    [{"confidence_percent": 69}, {"signals": ("urgency", "asks_to_ignore_rules")}],
    ids=["unsure", "a_signal_for_a_person"],
)
def test_an_approval_with_a_reservation_asks_a_person(reservation: dict[str, Any]) -> None:
    said = a.opinion(Recommendation.APPROVE, **reservation)
    assert policy.assess(case(), CALM, POLICY, said).verdict is REVIEW


def test_a_missing_opinion_sends_an_approval_to_a_person_and_says_why() -> None:
    assessment = policy.assess(case(), CALM, POLICY, a.NO_OPINION)
    assert assessment.verdict is REVIEW
    assert [reason.text for reason in assessment.reasons] == [
        "The model was asked and gave no opinion: it answered 503."
    ]


def test_the_policy_names_the_verdicts_that_a_model_is_asked_about() -> None:
    only_approvals = a.policy('asked_about = ["APPROVE", "REVIEW"]', 'asked_about = ["APPROVE"]')
    none = POLICY.model_copy(update={"model": None})
    assert policy.is_for_the_model(APPROVE, POLICY)
    assert policy.is_for_the_model(REVIEW, POLICY)
    assert not policy.is_for_the_model(REVIEW, only_approvals)
    assert not policy.is_for_the_model(REJECT, POLICY)
    assert not policy.is_for_the_model(APPROVE, none)


def test_every_reason_for_a_rejection_is_named() -> None:
    wrong = case(order(status="lost"), refund_to="card_2", amount_minor=10_001)
    assert spoke(wrong) == (REJECT, ["order_status", "destination", "more_than_left"])


def test_an_approval_binds_what_would_be_paid_and_why() -> None:
    doubt = a.opinion(Recommendation.REVIEW)
    note = AfterSale(record_id="as_1", kind="return", status="open", amount_minor=1, note="")
    base = case()
    bound = policy.binding_digest(policy.bound_facts(base, None, "1"))
    changed = [
        (case(amount_minor=2_999), None, "1"),
        (case(refund_to="gift_1"), None, "1"),
        (case(item_ids=["desk"]), None, "1"),
        (case(order(status="processed")), None, "1"),
        (case(order(charges=(CARD.model_copy(update={"charge_id": "ch_9"}),))), None, "1"),
        (case(order(items=(LAMP.model_copy(update={"price_minor": 1}), DESK))), None, "1"),
        (base.model_copy(update={"after_sales": (note,)}), None, "1"),
        (base, doubt, "1"),
        (base, None, "2"),
    ]
    digests = {policy.binding_digest(policy.bound_facts(*facts)) for facts in changed}
    assert len(digests | {bound}) == len(changed) + 1


def test_what_is_left_on_the_charge_is_not_bound() -> None:
    less = case(order(charges=(CARD.model_copy(update={"left_minor": 9_000}),)))
    assert policy.bound_facts(less, None, "1") == policy.bound_facts(case(), None, "1")
