"""Disputes: whether the customer asks the bank for the money that we are about to pay back."""

import asyncio

from refunds.errors import StepRefused
from refunds.ledger import charges
from tasks import books, gateways


async def look(charge_id: str) -> bool:
    """Ask the gateway whether a charge is disputed, and keep its word in the ledger.

    Raises SystemUnavailable or StepUnknown when it cannot be asked.
    """
    is_disputed = await ask(charge_id)
    await asyncio.to_thread(charges.note_disputes, books.ledger(), {charge_id: is_disputed})
    return is_disputed


async def ask(charge_id: str) -> bool:
    """The gateway's word on whether a charge is disputed.

    A gateway that knows no such charge says so again when it is asked to pay. Raises
    SystemUnavailable or StepUnknown when it cannot be asked.
    """
    try:
        return await gateways.gateway().is_disputed(charge_id)
    except StepRefused:
        return False
