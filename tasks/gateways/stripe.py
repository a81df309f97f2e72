"""Stripe's refund API, as Stripe and the programs that imitate it speak it."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from refunds import money
from refunds.errors import NeedsAttention, StepBlocked, StepFailed, StepRefused, StepUnknown
from tasks import http, secrets
from tasks.answers import objects_in, reference_in, text_in
from tasks.gateways import stripe_events
from tasks.gateways.contract import GatewayEvent, GatewayRefund, PaymentOrder

# Stripe's word for a refund's state, in ours. What requires an action waits for the customer.
_STATES = {
    "succeeded": "succeeded",
    "pending": "pending",
    "requires_action": "pending",
    "failed": "failed",
    "canceled": "failed",
}

# Stripe's largest page.
_PAGE = 100

# Without it Stripe answers in the version that the account was made with, years ago perhaps.
_VERSION = "2024-06-20"

# A simulator that has no such page knows of no disputes; a charge that does not exist is refused
# when it is paid back.
_NO_SUCH_PAGE = (404, 405)

# How a dispute ends that leaves us the charge's money: in any other state the customer has it or
# may get it.
_WON = frozenset({"won", "warning_closed"})

# Refusals that say nothing of the refund itself: a dispute is open on the charge, or our own
# balance is too low. Stripe repeats its answer under the same key, so a new attempt needs another.
_BLOCKED = frozenset(
    {
        *("charge_disputed", "refund_disputed_payment"),
        *("balance_insufficient", "insufficient_funds"),
    }
)

# Where Stripe counts other digits than ISO 4217 does (stripe.com/docs/currencies): it wants
# krónur and Ugandan shillings with two zeros at the end, and takes ariary in whole units.
_DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}

# Stripe takes amounts of three digits only where the last one is a zero.
_THREE_DIGITS = 3


class Stripe:
    """The adapter; a charge is a `ch_…` or the captured payment intent `pi_…` that made it."""

    # Stripe forgets a key after 24 hours.
    keeps_keys_hours = 24

    def check(self, order: PaymentOrder) -> None:
        """Raise NeedsAttention for an amount that Stripe cannot pay exactly."""
        _to_stripe(order.amount_minor, order.currency)

    async def pay(self, order: PaymentOrder, key: str) -> GatewayRefund:
        """POST the refund; an answer that is not a refund of this amount proves nothing."""
        form = {
            _kind(order.charge_id): order.charge_id,
            "amount": str(_to_stripe(order.amount_minor, order.currency)),
            "metadata[refund_id]": order.refund_id,
            "metadata[order_id]": order.order_id,
            "metadata[refund_to]": order.refund_to,
            "metadata[key]": order.key,
        }
        made = _kept(await _call("POST", "/v1/refunds", key=key, form=form), order.charge_id)
        if (made["amount"], made["currency"]) != (order.amount_minor, order.currency):
            raise StepUnknown("gateway", f"it answered for another amount: {made['amount']}")
        return made

    async def find(self, charge_id: str, key: str) -> GatewayRefund | None:
        """The refund whose metadata carry our key."""
        async for refund in self.listed(charge_id):
            if refund["key"] == key:
                return refund
        return None

    async def look_up(self, reference: str) -> GatewayRefund:
        """GET one refund."""
        return _kept(await _call("GET", f"/v1/refunds/{quote(reference, safe='')}"))

    async def is_disputed(self, charge_id: str) -> bool:
        """A charge says so itself; a payment intent names the charge that succeeded."""
        charge: Any = charge_id
        if _kind(charge_id) == "payment_intent":
            expanded = {"expand[]": "latest_charge"}
            intent = await _look("payment_intents", charge_id, params=expanded)
            charge = intent.get("latest_charge")
        if isinstance(charge, str):
            charge = await _look("charges", charge)
        if not isinstance(charge, dict) or charge.get("disputed") is not True:
            return False
        # That a charge was disputed it says for ever, also when the bank has decided for us.
        asked = {"charge": text_in(charge, "id") or charge_id, "limit": str(_PAGE)}
        found = await _call("GET", "/v1/disputes", params=asked, absent=_NO_SUCH_PAGE)
        disputes = objects_in("gateway", found, "data") if found else []
        return not disputes or any(dispute.get("status") not in _WON for dispute in disputes)

    async def listed(self, charge_id: str) -> AsyncIterator[GatewayRefund]:
        """The refunds of a charge."""
        async for refund in _pages({_kind(charge_id): charge_id}):
            yield _kept(refund, charge_id)

    async def all_listed(self) -> AsyncIterator[GatewayRefund]:
        """All refunds of the account."""
        async for refund in _pages({}):
            yield _kept(refund)

    async def event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> GatewayEvent:
        """The event, by its signature over the raw body."""
        return stripe_events.read(body, headers, await secrets.listed("webhook_secret"), now)


def _kind(charge_id: str) -> str:
    return "payment_intent" if charge_id.startswith("pi_") else "charge"


def _digits(currency: str) -> int:
    return _DIGITS.get(currency, money.digits(currency))


def _to_stripe(amount_minor: int, currency: str) -> int:
    """Our minor units in Stripe's. Raises NeedsAttention for what would have to be rounded."""
    up = _digits(currency) - money.digits(currency)
    amount, rest = divmod(amount_minor, int(10**-up)) if up < 0 else (int(amount_minor * 10**up), 0)
    if rest or (_digits(currency) == _THREE_DIGITS and amount % 10):
        raise NeedsAttention(
            f"Stripe cannot pay {money.show(amount_minor, currency)}: its smallest step in "
            f"{currency} is larger; pay by another way or ask for another amount"
        )
    return amount


