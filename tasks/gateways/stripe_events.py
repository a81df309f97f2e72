"""Stripe's events: signed over the raw body, and only a hint where to look."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.gateways.contract import GatewayEvent, json_object

# Stripe's own tolerance: an older signature may be a replay, a newer one a wrong clock.
_TOLERANCE = timedelta(minutes=5)

# A time in seconds has ten digits for the next two centuries.
_TIME_DIGITS = 10


def read(body: bytes, headers: Mapping[str, str], known: list[str], now: datetime) -> GatewayEvent:
    """The event in a webhook's body; `known` are the secrets it may be signed with.

    Raises ValueError saying what is wrong with it.
    """
    _check_signature(body, headers.get("stripe-signature", ""), known, now)
    try:
        event = json_object(json.loads(body), "the body")
    except RecursionError as error:
        raise ValueError("the body is not JSON") from error
    if not isinstance(event.get("id"), str):
        raise ValueError("the body is not an event")  # noqa: TRY004 - one error for a bad body
    return told(event)


def told(event: dict[str, Any]) -> GatewayEvent:
    """What an event is about."""
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
