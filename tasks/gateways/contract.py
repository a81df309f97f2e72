"""What any payment gateway is to us, so that another one is one more file beside this."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NotRequired, Protocol, TypedDict


class GatewayRefund(TypedDict):
    """One refund in a gateway's books, in our words.

    `status` is succeeded, pending or failed; `amount` is in our minor units of `currency`, an
    upper-case code. `charge` is what was refunded, by the name we asked under. `key` and
    `refund_id` are our own references, None on a refund that somebody made by hand.
    """

    id: str
    status: str
    amount: int
    currency: str
    charge: str
    key: str | None
    refund_id: str | None
    failure_reason: NotRequired[str]
    # What else the charge is called.
    other_names: NotRequired[tuple[str, ...]]
    # "history" on what was given back before we came.
    source: NotRequired[str]


@dataclass(frozen=True)
class PaymentOrder:
    """What is to be paid back; `key` is the effect's own key and goes along as our reference."""

    refund_id: str
    order_id: str
    charge_id: str
    amount_minor: int
    currency: str
    refund_to: str
    key: str

    def recorded(self) -> dict[str, str]:
        """The order as the ledger keeps it, and as its digest binds it."""
        return {
            "charge": self.charge_id,
            "amount": str(self.amount_minor),
            "reason": "requested_by_customer",
            "metadata[refund_id]": self.refund_id,
            "metadata[order_id]": self.order_id,
            "metadata[refund_to]": self.refund_to,
        }


@dataclass(frozen=True)
class GatewayEvent:
    """A gateway's event whose signature was checked: where to look, never what is true.

    Either one refund changed (`refund`, which says it is our `refund_id`), or something about a
    whole charge, by any of the names that it has (`charges`).
    """

    event_id: str
    kind: str
    refund: str | None = None
    refund_id: str | None = None
    charges: tuple[str, ...] = ()


class Gateway(Protocol):
    """A payment gateway. Amounts are converted exactly or refused, never rounded.

    Every call raises StepRefused (final), StepBlocked (nothing was done, and only a new attempt
    after somebody's help can end otherwise), SystemUnavailable (nothing was done) or StepUnknown
    (it may have been done).
    """

    # For how many hours a second send under one key is certain to act only once.
    keeps_keys_hours: int

    def check(self, order: PaymentOrder) -> None:
        """Raise NeedsAttention for an amount that this gateway cannot pay exactly."""
        ...

    async def pay(self, order: PaymentOrder, key: str) -> GatewayRefund:
        """Refund, under a key that the gateway acts on once."""
        ...

    async def find(self, charge_id: str, key: str) -> GatewayRefund | None:
        """The refund that carries our reference, whatever became of it."""
        ...

    async def look_up(self, reference: str) -> GatewayRefund:
        """One refund by the gateway's own id."""
        ...

    async def is_disputed(self, charge_id: str) -> bool:
        """Whether the customer has asked the bank for the charge's money, and it is not decided."""
        ...

    def listed(self, charge_id: str) -> AsyncIterator[GatewayRefund]:
        """Every refund of a charge, newest first, over all pages."""
        ...

    def all_listed(self) -> AsyncIterator[GatewayRefund] | None:
        """Every refund in the gateway's books, newest first; None where it has no such list."""
        ...

    async def event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> GatewayEvent:
        """The event in a webhook's body. Raises ValueError saying what is wrong with it."""
        ...


def json_object(answer: Any, of: str) -> dict[str, Any]:
    """The part of an answer that has to be a JSON object. Raises ValueError."""
    if not isinstance(answer, dict):
        raise ValueError(f"{of} is not an object")  # noqa: TRY004 - one error for a bad body
    return answer
