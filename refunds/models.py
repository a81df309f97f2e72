"""The values everything else speaks in. Frozen, strict, JSON in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from refunds.approver_rules import ApproverRules
from refunds.digests import digest
from refunds.values import (
    AmountMinor,
    Currency,
    Line,
    Message,
    Name,
    NameOrNone,
    Percent,
    RefundId,
    Sentence,
    Signal,
    Value,
    ZeroOrMoreMinor,
)


class Kind(StrEnum):
    """What the customer wants undone."""

    CANCEL = "cancel"
    RETURN = "return"


class Verdict(StrEnum):
    """What rules and model say before any person."""

    APPROVE = "APPROVE"
    REJECT = "REJECT"
    REVIEW = "REVIEW"


class Decision(StrEnum):
    """What a person decided, or the clock. Expired is not rejected."""

    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class Outcome(StrEnum):
    """How a refund ended: a value, not an exception."""

    PAID = "PAID"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


class State(StrEnum):
    """Where a refund stands."""

    RECEIVED = "received"
    ASSESSING = "assessing"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    PAYING = "paying"
    SETTLING = "settling"
    SYNCING = "syncing"
    COMPLETED = "completed"
    NEEDS_ATTENTION = "needs_attention"


class RefundRequest(Value):
    """What is asked: order, items, amount, who asked, why.

    `amount_minor` is in minor units of `currency` (JPY has 0 digits, USD 2, KWD 3).
    `item_ids` names each unit; an item bought twice may stand there twice.
    `requested_by` is who entered the request; left empty, it is the customer.
    `message` is the customer's own text: data, never instructions.
    """

    refund_id: RefundId
    kind: Kind
    order_id: Name
    customer_id: Name
    item_ids: Annotated[tuple[Name, ...], Field(min_length=1, max_length=200)]
    amount_minor: AmountMinor
    currency: Currency
    refund_to: Name
    reason: Line
    message: Message = ""
    requested_by: NameOrNone = ""
    goodwill_minor: ZeroOrMoreMinor = 0

    @property
    def requester(self) -> str:
        """Who may not approve this request."""
        return self.requested_by or self.customer_id

    def digest(self) -> str:
        """SHA-256 over every field that was given; a default added later changes nothing."""
        return digest(self.model_dump(mode="json", exclude_defaults=True))


class Item(Value):
    """One unit on an order."""

    item_id: str
    name: str
    price_minor: ZeroOrMoreMinor


class Charge(Value):
    """The captured payment being refunded.

    `left_minor` is what the ledger would still let go: captured − reserved − refunded. While it
    `is_disputed` the bank decides about the money, and nothing is paid.
    """

    charge_id: str
    payment_method_id: str
    currency: Currency
    captured_minor: ZeroOrMoreMinor
    left_minor: ZeroOrMoreMinor
    is_disputed: bool = False


class Order(Value):
    """An order as the shop knows it."""

    order_id: str
    customer_id: str
    status: str
    currency: Currency
    items: tuple[Item, ...]
    charges: tuple[Charge, ...]
    # Ways to pay that belong to the customer, by id, with their kind (credit_card, gift_card …).
    payment_methods: dict[str, str]


class AfterSale(Value):
    """An earlier after-sale record of the same order."""

    record_id: str
    kind: str
    status: str
    amount_minor: ZeroOrMoreMinor
    note: str


class Rival(Value):
    """Another refund request on the same order, and how far it has got."""

    refund_id: str
    state: State
    item_ids: tuple[str, ...]
    amount_minor: AmountMinor
    # Whether its money is already reserved or paid; an undecided rival only competes.
    holds_money: bool


class RiskFeatures(Value):
    """What the customer's own history says; amounts in the order's currency, minor units."""

    orders_total: int
    orders_cancelled: int
    spent_minor: ZeroOrMoreMinor
    refunded_minor: ZeroOrMoreMinor
    # Other refund requests of this customer that are paid or under way with us.
    other_refunds: int


class Proposal(Value):
    """A smaller amount that an approver proposed, in force in place of what was asked."""

    asked_minor: AmountMinor
    amount_minor: AmountMinor
    proposed_by: str


class Case(Value):
    """Everything the rules look at: plain facts, loaded once per round.

    `round` counts fresh looks at the world: 1 at first, one more whenever what was approved
    turned out to have changed. With a `proposal` the request's amount is the smaller one.
    """

    request: RefundRequest
    round: int
    order: Order | None
    proposal: Proposal | None = None
    after_sales: tuple[AfterSale, ...] = ()
    evidence: tuple[str, ...] = ()  # what people added while it waited
    rivals: tuple[Rival, ...] = ()

    @property
    def refund_id(self) -> str:
        """The refund this case is about."""
        return self.request.refund_id

    @property
    def asked_minor(self) -> int:
        """The amount that was asked at first, in minor units."""
        return self.proposal.asked_minor if self.proposal else self.request.amount_minor

    @property
    def charge(self) -> Charge | None:
        """The charge to refund: the one paid by the destination, else the largest left."""
        if self.order is None or not self.order.charges:
            return None
        return max(
            self.order.charges,
            key=lambda c: (c.payment_method_id == self.request.refund_to, c.left_minor),
        )


class Recommendation(StrEnum):
    """What a model may say."""

    APPROVE = "approve"
    REJECT = "reject"
    REVIEW = "review"


# A million million tokens or micro-units: above any call, far below 64 bits.
_Count = Annotated[int, Field(strict=True, ge=0, le=10**12)]


class Usage(Value):
    """What one question to a model took: tokens in and out, and millionths of `currency`."""

    input_count: _Count
    output_count: _Count
    cost_micro: _Count
    currency: Currency


class Opinion(Value):
    """A model's structured opinion; it can tighten a verdict, never loosen it.

    `signals` are what the model noticed, such as `claims_non_delivery`. `prompt_version` names
    the prompt and its digest, `asked_digest` is that of the text that was shown. `usage` is None
    where the model's server does not count.
    """

    recommendation: Recommendation
    confidence_percent: Percent
    reasons: tuple[Sentence, ...] = ()
    signals: tuple[Signal, ...] = ()
    model: Name
    prompt_version: Name
    asked_digest: str = ""
    usage: Usage | None = None


class NoOpinion(Value):
    """A model was asked and gave no opinion: why, and what the attempt took."""

    missing: Sentence
    model: Name
    prompt_version: Name
    asked_digest: str = ""
    usage: Usage | None = None


# What the rules are told of the model: None when nobody asked it.
Advice = Opinion | NoOpinion | None


class Reason(Value):
    """Why a verdict is what it is: the rule that spoke, and its sentence."""

    rule: str
    verdict: Verdict
    text: str


class Assessment(Value):
    """The verdict before any person, with every reason, under one policy version."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    policy_version: str
    opinion: Advice = None


