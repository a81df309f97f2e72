"""What the ledger has of a night: how far it has come, what became of it, and its reports."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from refunds.ledger import batches, schema
from refunds.ledger.batches import Batch
from refunds.ledger.book import LEASE_SECONDS, Ledger
from refunds.ledger.engine import insert_if_absent

Row = dict[str, Any]
Rows = Iterator[Row]

# What a cursor holds in memory of ten thousand refunds.
_ROWS_AT_ONCE = 1_000

# Of a notice that is nobody's business any more.
_SETTLED = ("succeeded", "refused")


@dataclass(frozen=True)
class Progress:
    """How many refunds a batch has, and how many of them it has yet to carry."""

    all: int
    left: int
    states: Mapping[str, int]

    @property
    def percent(self) -> float:
        """How much of it is done."""
        return 100.0 * (self.all - self.left) / self.all if self.all else 100.0


@dataclass(frozen=True)
class Kept:
    """A report as it was written: its facts, and what became of its notice."""

    batch_id: str
    edition: int
    facts: Row
    written_at: datetime
    notice_state: str
    notice_sends: int
    notice_detail: str | None

    @property
    def is_due(self) -> bool:
        """Whether its notice has yet to go out."""
        return self.notice_state not in _SETTLED


def last(ledger: Ledger, limit: int) -> list[Batch]:
    """The nights' batches, the last night first."""
    query = (
        sa.select(schema.batches)
        .where(schema.batches.c.kind == "night")
        .order_by(schema.batches.c.night.desc())
        .limit(limit)
    )
    with ledger.reading() as connection:
        return [batches.of_row(row) for row in connection.execute(query).mappings()]


def progress(ledger: Ledger, batch: Batch) -> Progress:
    """How far a batch, or a shard, has come."""
    row = schema.refunds.c
    to_do = sa.and_(*batches.in_hand(batch), row.outcome.is_(None), ~batches.is_waiting())
    query = (
        sa.select(row.state, sa.func.count(), sa.func.count(sa.case((to_do, 1))))
        .where(*batches.members(batch))
        .group_by(row.state)
    )
    with ledger.reading() as connection:
        found = connection.execute(query).all()
    return Progress(
        all=sum(count for _, count, _ in found),
        left=sum(left for _, _, left in found),
        states={state: count for state, count, _ in found},
    )


def refunds_of(connection: sa.Connection, batch: Batch) -> Rows:
    """The refunds of a batch in key order; `waits_for` names what is not a person."""
    row = schema.refunds.c
    columns = (
        *(row.refund_id, row.order_id, row.customer_id, row.amount_minor, row.currency),
        *(row.lane, row.state, row.outcome, row.verdict, row.reasons, row.attention),
        *(row.submitted_at, row.completed_at),
    )
    query = sa.select(*columns).where(*batches.members(batch)).order_by(row.refund_id)
    waits = _waits_of(connection, batch)
    for found in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).mappings():
        yield {**found, "waits_for": waits.get(found["refund_id"])}


def effects_of(connection: sa.Connection, batch: Batch) -> Rows:
    """The effects of a batch's refunds."""
    row = schema.effects.c
    columns = (row.refund_id, row.step, row.system, row.state, row.detail, row.sends)
    query = (
        sa.select(*columns, row.first_sent_at, row.updated_at)
        .join(schema.refunds, schema.refunds.c.refund_id == row.refund_id)
        .where(*batches.members(batch))
    )
    for found in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).mappings():
        yield dict(found)


def write(ledger: Ledger, batch: Batch, facts: Row, sheet: bytes) -> None:
    """Keep a report; one that is there already stays as it is."""
    with ledger.writing() as connection:
        connection.execute(
            insert_if_absent(connection, schema.reports).values(
                batch_id=batch.batch_id,
                edition=batch.edition,
                facts=facts,
                sheet=zlib.compress(sheet),
                written_at=ledger.clock(),
                notice_state="due",
                notice_sends=0,
            )
        )


