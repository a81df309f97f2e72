"""Stripe's refund API, as Stripe and the programs that imitate it speak it."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from refunds import money
from refunds.errors import NeedsAttention, StepBlocked, StepFailed, StepRefused, StepUnknown
from tasks import http, secrets
from tasks.gateways.contract import GatewayEvent, GatewayRefund, PaymentOrder, json_object

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

# Refusals that say nothing of the refund itself: a dispute is open on the charge, or our own
# balance is too low. Stripe repeats its answer under the same key, so a new attempt needs another.
_BLOCKED = frozenset({"charge_disputed", "balance_insufficient", "insufficient_funds"})

# Where Stripe counts other digits than ISO 4217 does (stripe.com/docs/currencies): it wants
# krónur and Ugandan shillings with two zeros at the end, and takes ariary in whole units.
_DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}

# Stripe takes amounts of three digits only where the last one is a zero.
_THREE_DIGITS = 3

# Stripe's own tolerance: an older signature may be a replay, a newer one a wrong clock.
_TOLERANCE = timedelta(minutes=5)

# A time in seconds has ten digits for the next two centuries.
_TIME_DIGITS = 10


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
        """A charge says so itself; those of a payment intent are listed."""
        if _kind(charge_id) == "charge":
            found = [await _call("GET", f"/v1/charges/{quote(charge_id, safe='')}")]
        else:
            listed = await _call("GET", "/v1/charges", params={"payment_intent": charge_id})
            found = [charge for charge in listed.get("data") or [] if isinstance(charge, dict)]
        return any(charge.get("disputed") is True for charge in found)

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
        known = await secrets.listed("webhook_secret")
        _check_signature(body, headers.get("stripe-signature", ""), known, now)
        try:
            event = json_object(json.loads(body), "the body")
        except RecursionError as error:
            raise ValueError("the body is not JSON") from error
        if not isinstance(event.get("id"), str):
            raise ValueError("the body is not an event")  # noqa: TRY004 - one error for a bad body
        data = event.get("data")
        concerned = data.get("object") if isinstance(data, dict) else None
        about = _concerned(concerned) if isinstance(concerned, dict) else {}
        return GatewayEvent(event["id"], str(event.get("type", "")), **about)


def _concerned(thing: dict[str, Any]) -> dict[str, Any]:
    """What an event is about.

    `refund.…` and `charge.refund.updated` carry a refund, `charge.refunded` its charge, and a
    dispute names the charge.
    """
    kind, metadata = thing.get("object"), thing.get("metadata")
    if kind == "refund":
        refund_id = metadata.get("refund_id") if isinstance(metadata, dict) else None
        if isinstance(refund_id, str) and isinstance(thing.get("id"), str) and thing["id"]:
            return {"refund": thing["id"], "refund_id": refund_id}
    elif kind in ("charge", "dispute"):
        charge = thing.get("id") if kind == "charge" else thing.get("charge")
        names = (charge, thing.get("payment_intent"))
        return {"charges": tuple(name for name in names if isinstance(name, str) and name)}
    return {}


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
    status, reference, amount = (refund.get(name) for name in ("status", "id", "amount"))
    if status not in _STATES or not isinstance(reference, str) or not isinstance(amount, int):
        raise StepUnknown("gateway", "its answer is not a refund")
    currency = str(refund.get("currency")).upper()
    metadata = refund.get("metadata") or {}
    kept = GatewayRefund(
        id=reference,
        status=_STATES[status],
        amount=_from_stripe(amount, currency),
        currency=currency,
        charge=charge_id or str(refund.get("charge")),
        key=metadata.get("key"),
        refund_id=metadata.get("refund_id"),
    )
    if _STATES[status] == "failed":
        kept["failure_reason"] = str(refund.get("failure_reason") or status)
    if charge_id is None and refund.get("payment_intent"):
        kept["other_names"] = (str(refund["payment_intent"]),)
    if metadata.get("source"):
        kept["source"] = metadata["source"]
    return kept


async def _pages(params: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
    params = {"limit": str(_PAGE), **params}
    while True:
        page = await _call("GET", "/v1/refunds", params=params)
        entries = page.get("data")
        if not isinstance(entries, list):
            raise StepUnknown("gateway", "its list of refunds has no data")
        for refund in entries:
            yield refund
        if not page.get("has_more") or not entries:
            return
        params["starting_after"] = entries[-1]["id"]


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


async def _call(method: str, path: str, **arguments: Any) -> dict[str, Any]:
    bearer = {"Authorization": f"Bearer {await secrets.secret('gateway_key')}"}
    return await http.call("gateway", method, path, headers=bearer, refusal=_refusal, **arguments)


def _check_signature(body: bytes, signature: str, known: list[str], now: datetime) -> None:
    fields = [part.partition("=")[::2] for part in signature.split(",")]
    signed_at = next((value for name, value in fields if name.strip() == "t"), "")
    if not signed_at.isascii() or not signed_at.isdigit() or len(signed_at) > _TIME_DIGITS:
        raise ValueError("the Stripe-Signature header has no timestamp")
    if abs(now - datetime.fromtimestamp(int(signed_at), UTC)) > _TOLERANCE:
        raise ValueError("the signature is too old, or one of our clocks is wrong")
    signed = signed_at.encode() + b"." + body
    expected = [_signature(secret, signed) for secret in known]
    given = [value.encode() for name, value in fields if name.strip() == "v1"]
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise ValueError("the signature does not match the body")


def _signature(secret: str, signed: bytes) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
