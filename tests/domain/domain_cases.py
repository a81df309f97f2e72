"""Values the domain's tests are built from: one plain case, and strategies around it."""

from typing import Any

from hypothesis import strategies as st

from refunds.models import (
    Advice,
    Case,
    Charge,
    Item,
    Kind,
    NoOpinion,
    Opinion,
    Order,
    Recommendation,
    RefundRequest,
    RiskFeatures,
    Rival,
    State,
)
from refunds.policy_file import DEFAULT_POLICY_FILE, Policy, parse

POLICY: Policy = parse(DEFAULT_POLICY_FILE.read_text(encoding="utf-8"))
CALM = RiskFeatures(
    orders_total=3, orders_cancelled=0, spent_minor=20_000, refunded_minor=0, other_refunds=0
)
LAMP = Item(item_id="lamp", name="Lamp", price_minor=3_000)
DESK = Item(item_id="desk", name="Desk", price_minor=7_000)
CARD = Charge(
    charge_id="ch_1",
    payment_method_id="card_1",
    currency="USD",
    captured_minor=10_000,
    left_minor=10_000,
)
# All fields of a request that the rules approve, as JSON has them.
FIELDS: dict[str, Any] = {
    "refund_id": "rf_1",
    "kind": "return",
    "order_id": "#W1",
    "customer_id": "ada",
    "item_ids": ["lamp"],
    "amount_minor": 3_000,
    "currency": "USD",
    "refund_to": "card_1",
    "reason": "broken",
    "message": "It flickers.",
}


def request(**changed: Any) -> RefundRequest:
    """A return of the lamp, with some fields changed."""
    return RefundRequest.model_validate(FIELDS | changed)


def order(**changed: Any) -> Order:
    """Ada's delivered order of a lamp and a desk, paid by card; she also has a gift card."""
    fields = {
        "order_id": "#W1",
        "customer_id": "ada",
        "status": "delivered",
        "currency": "USD",
        "items": (LAMP, DESK),
        "charges": (CARD,),
        "payment_methods": {"card_1": "credit_card", "gift_1": "gift_card", "card_2": "paypal"},
    }
    return Order.model_validate(fields | changed)


def rival(**changed: Any) -> Rival:
    """An undecided request for the desk."""
    fields = {
        "refund_id": "rf_2",
        "state": State.AWAITING_APPROVAL,
        "item_ids": ("desk",),
        "amount_minor": 7_000,
        "holds_money": False,
    }
    return Rival.model_validate(fields | changed)


def case(the_order: Order | None = None, *rivals: Rival, **changed: Any) -> Case:
    """A case on Ada's order; keyword arguments change the request."""
    return Case(
        request=request(**changed), round=1, order=the_order or order(), rivals=tuple(rivals)
    )


def cancelled_whole(**changed: Any) -> Case:
    """A cancellation of a whole pending order, which the rules approve."""
    whole = {
        "kind": "cancel",
        "item_ids": ["lamp", "desk"],
        "amount_minor": 10_000,
        "reason": "no longer needed",
    }
    return case(order(status="pending"), **(whole | changed))


def opinion(recommendation: Recommendation, **changed: Any) -> Opinion:
    """A model's opinion of one word, of which it is sure."""
    fields = {
        "recommendation": recommendation,
        "confidence_percent": 90,
        "reasons": ("Odd.",),
        "model": "m",
        "prompt_version": "1",
    }
    return Opinion.model_validate(fields | changed)


def policy(old: str = "", new: str = "") -> Policy:
    """The default policy with one piece of its text replaced."""
    text = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
    assert old in text
    return parse(text.replace(old, new, 1) if old else text)


ITEM_IDS = st.lists(st.sampled_from(["lamp", "desk", "sofa"]), min_size=1, max_size=3)
# Few values, close to the limits and to each other, so that borders are met often.
AMOUNTS = st.sampled_from([1, 2_999, 3_000, 7_000, 10_000, 10_001, 100_000, 100_001])
CURRENCIES = st.sampled_from(["USD", "JPY"])
_CHARGES = st.lists(
    st.builds(
        Charge,
        charge_id=st.sampled_from(["ch_1", "ch_2"]),
        payment_method_id=st.sampled_from(["card_1", "card_3"]),
        currency=CURRENCIES,
        captured_minor=st.just(200_000),
        left_minor=st.just(0) | AMOUNTS,
    ),
    max_size=2,
    unique_by=lambda charge: charge.charge_id,
)
_RIVALS = st.builds(
    Rival,
    refund_id=st.sampled_from(["rf_2", "rf_3"]),
    state=st.sampled_from(State),
    item_ids=ITEM_IDS.map(tuple),
    amount_minor=AMOUNTS,
    holds_money=st.booleans(),
)
# What may differ from a sound case, in the order and in the request.
_ORDER_CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "customer_id": st.just("bob"),
    "status": st.sampled_from(["delivered", "pending", "processed"]),
    "currency": CURRENCIES,
    "charges": _CHARGES.map(tuple),
    "items": st.sampled_from([(LAMP,), (LAMP, LAMP, DESK)]),
}
_REQUEST_CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from(Kind),
    "item_ids": ITEM_IDS,
    "amount_minor": AMOUNTS,
    "currency": CURRENCIES,
    "refund_to": st.sampled_from(["card_3", "gift_1", "card_2", "gift_9"]),
    "reason": st.sampled_from(["no longer needed", "broken"]),
    "goodwill_minor": st.sampled_from([2_500, 2_501]),
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A sound case with up to three things changed, so that each verdict is reached often."""
    sound = draw(st.sampled_from([case(), cancelled_whole()]))
    assert sound.order is not None
    names = draw(st.lists(st.sampled_from([*_ORDER_CHANGES, *_REQUEST_CHANGES]), max_size=3))
    on_order = {name: draw(_ORDER_CHANGES[name]) for name in names if name in _ORDER_CHANGES}
    on_request = {name: draw(_REQUEST_CHANGES[name]) for name in names if name in _REQUEST_CHANGES}
    return Case(
        request=RefundRequest.model_validate(sound.request.plain() | on_request),
        round=1,
        order=sound.order.model_copy(update=on_order),
        rivals=draw(st.just(()) | st.lists(_RIVALS, max_size=2).map(tuple)),
    )


RISKS = st.none() | st.builds(
    RiskFeatures,
    orders_total=st.integers(1, 8),
    orders_cancelled=st.integers(0, 8),
    spent_minor=st.just(0),
    refunded_minor=st.just(0),
    other_refunds=st.integers(0, 5),
)
_OPINIONS = st.builds(
    opinion,
    st.sampled_from(Recommendation),
    confidence_percent=st.integers(0, 100),
    signals=st.lists(st.sampled_from(["hidden_text", "urgency", "threatens"]), max_size=3).map(
        tuple
    ),
    reasons=st.lists(st.sampled_from(["Odd.", "Approve it at once."]), max_size=2).map(tuple),
)
NO_OPINION = NoOpinion(missing="it answered 503", model="m", prompt_version="1")
# What the rules may be told of the model: nothing, that it gave no opinion, or any opinion.
ADVICE: st.SearchStrategy[Advice] = st.none() | st.just(NO_OPINION) | _OPINIONS
