"""Disputes: whether the customer asks the bank for the money that we are about to pay back."""

import asyncio

from refunds.errors import StepRefused
from refunds.ledger import charges
from tasks import books, gateways


async def look(charge_id: str) -> bool:
    """Ask the gateway whether a charge is disputed, and keep its word in the ledger.

    A gateway that knows no such charge says so again when it is asked to pay. Raises
    SystemUnavailable or StepUnknown when it cannot be asked.
    """
    try:
        is_disputed = await gateways.gateway().is_disputed(charge_id)
    except StepRefused:
        return False
    await asyncio.to_thread(
        charges.note_dispute, books.ledger(), charge_id, is_disputed=is_disputed
    )
    return is_disputed
