"""A night's batch: how far it has got, so that it goes on there."""

from datetime import date
from typing import Any

import sqlalchemy as sa

from refunds.ledger import schema
from refunds.ledger.book import Ledger


def begin(ledger: Ledger, night: date | None) -> tuple[date, str]:
    """Begin a night or go on with it; returns its date and how far it has got, in key order."""
    night = night or ledger.clock().date()
    with ledger.writing() as connection:
        known = _row(connection, night)
        if known is None:
            connection.execute(
                schema.nights.insert().values(
                    night=night, started_at=ledger.clock(), cursor="", submitted=0
                )
            )
        elif known["finished_at"] is not None:
            # Run again on the same night: it takes what came in since, from the first key on.
            _update(connection, night, finished_at=None, cursor="")
    return night, (known["cursor"] if known and known["finished_at"] is None else "")


def due(ledger: Ledger, after: str, limit: int) -> list[str]:
    """The next refunds left to tonight, by key."""
    row = schema.refunds.c
    query = (
        sa.select(row.refund_id)
        .where(row.lane == "nightly", row.run_id.is_(None), row.outcome.is_(None))
        .where(row.refund_id > after)
        .order_by(row.refund_id)
        .limit(limit)
    )
    with ledger.reading() as connection:
        return list(connection.execute(query).scalars())


def advance(ledger: Ledger, night: date, cursor: str, submitted: int) -> None:
    """Note how far the night has got."""
    with ledger.writing() as connection:
        done = schema.nights.c.submitted + submitted
        _update(connection, night, cursor=cursor, submitted=done)


def finish(ledger: Ledger, night: date) -> dict[str, Any]:
    """Close the night; returns its summary."""
    with ledger.writing() as connection:
        _update(connection, night, finished_at=ledger.clock())
    return latest(ledger, night) or {}


def latest(ledger: Ledger, night: date | None) -> dict[str, Any] | None:
    """A night's summary as JSON types (default: the last night)."""
    query = sa.select(schema.nights).order_by(schema.nights.c.night.desc()).limit(1)
    if night is not None:
        query = query.where(schema.nights.c.night == night)
    with ledger.reading() as connection:
        found = connection.execute(query).mappings().first()
    if found is None:
        return None
    finished_at = found["finished_at"]
    return {
        "night": found["night"].isoformat(),
        "submitted": found["submitted"],
        "started_at": found["started_at"].isoformat(),
        "finished_at": finished_at.isoformat() if finished_at else None,
    }


def _row(connection: sa.Connection, night: date) -> dict[str, Any] | None:
    found = (
        connection.execute(sa.select(schema.nights).where(schema.nights.c.night == night))
        .mappings()
        .first()
    )
    return dict(found) if found else None


def _update(connection: sa.Connection, night: date, **columns: Any) -> None:
    connection.execute(
        schema.nights.update().where(schema.nights.c.night == night).values(**columns)
    )
