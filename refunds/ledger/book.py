"""The ledger itself: short transactions, one refund's row locked in each, events chained."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from refunds.clock import Clock, system_clock
from refunds.digests import digest
from refunds.errors import StaleRunner, UnknownRefund
from refunds.ledger import schema
from refunds.ledger.engine import connect_to_read
from refunds.models import State

# A runner that wrote nothing for this long is taken for dead. Longer than the longest call with
# its pauses (42 s, tasks/http.py); short enough for another host to take over within a minute.
LEASE_SECONDS = 45


@dataclass
class Page:
    """One refund inside one transaction: its locked row, and the end of its history."""

    connection: sa.Connection
    now: datetime
    row: dict[str, Any]
    _changes: dict[str, Any] = field(default_factory=dict)

    @property
    def refund_id(self) -> str:
        """Whose page this is."""
        return str(self.row["refund_id"])

    def change(self, **columns: Any) -> None:
        """Set columns of the refund's row; written when the transaction ends."""
        self._changes.update(columns)
        self.row.update(columns)

    def enter(self, state: State) -> None:
        """Move the refund to a state and say so in the history, once."""
        if self.row["state"] != state:
            self.append("state.changed", {"from": self.row["state"], "to": str(state)})
            self.change(state=str(state))

    def append(self, event: str, data: dict[str, Any]) -> None:
        """Append an event; it carries the digest of the one before."""
        entry = {
            "refund_id": self.refund_id,
            "sequence": self.row["last_sequence"] + 1,
            "at": self.now.isoformat(),
            "event": event,
            "data": data,
            "previous_digest": self.row["last_digest"],
        }
        entry_digest = digest(entry)
        self.insert(schema.history, **{**entry, "at": self.now, "digest": entry_digest})
        self.change(last_sequence=entry["sequence"], last_digest=entry_digest)

    def insert(self, table: sa.Table, **values: Any) -> None:
        """Insert a row that belongs to this refund."""
        self.connection.execute(table.insert().values(**values))

    def update(self, table: sa.Table, key: dict[str, Any], **columns: Any) -> None:
        """Set columns of the row with this key."""
        self.connection.execute(
            table.update().where(*(table.c[name] == key[name] for name in key)).values(**columns)
        )

    def move_money(self, charge_id: str, *, reserved_minor: int, refunded_minor: int) -> None:
        """Add to what is reserved and refunded on a charge."""
        row = schema.charges.c
        self.connection.execute(
            schema.charges.update()
            .where(row.charge_id == charge_id)
            .values(
                reserved_minor=row.reserved_minor + reserved_minor,
                refunded_minor=row.refunded_minor + refunded_minor,
            )
        )

    def write(self) -> None:
        """Write the changed columns; called by the ledger at the end of the transaction."""
        if self._changes:
            self.connection.execute(
                schema.refunds.update()
                .where(schema.refunds.c.refund_id == self.refund_id)
                .values(**self._changes, updated_at=self.now)
            )
            self._changes.clear()


@dataclass(frozen=True)
class Ledger:
    """The database and the clock."""

    engine: sa.Engine
    clock: Clock = system_clock

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads; on PostgreSQL a further statement sees what is newer."""
        with connect_to_read(self.engine) as connection:
            yield connection

    @contextmanager
    def streaming(self) -> Iterator[sa.Connection]:
        """A transaction that only reads, for rows that the database gives a few at a time."""
        with self.engine.connect().execution_options(reads_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes; never hold it over a network call."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def page(self, refund_id: str, fence: int | None = None) -> Iterator[Page]:
        """One refund's page, locked.

        With a `fence` the caller claims to be the refund's runner: StaleRunner is raised unless
        it still is, and its lease is renewed. Raises UnknownRefund.
        """
        with self.writing() as connection:
            page = open_page(connection, refund_id, self.clock)
            if fence is not None:
                if page.row["fence"] != fence or page.row["lease_holder"] is None:
                    raise StaleRunner(
                        f"{refund_id} is run by another runner now (fence {page.row['fence']}, "
                        f"this one had {fence}); this runner must stop"
                    )
                page.change(lease_expires_at=page.now + timedelta(seconds=LEASE_SECONDS))
            yield page
            page.write()


def open_page(connection: sa.Connection, refund_id: str, clock: Clock) -> Page:
    """Lock a refund's row and open its page. Raises UnknownRefund.

    The clock is read once the row is ours: whoever waited past a deadline is late.
    """
    row = (
        connection.execute(
            sa.select(schema.refunds)
            .where(schema.refunds.c.refund_id == refund_id)
            .with_for_update()
        )
        .mappings()
        .first()
    )
    if row is None:
        raise UnknownRefund(refund_id)
    return Page(connection, clock(), dict(row))
