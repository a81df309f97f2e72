"""The history: append-only and hash-chained, readable and checkable by anyone."""

from typing import Any

import sqlalchemy as sa

from refunds.digests import digest
from refunds.errors import HistoryBroken, UnknownRefund
from refunds.ledger import schema
from refunds.ledger.book import Ledger, Page


def read(ledger: Ledger, refund_id: str) -> list[dict[str, Any]]:
    """All events of a refund in order, as JSON types. Raises UnknownRefund."""
    query = (
        sa.select(schema.history)
        .where(schema.history.c.refund_id == refund_id)
        .order_by(schema.history.c.sequence)
    )
    with ledger.reading() as connection:
        events = [_plain(row) for row in connection.execute(query).mappings()]
    if not events:
        raise UnknownRefund(refund_id)
    return events


def assessed(ledger: Ledger, refund_id: str, round_number: int) -> dict[str, Any] | None:
    """What the first assessment of a round was based on, and came to; None before it.

    A reset that goes behind it lets the round look anew, so what was before counts no more.
    """
    row = schema.history.c
    query = (
        sa.select(row.event, row.data)
        .where(row.refund_id == refund_id, row.event.in_(("refund.assessed", "refund.reset")))
        .order_by(row.sequence)
    )
    found, key = None, f"{refund_id}:record_assessment:{round_number}"
    with ledger.reading() as connection:
        for event, data in connection.execute(query):
            if event == "refund.reset":
                found = None if key in data["forgotten"] else found
            elif found is None and data["round"] == round_number:
                found = dict(data)
    return found


def first(page: Page) -> dict[str, Any]:
    """The data of a refund's first event: what was asked, and under which version of the flow."""
    row = schema.history.c
    found: dict[str, Any] = page.connection.execute(
        sa.select(row.data).where(row.refund_id == page.refund_id, row.sequence == 1)
    ).scalar_one()
    return found


def append(ledger: Ledger, refund_id: str, event: str, data: dict[str, Any], fence: int) -> None:
    """Append one event as the refund's runner."""
    with ledger.page(refund_id, fence) as page:
        page.append(event, data)


def check(events: list[dict[str, Any]]) -> None:
    """Raise HistoryBroken at the first event that does not follow from the one before."""
    previous = ""
    for position, event in enumerate(events, start=1):
        name = f"{event['refund_id']} event {position}"
        if event["sequence"] != position:
            raise HistoryBroken(f"{name} is missing")
        if event["previous_digest"] != previous:
            raise HistoryBroken(f"{name} does not follow from the event before it")
        content = {key: value for key, value in event.items() if key != "digest"}
        if digest(content) != event["digest"]:
            raise HistoryBroken(f"{name} was changed after it was written")
        previous = event["digest"]


def _plain(row: Any) -> dict[str, Any]:
    return {**row, "at": row["at"].isoformat()}