def _from_stripe(amount: int, currency: str) -> int:
    down = _digits(currency) - money.digits(currency)
    if down <= 0:
        return int(amount * 10**-down)
    whole, rest = divmod(amount, int(10**down))
    if rest:
        raise StepUnknown("gateway", f"its amount {amount} {currency} is not in whole units")
    return int(whole)


def _kept(refund: dict[str, Any], charge_id: str | None = None) -> GatewayRefund:
    """What is kept of a refund; `charge_id` is the name we asked under."""
    status, amount = refund.get("status"), refund.get("amount")
    state = _STATES.get(status) if isinstance(status, str) else None
    if state is None or not isinstance(amount, int) or isinstance(amount, bool):
        raise StepUnknown("gateway", "its answer is not a refund")
    currency = str(refund.get("currency")).upper()
    kept = GatewayRefund(
        id=reference_in("gateway", refund, "id"),
        status=state,
        amount=_from_stripe(amount, currency),
        currency=currency,
        charge=charge_id or _name_of(refund.get("charge")),
        key=text_in(refund, "metadata", "key"),
        refund_id=text_in(refund, "metadata", "refund_id"),
    )
    if state == "failed":
        kept["failure_reason"] = http.in_short(str(refund.get("failure_reason") or status))
    if charge_id is None and refund.get("payment_intent"):
        kept["other_names"] = (_name_of(refund["payment_intent"]),)
    if source := text_in(refund, "metadata", "source"):
        kept["source"] = source
    return kept


def _name_of(thing: Any) -> str:
    """A thing's id, whether it stands there as such or expanded."""
    return str(thing.get("id") if isinstance(thing, dict) else thing)


async def _pages(params: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
    params = {"limit": str(_PAGE), **params}
    while True:
        page = await _call("GET", "/v1/refunds", params=params)
        entries = objects_in("gateway", page, "data")
        for refund in entries:
            yield refund
        if not page.get("has_more") or not entries:
            return
        last = reference_in("gateway", entries[-1], "id")
        if params.get("starting_after") == last:
            raise StepUnknown("gateway", "its list of refunds does not end")
        params["starting_after"] = last


def _refusal(status: int, answer: Any) -> StepFailed:
    """A refusal counts only in Stripe's own words; a page of some proxy refuses nothing."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return http.not_in_its_words("gateway", status)
    said = " ".join(str(error[part]) for part in ("code", "message") if error.get(part))
    detail = f"it answered {status}: {http.in_short(said)}"
    if error.get("type") == "idempotency_error":
        # Our key was used for something else: what that did has to be asked for.
        return StepUnknown("gateway", detail)
    if error.get("code") in _BLOCKED:
        return StepBlocked("gateway", detail)
    return StepRefused("gateway", detail)


async def _look(kind: str, identifier: str, **arguments: Any) -> dict[str, Any]:
    """One thing, or an empty object where there is none."""
    path = f"/v1/{kind}/{quote(identifier, safe='')}"
    return await _call("GET", path, absent=_NO_SUCH_PAGE, **arguments)


async def _call(method: str, path: str, **arguments: Any) -> dict[str, Any]:
    bearer = f"Bearer {await secrets.secret('gateway_key')}"
    headers = {"Authorization": bearer, "Stripe-Version": _VERSION}
    return await http.call("gateway", method, path, headers=headers, refusal=_refusal, **arguments)
