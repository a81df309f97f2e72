"""Disputes: whether the customer asks the bank for the money that we are about to pay back."""

import asyncio

from refunds.errors import StepRefused
from refunds.ledger import charges
from refunds.settings import settings
from tasks import books, http


async def look(charge_id: str) -> bool:
    """Ask the gateway whether a charge is disputed, and keep its word in the ledger.

    A gateway that knows no such charge says so again when it is asked to pay. Raises
    SystemUnavailable or StepUnknown when it cannot be asked.
    """
    bearer = {"Authorization": f"Bearer {settings().gateway_key.get_secret_value()}"}
    try:
        charge = await http.call("gateway", "GET", f"/v1/charges/{charge_id}", headers=bearer)
    except StepRefused:
        return False
    is_disputed = charge.get("disputed") is True
    await asyncio.to_thread(
        charges.note_dispute, books.ledger(), charge_id, is_disputed=is_disputed
    )
    return is_disputed
