"""Batches: which refunds one run carries together, how far it has got, and who may run it.

A batch is a file of requests, a night, or a shard of either: a range of its keys; or a burst, see
`bursts`. A refund is in the lane "batch" while a batch carries it; with a run of its own it leaves
the lane.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from refunds.digests import digest
from refunds.ledger import leases, schema
from refunds.ledger.book import LEASE_SECONDS, Ledger
from refunds.models import State

BURST = "burst"

# The runner of a batch says that it lives three times a lease.
RENEW_SECONDS = LEASE_SECONDS / 3


@dataclass(frozen=True)
class Batch:
    """One batch as its row has it.

    Its keys go from `first_key` (exclusive) to `last_key` (inclusive); `cursor` is how far it got.
    """

    batch_id: str
    kind: str
    night: date | None
    parent_id: str | None
    cursor: str
    first_key: str
    last_key: str | None
    run_number: int
    run_id: str | None
    deaths: int
    opened_at: datetime
    stop_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    lease_holder: str | None
    lease_expires_at: datetime | None
    edition: int

    @property
    def is_burst(self) -> bool:
        """Whether it carries refunds that were decided at the same time."""
        return self.kind == BURST

    @property
    def members_of(self) -> str:
        """The batch that its refunds are marked with."""
        return self.parent_id or self.batch_id


def file_id(refund_ids: Sequence[str]) -> str:
    """What a file's batch is called: its requests tell it from every other."""
    return f"file-{digest(sorted(refund_ids))[:16]}"


def night_id(night: date) -> str:
    """What a night's batch is called."""
    return f"night-{night.isoformat()}"


def insert_file(connection: sa.Connection, batch_id: str, now: datetime) -> None:
    """Open a file's batch, in the transaction that takes its requests."""
    _insert(connection, now, batch_id=batch_id, kind="file")


def open_night(ledger: Ledger, night: date, hours: int) -> Batch:
    """Open a night, or open it again for what came in since; it takes what was left to the night.

    What is not begun `hours` from now is left to the next night. What comes in once the night has
    been reported is worth a further report.
    """
    batch_id, now = night_id(night), ledger.clock()
    row = schema.refunds.c
    with ledger.writing() as connection:
        known = _row(connection, batch_id, lock=True)
        stop_at = now + timedelta(hours=hours)
        if known is None:
            _insert(connection, now, batch_id=batch_id, kind="night", night=night, stop_at=stop_at)
        taken = connection.execute(
            schema.refunds.update()
            .where(row.lane == "nightly", row.outcome.is_(None))
            .values(lane="batch", batch_id=batch_id)
        ).rowcount
        if known is not None and known.finished_at is not None and taken:
            reopened = {"finished_at": None, "cursor": known.first_key, "deaths": 0}
            edition = known.edition + 1
            _update(connection, batch_id, now, **reopened, stop_at=stop_at, edition=edition)
    return read(ledger, batch_id)


def split(ledger: Ledger, batch: Batch, size: int) -> list[Batch]:
    """The shards that are to be carried before the batch itself goes on, by key range.

    Each has at most `size` refunds; there are none where the batch is small. As long as one of
    them is not finished, splitting again gives the same ones.
    """
    now = ledger.clock()
    with ledger.writing() as connection:
        _row(connection, batch.batch_id, lock=True)
        known = _shard_rows(connection, batch.batch_id)
        open_ = [shard for shard in known if shard.finished_at is None]
        if open_ or batch.parent_id is not None or batch.is_burst:
            return open_
        keys = list(connection.execute(_ready(batch)).scalars())
        if len(keys) <= size:
            return []
        for number, start in enumerate(range(0, len(keys), size), start=1):
            first_key = keys[start - 1] if start else batch.cursor
            _insert(
                connection,
                now,
                batch_id=f"{batch.batch_id}.{len(known) + number}",
                kind="shard",
                night=batch.night,
                parent_id=batch.batch_id,
                cursor=first_key,
                first_key=first_key,
                last_key=keys[min(start + size, len(keys)) - 1],
                stop_at=batch.stop_at,
            )
        found = _shard_rows(connection, batch.batch_id)
        return [shard for shard in found if shard.finished_at is None]


def shards(ledger: Ledger, batch_id: str) -> list[Batch]:
    """The parts of a batch, in key order."""
    with ledger.reading() as connection:
        return _shard_rows(connection, batch_id)


def read(ledger: Ledger, batch_id: str) -> Batch:
    """A batch. Raises LookupError."""
    with ledger.reading() as connection:
        found = _row(connection, batch_id)
    if found is None:
        raise LookupError(f"no batch is called {batch_id!r}")
    return found


