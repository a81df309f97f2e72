"""The gateway's events: signature over the raw body, de-duplicated, and never trusted.

An event is a hint that something changed. What changed is read from the gateway itself.
"""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from refunds.errors import StepRefused
from refunds.ledger import effects, schema
from refunds.ledger.effects import PAYMENT_STEP, key_of
from tasks import books, payments

# Stripe's own tolerance: an older signature may be a replay, a newer one a wrong clock.
_TOLERANCE = timedelta(minutes=5)

# A time in seconds has ten digits for the next two centuries.
_DIGITS = 10


def verified(body: bytes, signature: str, secrets: list[str], now: datetime) -> dict[str, Any]:
    """The event in a body that one of our secrets signed. Raises ValueError saying why not."""
    fields = [part.partition("=")[::2] for part in signature.split(",")]
    signed_at = next((value for name, value in fields if name.strip() == "t"), "")
    if not signed_at.isascii() or not signed_at.isdigit() or len(signed_at) > _DIGITS:
        raise ValueError("the Stripe-Signature header has no timestamp")
    if abs(now - datetime.fromtimestamp(int(signed_at), UTC)) > _TOLERANCE:
        raise ValueError("the signature is too old, or one of our clocks is wrong")
    signed = signed_at.encode() + b"." + body
    expected = [_signature(secret, signed) for secret in secrets]
    given = [value.encode() for name, value in fields if name.strip() == "v1"]
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise ValueError("the signature does not match the body")
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("the body is not JSON") from error
    if not isinstance(event, dict) or not isinstance(event.get("id"), str):
        raise ValueError("the body is not an event")  # noqa: TRY004 - one error for a bad body
    return event


def _signature(secret: str, signed: bytes) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()


async def take(event: dict[str, Any]) -> str | None:
    """Act on an event once; returns the refund concerned, or None when there is nothing to do.

    Raises StepFailed when the gateway cannot be asked: it will send the event again.
    """
    ledger = books.ledger()
    if _seen(event["id"]):
        return None
    refund_id, reference = _refund_in(event)
    effect = effects.read(ledger, key_of(refund_id, PAYMENT_STEP)) if refund_id else None
    if refund_id is not None and effect is not None:
        try:
            payments.take_word(refund_id, effect, await payments.look_up(reference))
        except StepRefused:
            # The gateway does not know it, now or ever: there is no word to take, and asking
            # again is the sweep's business as long as the payment is not settled.
            refund_id = None
    else:
        refund_id = None
    _remember(event)
    return refund_id


def _refund_in(event: dict[str, Any]) -> tuple[str | None, str]:
    """(our refund's id, the gateway's reference), or (None, "") when it is about neither."""
    data = event.get("data")
    concerned = data.get("object") if isinstance(data, dict) else None
    if not isinstance(concerned, dict) or concerned.get("object") != "refund":
        return None, ""
    metadata, reference = concerned.get("metadata"), concerned.get("id")
    refund_id = metadata.get("refund_id") if isinstance(metadata, dict) else None
    if not isinstance(refund_id, str) or not isinstance(reference, str) or not reference:
        return None, ""
    return refund_id, reference


def _seen(event_id: str) -> bool:
    query = sa.select(schema.gateway_events.c.event_id).where(
        schema.gateway_events.c.event_id == event_id[:128]
    )
    with books.ledger().reading() as connection:
        return connection.execute(query).first() is not None


def _remember(event: dict[str, Any]) -> None:
    if _seen(event["id"]):
        return
    with books.ledger().writing() as connection:
        connection.execute(
            schema.gateway_events.insert().values(
                event_id=event["id"][:128],
                kind=str(event.get("type", ""))[:64],
                received_at=books.ledger().clock(),
            )
        )
