"""Who may send to a system that others found away, and what each attempt says of it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from refunds.errors import StepBlocked, StepRefused, SystemAway, SystemBusy
from refunds.ledger import Ledger, effects, outages, waits
from tasks import books


@asynccontextmanager
async def watched(system: str, refund_id: str, key: str) -> AsyncIterator[None]:
    """Around one attempt on a system. Raises SystemAway when it is not this refund's to try."""
    suspected = await asyncio.to_thread(_checked, system, refund_id, key)
    try:
        yield
    except SystemBusy as error:
        if error.retry_after_seconds:
            seconds = error.retry_after_seconds
            await asyncio.to_thread(
                outages.asks_for_rest, books.ledger(), system, seconds, error.detail
            )
        raise
    except (StepRefused, StepBlocked):
        # It answered; that it said no is this refund's own affair.
        if suspected:
            await asyncio.to_thread(outages.found_well, books.ledger(), system)
        raise
    if suspected:
        await asyncio.to_thread(outages.found_well, books.ledger(), system)


async def doubtful(systems: Iterable[str]) -> set[str]:
    """Those of these systems of which something is known to be wrong."""
    ledger = books.ledger()

    def look() -> set[str]:
        return {system for system in systems if outages.standing(ledger, system) is not None}

    return await asyncio.to_thread(look)


def next_try(
    ledger: Ledger, refund_id: str, system: str, detail: str
) -> tuple[str, datetime] | str:
    """The wait that comes after a failure: its name and when it is due, or why there is none.

    While the system counts as away all wait for it together, and only who tries loses patience.
    """
    tried = waits.count_named(ledger, refund_id, f"outage-{system}-")
    pauses = books.policy().patience.outage_seconds
    if tried >= len(pauses):
        return f"{detail}, after {tried} attempts"
    outages.found_away(ledger, system, refund_id, detail, pauses)
    outage = outages.standing(ledger, system)
    until = outage.until if outage is not None else None
    due_at = until or ledger.clock() + timedelta(seconds=pauses[tried])
    return f"outage-{system}-{tried + 1}", due_at


def _checked(system: str, refund_id: str, key: str) -> bool:
    """Whether the attempt will tell something new of the system: something is wrong with it."""
    ledger = books.ledger()
    outage = outages.standing(ledger, system)
    if outage is None:
        return False
    known = effects.read(ledger, key)
    if known is not None and (known.is_final or known.state == "pending"):
        # Nothing will be sent, so nothing can be learnt.
        return False
    if not outages.may_try(ledger, system, refund_id):
        raise SystemAway(system, str(outage))
    return True
