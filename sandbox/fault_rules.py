"""The kinds of fault, each with its own fields, as `PUT /faults` takes them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from sandbox.records import Id, Line, Record

# A month: the longest a test could want a bank to take.
Days = Annotated[float, Field(ge=0, le=2_678_400)]
# An hour: longer than any client waits for an answer.
Seconds = Annotated[float, Field(ge=0, le=3_600)]
ErrorStatus = Annotated[int, Field(ge=400, le=599)]
FailureReason = Literal[
    "charge_for_pending_refund_disputed",
    "declined",
    "expired_or_canceled_card",
    "insufficient_funds",
    "lost_or_stolen_card",
    "merchant_request",
    "unknown",
]

# When a fault is taken: on arrival, at the act itself, or when a webhook is written.
Phase = Literal["arrival", "act", "webhook"]


class Match(Record):
    """Which requests a rule is about; everything when empty."""

    refund_id: Id | None = None
    event_type: Line | None = None


class Rule(Record):
    """What all rules share."""

    phase: ClassVar[Phase] = "arrival"
    acts: ClassVar[bool] = True

    endpoint: Line
    times: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    probability: Annotated[float, Field(ge=0, le=1)] = 1
    match: Match = Match()


class ErrorBefore(Rule):
    """Answer an error and do not act."""

    acts: ClassVar[bool] = False
    kind: Literal["error_before"]
    status: ErrorStatus = 500


class ErrorAfter(Rule):
    """Act, remember the true answer under the key, and answer an error this once."""

    kind: Literal["error_after"]
    status: ErrorStatus = 500


class StoredError(Rule):
    """Do not act, and replay the error for as long as the key is remembered."""

    phase: ClassVar[Phase] = "act"
    kind: Literal["stored_error"]
    status: ErrorStatus = 500


class TimeoutAfter(Rule):
    """Act, then hold the connection without an answer, and close it."""

    kind: Literal["timeout_after"]
    # Longer than the 30 s that HTTP clients commonly wait.
    seconds: Seconds = 60


class ResetAfter(Rule):
    """Act, then close the connection in the middle of the answer."""

    kind: Literal["reset_after"]


class ResetBefore(Rule):
    """Reset the connection and do not act."""

    acts: ClassVar[bool] = False
    kind: Literal["reset_before"]


class Slow(Rule):
    """Wait, then act and answer as usual."""

    acts: ClassVar[bool] = False
    kind: Literal["slow"]
    seconds: Seconds


class RateLimited(Rule):
    """Answer 429 with Retry-After and do not act."""

    acts: ClassVar[bool] = False
    kind: Literal["rate_limited"]
    retry_after_seconds: Annotated[int, Field(ge=0, le=3_600)] = 1


class Malformed(Rule):
    """Act, then answer 200 with JSON that is cut off."""

    kind: Literal["malformed"]


class Unauthorized(Rule):
    """Answer 401 and do not act."""

    acts: ClassVar[bool] = False
    kind: Literal["unauthorized"]


class Decline(Rule):
    """Refuse a refund for good."""

    phase: ClassVar[Phase] = "act"
    kind: Literal["decline"]
    status: Literal[400, 402] = 400
    code: Line = "card_declined"
    message: Line = "The refund was declined."


class Pending(Rule):
    """Accept a refund that the bank settles later, or when a test says so."""

    phase: ClassVar[Phase] = "act"
    kind: Literal["pending"]
    start_as: Literal["pending", "requires_action"] = "pending"
    settle_after_seconds: Days | None = None
    settle_as: Literal["succeeded", "failed", "canceled"] = "succeeded"
    failure_reason: FailureReason = "unknown"


class FailLater(Rule):
    """Let a refund succeed, and fail it afterwards as banks do."""

    phase: ClassVar[Phase] = "act"
    kind: Literal["fail_later"]
    seconds: Days
    failure_reason: FailureReason = "unknown"


class WebhookDrop(Rule):
    """Never send the webhook."""

    phase: ClassVar[Phase] = "webhook"
    kind: Literal["webhook_drop"]


class WebhookDuplicate(Rule):
    """Send the webhook twice."""

    phase: ClassVar[Phase] = "webhook"
    kind: Literal["webhook_duplicate"]


class WebhookReorder(Rule):
    """Hold the webhook back so that later ones overtake it."""

    phase: ClassVar[Phase] = "webhook"
    kind: Literal["webhook_reorder"]
    # Long enough for the events of the same act to go first.
    seconds: Seconds = 1


GATEWAY_KINDS = (Decline, Pending, FailLater)

AnyRule = Annotated[
    ErrorBefore
    | ErrorAfter
    | StoredError
    | TimeoutAfter
    | ResetAfter
    | ResetBefore
    | Slow
    | RateLimited
    | Malformed
    | Unauthorized
    | Decline
    | Pending
    | FailLater
    | WebhookDrop
    | WebhookDuplicate
    | WebhookReorder,
    Field(discriminator="kind"),
]
RULE: TypeAdapter[AnyRule] = TypeAdapter(AnyRule)


class RuleSet(Record):
    """The body of `PUT /faults`; the seed decides every draw of a probability."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    # More rules than this slow every request down.
    rules: Annotated[list[AnyRule], Field(max_length=1_000)]
