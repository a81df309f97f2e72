"""PayPal's payments API: JSON, amounts as decimal text, a token for an hour, lists by the order."""

import asyncio
import base64
import time
import weakref
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import orjson

from refunds import money
from refunds.errors import (
    NeedsAttention,
    StepBlocked,
    StepFailed,
    StepRefused,
    StepUnknown,
    SystemBusy,
    SystemUnavailable,
)
from tasks import http, secrets
from tasks.answers import objects_in, part_of, reference_in, text_in
from tasks.gateways.contract import GatewayEvent, GatewayRefund, PaymentOrder, json_object

# PayPal's word for a refund's state, in ours.
_STATES = {
    "COMPLETED": "succeeded",
    "PENDING": "pending",
    "FAILED": "failed",
    "CANCELLED": "failed",
}

# Refusals that say nothing of the refund itself: our balance is too low, the charge is disputed,
# its own money is not there yet. PayPal repeats its answer under the same key.
_BLOCKED = frozenset(
    {
        *("REFUND_FAILED_INSUFFICIENT_FUNDS", "REFUND_FUNDS_NOT_AVAILABLE"),
        *("CAPTURE_DISPUTED_PARTIAL_REFUND_NOT_ALLOWED", "TRANSACTION_DISPUTED"),
        *("REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK", "PENDING_CAPTURE"),
    }
)

# The same key with another body, or an earlier send that is not through: what that did has to be
# asked for.
_UNKNOWN = frozenset({"DUPLICATE_REQUEST_ID", "PREVIOUS_REQUEST_IN_PROGRESS"})

# Where a capture and an authorization name the order that they are of.
_ORDER_ID = ("supplementary_data", "related_ids", "order_id")

# How the events begin that carry a refund.
_ABOUT_REFUNDS = ("PAYMENT.CAPTURE.REFUND", "PAYMENT.REFUND.")

# A token that is about to run out is not worth a failed call.
_TOKEN_MARGIN_SECONDS = 60.0


class PayPal:
    """The adapter; a charge is the id of a capture. The key is `client id:secret`."""

    # PayPal keeps a request's id for 45 days.
    keeps_keys_hours = 45 * 24

    def __init__(self) -> None:
        self._token, self._token_ends_at = "", 0.0
        # Who needs a token while another asks for it waits for that one: PayPal counts the asking.
        self._asking: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )

    def check(self, order: PaymentOrder) -> None:
        """Raise NeedsAttention for a currency whose digits PayPal does not have."""
        # developer.paypal.com/reference/currency-codes: two digits, or none for these.
        places = 0 if order.currency in ("HUF", "JPY", "TWD") else 2
        if Decimal(_text(order)) % Decimal(1).scaleb(-places):
            amount = money.show(order.amount_minor, order.currency)
            raise NeedsAttention(f"PayPal cannot pay {amount} exactly; pay by another way")

    async def pay(self, order: PaymentOrder, key: str) -> GatewayRefund:
        """POST the refund; an answer that is not a refund of this amount proves nothing."""
        answer = await self._call(
            "POST",
            f"/v2/payments/captures/{quote(order.charge_id, safe='')}/refund",
            key=key,
            key_header="PayPal-Request-Id",
            headers={"Prefer": "return=representation"},
            json={
                "amount": {"value": _text(order), "currency_code": order.currency},
                "custom_id": order.key,
                "invoice_id": order.refund_id,
            },
        )
        made = _kept(answer, order.charge_id)
        if (made["amount"], made["currency"]) != (order.amount_minor, order.currency):
            raise StepUnknown("gateway", f"it answered for another amount: {made['amount']}")
        return made

    async def find(self, charge_id: str, key: str) -> GatewayRefund | None:
        """The refund of the capture that carries our key."""
        async for refund in self.listed(charge_id):
            if refund["key"] == key:
                return refund
        return None

    async def look_up(self, reference: str) -> GatewayRefund:
        """GET one refund."""
        answer = await self._call("GET", f"/v2/payments/refunds/{quote(reference, safe='')}")
        return _kept(answer, _id_in(_link(answer, "up")))

    async def is_disputed(self, charge_id: str) -> bool:
        """Whether a dispute about the capture is not resolved."""
        found = await self._call(
            "GET", "/v1/customer/disputes", params={"disputed_transaction_id": charge_id}
        )
        # Where there are none PayPal leaves the list out.
        disputes = objects_in("gateway", found, "items") if "items" in found else []
        return any(dispute.get("status") != "RESOLVED" for dispute in disputes)

    async def listed(self, charge_id: str) -> AsyncIterator[GatewayRefund]:
        """The refunds of a capture, which PayPal lists with the capture's order."""
        capture = await self._call("GET", f"/v2/payments/captures/{quote(charge_id, safe='')}")
        order = await self._call("GET", f"/v2/checkout/orders/{await self._order_of(capture)}")
        found = [
            refund
            for unit in objects_in("gateway", order, "purchase_units")
            if part_of(unit, "payments", "refunds") is not None
            for refund in objects_in("gateway", unit, "payments", "refunds")
        ]
        for refund in sorted(found, key=lambda entry: str(entry.get("create_time")), reverse=True):
            if _id_in(_link(refund, "up")) == charge_id:
                yield _kept(refund, charge_id)

    async def _order_of(self, capture: dict[str, Any]) -> str:
        """The order's id: above the capture is the order, or else an authorization of it."""
        if named := text_in(capture, *_ORDER_ID):
            return quote(named, safe="")
        up = _link(capture, "up")
        if "/authorizations/" not in up:
            return _id_in(up)
        authorization = await self._call("GET", f"/v2/payments/authorizations/{_id_in(up)}")
        return quote(reference_in("gateway", authorization, *_ORDER_ID), safe="")

    def all_listed(self) -> None:
        """PayPal has no list of all refunds that is up to date."""
        return

    async def event(self, body: bytes, headers: Mapping[str, str], now: datetime) -> GatewayEvent:
        """The event, by PayPal's own word that it sent it. Raises ValueError."""
        del now  # PayPal checks the time of its own signature.
        event = json_object(orjson.loads(body), "the body")
        signature = {
            name: headers.get(f"paypal-{name.replace('_', '-')}", "")
            for name in ("auth_algo", "cert_url", "transmission_id", "transmission_sig")
        }
        webhook_id = next(iter(await secrets.listed("webhook_secret")), "")
        time_sent = {"transmission_time": headers.get("paypal-transmission-time", "")}
        checked = await self._call(
            "POST",
            "/v1/notifications/verify-webhook-signature",
            json={
                **signature,
                **time_sent,
                "webhook_id": webhook_id,
                # The signature is over these bytes; written anew they would be others.
                "webhook_event": orjson.Fragment(body),
            },
        )
        if checked.get("verification_status") != "SUCCESS" or not isinstance(event.get("id"), str):
            raise ValueError("PayPal did not send this event")
        kind, resource = str(event.get("event_type", "")), event.get("resource")
        if not kind.startswith(_ABOUT_REFUNDS) or not isinstance(resource, dict):
            return GatewayEvent(event["id"], kind)
        refund, refund_id = resource.get("id"), resource.get("invoice_id")
        if not isinstance(refund, str) or not isinstance(refund_id, str):
            return GatewayEvent(event["id"], kind)
        return GatewayEvent(event["id"], kind, refund, refund_id)

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {await self._bearer()}"}
        headers |= arguments.pop("headers", {})
        try:
            return await http.call(
                "gateway", method, path, headers=headers, refusal=_refusal, **arguments
            )
        except SystemUnavailable as error:
            # It may have been taken back before its time; the next try asks for another.
            if not isinstance(error, SystemBusy):
                self._token_ends_at = 0.0
            raise

    async def _bearer(self) -> str:
        async with self._asking.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            return await self._current_token()

    async def _current_token(self) -> str:
        if time.monotonic() >= self._token_ends_at:
            key = await secrets.secret("gateway_key")
            pair = base64.b64encode(key.encode()).decode()
            answer = await http.call(
                "gateway",
                "POST",
                "/v1/oauth2/token",
                form={"grant_type": "client_credentials"},
                headers={"Authorization": f"Basic {pair}"},
                refusal=lambda status, _: http.not_in_its_words("gateway", status),
            )
            lasts = answer.get("expires_in")
            seconds = lasts - _TOKEN_MARGIN_SECONDS if isinstance(lasts, int) else 0
            self._token = reference_in("gateway", answer, "access_token")
            secrets.lent(self._token)
            self._token_ends_at = time.monotonic() + seconds
        return self._token