class Level(Value):
    """One level of the escalation chain in one question: who is asked, and until when.

    `block` names the Prefect notification block its card goes through; empty is the inbox.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
    audience: Name
    until: datetime
    block: str = ""

    def __str__(self) -> str:
        """Its name, as keys and waits have it."""
        return self.name


class ApprovalRequest(Value):
    """The exact thing a person is asked to approve.

    `digest` binds amount, currency, charge, destination, items, evidence and policy version.
    Each of the `levels` is asked in turn, the earlier ones stay asked: `escalate_at` is when the
    second one is, `deadline` when the question expires.
    """

    approval_id: str
    refund_id: RefundId
    round: int
    digest: str
    facts: dict[str, Any]
    people_needed: int
    verified_needed: bool
    escalate_at: datetime
    deadline: datetime
    levels: tuple[Level, ...] = ()
    reasons: tuple[Reason, ...] = ()
    rules: ApproverRules = ApproverRules()


class PaymentStatus(StrEnum):
    """What the gateway says of one refund."""

    SUCCEEDED = "succeeded"
    PENDING = "pending"
    FAILED = "failed"


class Payment(Value):
    """One refund at the gateway; `reference` is the gateway's own id."""

    status: PaymentStatus
    reference: str
    amount_minor: AmountMinor
    currency: Currency
    detail: str = ""

    @model_validator(mode="after")
    def _failure_says_why(self) -> Self:
        if self.status is PaymentStatus.FAILED and not self.detail:
            raise ValueError("a failed payment carries the gateway's reason in `detail`")
        return self


class Receipt(Value):
    """That one step was done: its key and the other system's own id for it."""

    key: str
    reference: str


class Seat(Value):
    """What a run found when it asked for its refund.

    `is_mine` says whether this run carries it on; if not, `outcome` says how the refund ended,
    or `held_by` which run has it. `given_up` says who gave the refund up and why, if anybody did.
    """

    is_mine: bool
    given_up: str | None = None
    outcome: Outcome | None = None
    held_by: str | None = None
    flow_version: int = 1  # of its submission: a refund's course does not change under it


class Answer(Value):
    """What the ledger says of a question put to a person.

    `decision` is None while nobody decided; then `begun` is how often the run has begun to
    wait, or 0 when this level's time is over. `is_stale` means that the facts changed and the
    question has to be put anew. `refusals` are answers that were given and could not be taken.
    `timeline` is the address of the page that shows what happened so far.
    """

    decision: Decision | None
    is_stale: bool = False
    begun: int = 0
    refusals: tuple[str, ...] = ()
    timeline: str = ""


class Standstill(Value):
    """How a run waits for a callback or a clock: `begun` is 0 when there is nothing to wait for."""

    name: str
    begun: int