def take(ledger: Ledger, batch_id: str, run_id: str) -> Batch | None:
    """Take the batch's lease for a run; None while another process that may live has it.

    So it is while the batch's shards are under way. A batch that was finished begins again at its
    first key: something of it came back.
    """
    holder = leases.holder_of_this_process(run_id)
    with ledger.writing() as connection:
        found = _row(connection, batch_id, lock=True)
        now = ledger.clock()
        if found is None or _is_held(found, holder, now):
            return None
        if any(part.finished_at is None for part in _shard_rows(connection, batch_id)):
            return None
        changes: dict[str, Any] = {"run_id": run_id, "lease_holder": holder}
        if found.finished_at is not None:
            changes |= {"finished_at": None, "cursor": found.first_key, "deaths": 0}
        _update(connection, batch_id, now, **changes, lease_expires_at=_until(now))
    return read(ledger, batch_id)


def renew(ledger: Ledger, batch: Batch) -> bool:
    """Say that the runner lives: its batch's lease and those of the refunds in its hands.

    False when the batch has another runner by now.
    """
    row, refund = schema.batches.c, schema.refunds.c
    with ledger.writing() as connection:
        until = _until(ledger.clock())
        renewed = connection.execute(
            schema.batches.update()
            .where(row.batch_id == batch.batch_id, row.lease_holder == batch.lease_holder)
            .values(lease_expires_at=until)
        ).rowcount
        connection.execute(
            schema.refunds.update()
            .where(*in_hand(batch), refund.lease_holder == batch.lease_holder)
            .values(lease_expires_at=until)
        )
    return renewed == 1


def next_keys(ledger: Ledger, batch: Batch, limit: int, after: str = "") -> list[str]:
    """The next refunds of the batch that can be carried on, in key order, after a key."""
    with ledger.reading() as connection:
        found = _row(connection, batch.batch_id) or batch
        query = _ready(found).where(schema.refunds.c.refund_id > after)
        return list(connection.execute(query.limit(limit)).scalars())


def advance(ledger: Ledger, batch: Batch, cursor: str) -> None:
    """Note how far the batch has got."""
    with ledger.writing() as connection:
        _update(connection, batch.batch_id, ledger.clock(), cursor=cursor, deaths=0)


def assign(ledger: Ledger, batch_id: str, run_id: str, run_number: int) -> None:
    """Make a run the batch's own, and that of every refund it carries."""
    row, now = schema.refunds.c, ledger.clock()
    if read(ledger, batch_id).run_number >= run_number:
        return  # nothing to write, and nobody to wait for who does
    with ledger.writing() as connection:
        found = _row(connection, batch_id, lock=True)
        if found is None or found.run_number >= run_number:
            return
        died = int(found.run_id not in (None, run_id) and found.finished_at is None)
        _update(
            connection,
            batch_id,
            now,
            run_id=run_id,
            run_number=run_number,
            deaths=found.deaths + died,
        )
        connection.execute(
            schema.refunds.update()
            .where(*in_hand(found), row.outcome.is_(None))
            .values(run_id=run_id)
        )


def leave_to_next_night(ledger: Ledger, batch: Batch) -> int:
    """What the night has not begun goes to the next one; returns how many."""
    row = schema.refunds.c
    with ledger.writing() as connection:
        return int(
            connection.execute(
                schema.refunds.update()
                .where(*in_hand(batch), row.state == State.RECEIVED)
                .values(lane="nightly", run_id=None)
            ).rowcount
        )


def dissolve(ledger: Ledger, batch: Batch) -> None:
    """Nobody can run this batch: each of its refunds gets a run of its own from the sweep."""
    row, now = schema.refunds.c, ledger.clock()
    with ledger.writing() as connection:
        connection.execute(
            schema.refunds.update()
            .where(*in_hand(batch), row.outcome.is_(None))
            .values(lane="now", run_id=None)
        )
        _update(connection, batch.batch_id, now, finished_at=now, **_no_lease())


def finish(ledger: Ledger, batch: Batch) -> str | None:
    """Close the batch and give its lease back; with a last shard, returns the batch it is part of.

    That one is closed by whoever takes it next. A stale runner closes nothing.
    """
    with ledger.writing() as connection:
        if batch.parent_id is not None:
            # Of two shards that end at the same time one is the last.
            _row(connection, batch.parent_id, lock=True)
        found = _row(connection, batch.batch_id, lock=True)
        if found is None or found.lease_holder != batch.lease_holder:
            return None
        now = ledger.clock()
        _update(connection, batch.batch_id, now, finished_at=now, **_no_lease())
        if batch.parent_id is None:
            return None
        siblings = _shard_rows(connection, batch.parent_id)
        return batch.parent_id if all(each.finished_at for each in siblings) else None