def _text(order: PaymentOrder) -> str:
    return money.decimal_text(order.amount_minor, order.currency)


def _kept(refund: dict[str, Any], charge_id: str) -> GatewayRefund:
    status = text_in(refund, "status") or ""
    currency = text_in(refund, "amount", "currency_code") or ""
    amount_minor = money.minor_of(text_in(refund, "amount", "value"), money.digits(currency))
    if status not in _STATES or amount_minor is None:
        raise StepUnknown("gateway", "its answer is not a refund")
    kept = GatewayRefund(
        id=reference_in("gateway", refund, "id"),
        status=_STATES[status],
        amount=amount_minor,
        currency=currency,
        charge=charge_id,
        key=text_in(refund, "custom_id"),
        refund_id=text_in(refund, "invoice_id"),
    )
    if kept["status"] == "failed":
        why = text_in(refund, "status_details", "reason")
        kept["failure_reason"] = http.in_short(why or status)
    return kept


def _link(thing: dict[str, Any], relation: str) -> str:
    for link in objects_in("gateway", thing, "links"):
        if link.get("rel") == relation:
            return str(link.get("href"))
    raise StepUnknown("gateway", f"its answer has no link {relation!r}")


def _id_in(address: str) -> str:
    return address.rstrip("/").rpartition("/")[2]


def _refusal(status: int, answer: Any) -> StepFailed:
    """A refusal counts only in PayPal's own words."""
    if not isinstance(answer, dict) or "name" not in answer:
        return http.not_in_its_words("gateway", status)
    details = answer.get("details")
    issues = [
        str(part_of(detail, "issue")) for detail in (details if isinstance(details, list) else [])
    ]
    said = http.in_short(" ".join((str(answer["name"]), *issues)))
    if _UNKNOWN.intersection((*issues, str(answer["name"]))):
        return StepUnknown("gateway", f"it answered {status}: {said}")
    if _BLOCKED.intersection(issues):
        return StepBlocked("gateway", f"it answered {status}: {said}")
    return StepRefused("gateway", f"it answered {status}: {said}")
