"""Every error, named by what happens next.

RefundError
├── BadInput                  correct what you sent; nothing was stored        (exit 2)
│   ├── UnknownRefund         no refund has this id
│   ├── UnknownPerson         nobody is registered under this name
│   └── ContentConflict       this id was submitted before with other content
├── Conflict                  the world moved on; look again, then act         (exit 1)
│   ├── NothingToDecide       nobody is being asked about this refund now
│   ├── DecisionConflict      it was decided otherwise, or you said otherwise
│   ├── DecisionLate          the deadline has passed
│   ├── DigestStale           what you saw is not what would be paid
│   ├── CannotGiveUp          it is not stuck, or money may have moved
│   ├── CannotReset           it would pay again, or say otherwise than was told
│   ├── CannotSettle          books say otherwise, or it can still end by itself
│   ├── ApproverRefused       this person may not decide this refund
│   ├── ChargeDisputed        the bank decides about this money first
│   └── LinkRefused           forged, expired, used, or somebody else's
├── LedgerRefusal             our own rules said no; nothing was sent
│   ├── ChargeExhausted       the charge or the items are already spoken for
│   ├── KeyReused             one key, two different requests: a bug, loudly
│   ├── StaleRunner           another run holds the lease now; stop
│   └── HistoryBroken         the hash chain does not verify
├── NeedsAttention            stop and hand it to a person
└── StepFailed                a call to another system
    ├── StepRefused           final: do not send it again
    │   └── PaymentDeclined   final: compensate and conclude
    ├── StepBlocked           it did nothing: mend the cause, then it is a new attempt
    └── StepRetryable         send again under the same key
        ├── SystemUnavailable it did nothing
        │   ├── GatewayUnavailable
        │   ├── SystemBusy    it was sent too much: come again at its word
        │   └── SystemAway    others found it away: wait, without sending
        └── StepUnknown       it may have acted: ask before sending again
            └── PaymentUnknown

Every error pickles: its arguments are its fields.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class RefundError(Exception):
    """Anything this project raises on purpose."""


class BadInput(RefundError):
    """What was sent cannot be taken; nothing was stored."""


class UnknownRefund(BadInput):
    """No refund has this id."""

    def __init__(self, refund_id: str) -> None:
        super().__init__(refund_id)
        self.refund_id = refund_id

    def __str__(self) -> str:
        return f"no refund has the id {self.refund_id!r}; `refunds list` shows all of them"


class UnknownPerson(BadInput):
    """Nobody is registered under this name."""

    def __init__(self, person_id: str) -> None:
        super().__init__(person_id)
        self.person_id = person_id

    def __str__(self) -> str:
        return f"nobody is registered as {self.person_id!r}; `refunds people list` shows everybody"


class ContentConflict(BadInput):
    """This refund id was submitted before with other content."""

    def __init__(self, refund_id: str, fields: tuple[str, ...]) -> None:
        super().__init__(refund_id, fields)
        self.refund_id = refund_id
        self.fields = fields

    def __str__(self) -> str:
        return (
            f"{self.refund_id} was already submitted with another {', '.join(self.fields)}; "
            "a different refund needs a different refund_id"
        )


class Conflict(RefundError):
    """The world moved on between looking and acting."""


class NothingToDecide(Conflict):
    """Nobody is being asked about this refund now."""


class DecisionConflict(Conflict):
    """The refund was decided otherwise."""


class DecisionLate(Conflict):
    """The deadline had passed when the decision arrived."""


class DigestStale(Conflict):
    """The decision was made on facts that are not the ones that would be paid.

    Fields: `message`, and `changes`: a mapping with `field`, `then` and `now` for each difference.
    """

    def __init__(self, message: str, changes: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message, changes)
        self.message = message
        self.changes = tuple(changes)

    def __str__(self) -> str:
        return self.message


class CannotGiveUp(Conflict):
    """The refund is not stuck, or its money has moved or may have."""


class CannotReset(Conflict):
    """Going back would pay again, contradict the gateway's books, or unsay what was told."""


class CannotSettle(Conflict):
    """Somebody's books tell how the payment ended, or will; or this person may not say it."""


class ApproverRefused(Conflict):
    """This person may not decide this refund."""


class ChargeDisputed(Conflict):
    """The customer asks the bank for the same money: nothing can be approved until that ends."""


class LinkRefused(Conflict):
    """A signed link that leads nowhere: forged, expired, used, or somebody else's."""


class LedgerRefusal(RefundError):
    """The ledger's own rules refused; nothing was sent."""


class ChargeExhausted(LedgerRefusal):
    """The charge has too little left, or an item is claimed by another refund."""


class KeyReused(LedgerRefusal):
    """The same key was used with another request digest."""


class StaleRunner(LedgerRefusal):
    """Another run holds the lease on this refund."""


class HistoryBroken(LedgerRefusal):
    """An event's digest does not follow from the one before it."""


class NeedsAttention(RefundError):
    """Nothing safe is left to do without a person."""


class StepFailed(RefundError):
    """A call to another system did not succeed.

    Fields: `system` (gateway, crm …), `detail` (what was seen, no secrets).
    """

    def __init__(self, system: str, detail: str) -> None:
        super().__init__(system, detail)
        self.system = system
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.system}: {self.detail}"


class StepRefused(StepFailed):
    """The system said no for good."""


class PaymentDeclined(StepRefused):
    """The gateway said no for good."""


class StepBlocked(StepFailed):
    """It did nothing and would answer so again: after somebody's help it is a new attempt."""


class StepRetryable(StepFailed):
    """Sending again under the same key is the right thing."""


class SystemUnavailable(StepRetryable):
    """The system certainly did nothing."""


class SystemBusy(SystemUnavailable):
    """It was sent too much; `retry_after_seconds` is when it wants to be asked again."""

    def __init__(self, system: str, detail: str, retry_after_seconds: float) -> None:
        super().__init__(system, detail)
        self.args = (system, detail, retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds


class SystemAway(SystemUnavailable):
    """Other refunds found it away; nothing was sent."""


class GatewayUnavailable(SystemUnavailable):
    """The gateway certainly paid nothing."""


class StepUnknown(StepRetryable):
    """The system may have acted: it has to be asked first."""


class PaymentUnknown(StepUnknown):
    """The gateway may have paid."""
