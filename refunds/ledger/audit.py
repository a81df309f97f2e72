"""The audit trail: who looked, who decided, who changed whose rights; chained, and exported."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from refunds.ledger import people, schema
from refunds.ledger.book import Ledger
from refunds.origin import Origin

SEEN = "approval.seen"

# Some megabytes in memory at a time, however long the history is.
_EVENTS_AT_ONCE = 1_000


def saw(ledger: Ledger, refund_id: str, person: str, origin: Origin, digest: str | None) -> bool:
    """Record that a person opened a refund's page, and on what digest; True when it was news.

    The same person on the same facts from the same place is recorded once, so a page that is
    loaded again and again does not grow the history. Raises UnknownRefund.
    """
    seen = {"person": person, "origin": origin.plain(), "digest": digest}
    row = schema.history.c
    with ledger.page(refund_id) as page:
        earlier = page.connection.execute(
            sa.select(row.data).where(row.refund_id == refund_id, row.event == SEEN)
        ).scalars()
        if any(data == seen for data in earlier):
            return False
        page.append(SEEN, seen)
        return True


def export(ledger: Ledger, since: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every event of every refund in key order, then every change of people, as JSON types.

    Each carries its digest and that of the event before it in its chain, so that a copy can be
    checked against the original (`refund_id` is None in the chain of people). With `since` only
    what happened from then on. It is read in pieces, each a transaction of its own.
    """
    yield from _refund_events(ledger, since)
    after = 0
    while found := people.events(ledger, after, _EVENTS_AT_ONCE):
        after = found[-1]["sequence"]
        yield from (
            {"refund_id": None, **event}
            for event in found
            if since is None or datetime.fromisoformat(event["at"]) >= since
        )


def _refund_events(ledger: Ledger, since: datetime | None) -> Iterator[dict[str, Any]]:
    row = schema.history.c
    query = sa.select(schema.history).order_by(row.refund_id, row.sequence).limit(_EVENTS_AT_ONCE)
    if since is not None:
        query = query.where(row.at >= since)
    refund_id, sequence = "", 0
    while True:
        place = sa.tuple_(row.refund_id, row.sequence)
        last = sa.tuple_(sa.literal(refund_id), sa.literal(sequence))
        with ledger.reading() as connection:
            found = connection.execute(query.where(place > last)).mappings().all()
        if not found:
            return
        refund_id, sequence = found[-1]["refund_id"], found[-1]["sequence"]
        yield from ({**event, "at": event["at"].isoformat()} for event in found)