def release(ledger: Ledger, batch: Batch) -> None:
    """Give the lease back; a stale runner's release changes nothing."""
    row = schema.batches.c
    with ledger.writing() as connection:
        connection.execute(
            schema.batches.update()
            .where(row.batch_id == batch.batch_id, row.lease_holder == batch.lease_holder)
            .values(**_no_lease())
        )


def to_launch(ledger: Ledger) -> list[Batch]:
    """Batches that some run should be carrying on and none is: not finished, or called back.

    A batch whose shards are under way is not among them.
    """
    batch, refund, shard = schema.batches.c, schema.refunds.c, schema.batches.alias()
    shared_out = sa.exists().where(
        shard.c.parent_id == batch.batch_id, shard.c.finished_at.is_(None)
    )
    called_back = sa.select(sa.func.coalesce(refund.burst_id, refund.batch_id)).where(
        *is_carried(), ~is_waiting(), refund.given_up.is_(None)
    )
    is_unfinished = batch.finished_at.is_(None)
    query = (
        sa.select(schema.batches)
        .where(sa.or_(is_unfinished, batch.batch_id.in_(called_back)), ~shared_out)
        .order_by(batch.batch_id)
    )
    with ledger.reading() as connection:
        found = [of_row(row) for row in connection.execute(query).mappings()]
    now = ledger.clock()
    return [row for row in found if not _is_held(row, "", now)]


def is_carried() -> tuple[sa.ColumnElement[bool], ...]:
    """In words that the index of what is in hand understands: without parameters."""
    row = schema.refunds.c
    return row.lane == sa.literal_column("'batch'"), row.outcome.is_(None)


def _ready(batch: Batch) -> Any:
    row = schema.refunds.c
    return (
        sa.select(row.refund_id)
        .where(*in_hand(batch), row.outcome.is_(None))
        # What a person gave up is undone by a run of its own.
        .where(row.refund_id > batch.cursor, row.given_up.is_(None))
        .where(~is_waiting())
        .order_by(row.refund_id)
    )


def members(batch: Batch) -> list[sa.ColumnElement[bool]]:
    """The refunds that the batch, or the shard, has taken in: what a query is narrowed by."""
    row = schema.refunds.c
    if batch.is_burst:
        return [row.burst_id == batch.batch_id]
    mine = [row.batch_id == batch.members_of, row.refund_id > batch.first_key]
    return mine if batch.last_key is None else [*mine, row.refund_id <= batch.last_key]


def in_hand(batch: Batch) -> list[sa.ColumnElement[bool]]:
    """Those of its members that it carries itself: not in a run of their own, nor in a burst."""
    row = schema.refunds.c
    mine = [*members(batch), row.lane == "batch"]
    return mine if batch.is_burst else [*mine, row.burst_id.is_(None)]


def is_waiting() -> sa.Exists:
    """Whether a refund of the query waits for somebody or something."""
    wait = schema.waits.c
    return sa.exists().where(
        wait.refund_id == schema.refunds.c.refund_id,
        wait.ended_at.is_(None),
        wait.passed_at.is_(None),
    )


def _is_held(batch: Batch, holder: str, now: datetime) -> bool:
    if batch.lease_holder == holder:
        return False
    return leases.is_current(batch.lease_holder, batch.lease_expires_at, now)


def _until(now: datetime) -> datetime:
    return now + timedelta(seconds=LEASE_SECONDS)


def _no_lease() -> dict[str, None]:
    return {"lease_holder": None, "lease_expires_at": None}


def _shard_rows(connection: sa.Connection, batch_id: str) -> list[Batch]:
    query = (
        sa.select(schema.batches)
        .where(schema.batches.c.parent_id == batch_id)
        .order_by(schema.batches.c.last_key)
    )
    return [of_row(row) for row in connection.execute(query).mappings()]


def _row(connection: sa.Connection, batch_id: str, *, lock: bool = False) -> Batch | None:
    query = sa.select(schema.batches).where(schema.batches.c.batch_id == batch_id)
    found = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return of_row(found) if found else None


def of_row(row: Any) -> Batch:
    """A batch by its row."""
    return Batch(**{name: row[name] for name in Batch.__dataclass_fields__})


def _insert(connection: sa.Connection, now: datetime, **columns: Any) -> None:
    values = {"cursor": "", "run_number": 0, "deaths": 0, **columns}
    connection.execute(schema.batches.insert().values(**values, opened_at=now, updated_at=now))


def _update(connection: sa.Connection, batch_id: str, now: datetime, **columns: Any) -> None:
    connection.execute(
        schema.batches.update()
        .where(schema.batches.c.batch_id == batch_id)
        .values(**columns, updated_at=now)
    )