def latest(ledger: Ledger, batch_id: str, edition: int | None = None) -> Kept | None:
    """A batch's last report, or one of its editions; None before there is one."""
    row = schema.reports.c
    query = sa.select(*_kept_columns()).where(row.batch_id == batch_id)
    if edition is not None:
        query = query.where(row.edition == edition)
    with ledger.reading() as connection:
        query = query.order_by(row.edition.desc()).limit(1)
        found = connection.execute(query).mappings().first()
    return Kept(**found) if found else None


def sheet_of(ledger: Ledger, kept: Kept) -> bytes:
    """The sheet of a report, as CSV."""
    row = schema.reports.c
    query = sa.select(row.sheet).where(row.batch_id == kept.batch_id, row.edition == kept.edition)
    with ledger.reading() as connection:
        return zlib.decompress(connection.execute(query).scalar_one())


def to_send(ledger: Ledger) -> list[Kept]:
    """Reports whose notice has yet to go out and that nobody is sending now."""
    row = schema.reports.c
    query = (
        sa.select(*_kept_columns())
        .where(row.notice_state.not_in(_SETTLED), _unclaimed(ledger.clock()))
        .order_by(row.batch_id, row.edition)
    )
    with ledger.reading() as connection:
        return [Kept(**found) for found in connection.execute(query).mappings()]


def claim_notice(ledger: Ledger, kept: Kept) -> Kept | None:
    """Write the intent to send a report's notice; None while another process does, or has.

    `notice_sends` of what is returned is how often it may have been sent before.
    """
    row, now = schema.reports.c, ledger.clock()
    mine = [row.batch_id == kept.batch_id, row.edition == kept.edition]
    with ledger.writing() as connection:
        query = sa.select(*_kept_columns()).where(*mine).with_for_update()
        query = query.where(row.notice_state.not_in(_SETTLED), _unclaimed(now))
        found = connection.execute(query).mappings().first()
        if found is None:
            return None
        connection.execute(
            schema.reports.update()
            .where(*mine)
            .values(
                notice_state="intended" if found["notice_state"] == "due" else row.notice_state,
                notice_sends=row.notice_sends + 1,
                notice_claimed_until=now + timedelta(seconds=LEASE_SECONDS),
            )
        )
    return Kept(**found)


def record_notice(
    ledger: Ledger,
    kept: Kept,
    state: str,
    *,
    response: Row | None = None,
    detail: str | None = None,
    was_sent: bool = True,
) -> None:
    """Commit how the notice ended; `was_sent` is False where certainly nothing went out."""
    row = schema.reports.c
    with ledger.writing() as connection:
        connection.execute(
            schema.reports.update()
            .where(row.batch_id == kept.batch_id, row.edition == kept.edition)
            .where(row.notice_state.not_in(_SETTLED))
            .values(
                notice_state=state,
                notice_response=response,
                notice_detail=detail,
                notice_sends=row.notice_sends if was_sent else kept.notice_sends,
                notice_claimed_until=None,
            )
        )


def _kept_columns() -> list[sa.Column[Any]]:
    return [schema.reports.c[name] for name in Kept.__dataclass_fields__]


def _unclaimed(now: datetime) -> sa.ColumnElement[bool]:
    until = schema.reports.c.notice_claimed_until
    return sa.or_(until.is_(None), until <= now)


def _waits_of(connection: sa.Connection, batch: Batch) -> dict[str, str]:
    """By refund id, what is waited for that is no person: settlement, outage-crm."""
    wait = schema.waits.c
    query = (
        sa.select(wait.refund_id, wait.name)
        .join(schema.refunds, schema.refunds.c.refund_id == wait.refund_id)
        .where(*batches.members(batch), wait.passed_at.is_(None), wait.reason != "person")
    )
    return {refund_id: name.rpartition("-")[0] for refund_id, name in connection.execute(query)}
