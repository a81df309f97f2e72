"""The gateway's events: signed, de-duplicated, and never trusted.

An event is a hint that something changed. What changed is read from the gateway itself.
"""

from collections.abc import AsyncIterator
from contextlib import suppress

import sqlalchemy as sa

from refunds.errors import StepRefused
from refunds.ledger import charges, effects, schema
from refunds.ledger.effects import PAYMENT_STEP, key_of
from tasks import books, gateways, payments
from tasks.gateways import GatewayEvent, GatewayRefund

# A gateway's ids are a tenth of it.
_LONGEST_ID = 128


async def take(event: GatewayEvent) -> list[str]:
    """Act on an event once; returns the refunds of which there is news.

    Raises StepFailed when the gateway cannot be asked: it will send the event again.
    """
    if _seen(event.event_id):
        return []
    news = [payments.take_word(found) async for found in _looked_up(event)]
    _remember(event)
    return [refund_id for refund_id in news if refund_id is not None]


async def _looked_up(event: GatewayEvent) -> AsyncIterator[GatewayRefund]:
    """What the gateway says of the payments that the event may be about, if they are ours."""
    gateway, ledger = gateways.gateway(), books.ledger()
    if event.refund is not None and _is_ours(event.refund_id):
        # What the gateway does not know, now or ever, has no word to take; asking again is the
        # sweep's business as long as the payment is not settled.
        with suppress(StepRefused):
            yield await gateway.look_up(event.refund)
    for charge_id in event.charges:
        if charges.holds_reservation(ledger, charge_id):
            async for found in gateway.listed(charge_id):
                yield found


def _is_ours(refund_id: str | None) -> bool:
    if refund_id is None:
        return False
    return effects.read(books.ledger(), key_of(refund_id, PAYMENT_STEP)) is not None


def _seen(event_id: str) -> bool:
    query = sa.select(schema.gateway_events.c.event_id).where(
        schema.gateway_events.c.event_id == event_id[:_LONGEST_ID]
    )
    with books.ledger().reading() as connection:
        return connection.execute(query).first() is not None


def _remember(event: GatewayEvent) -> None:
    if _seen(event.event_id):
        return
    with books.ledger().writing() as connection:
        connection.execute(
            schema.gateway_events.insert().values(
                event_id=event.event_id[:_LONGEST_ID],
                kind=event.kind[:64],
                received_at=books.ledger().clock(),
            )
        )
