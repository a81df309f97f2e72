"""Many refunds in one transaction: their rows locked in key order, everything written in bulk."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from refunds.ledger import schema
from refunds.ledger.book import LEASE_SECONDS, Ledger, Page

Rows = list[dict[str, Any]]

# What an UPDATE's key is called among its parameters: a column's name belongs to its new value.
_KEY = "key_"


@dataclass
class _Writes:
    """What a transaction will write, by statement."""

    inserts: dict[sa.Table, Rows] = field(default_factory=lambda: defaultdict(list))
    updates: dict[tuple[Any, ...], Rows] = field(default_factory=lambda: defaultdict(list))
    money: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))


@dataclass
class BulkPage(Page):
    """One refund's page among many: what it writes waits for the others."""

    writes: _Writes = field(default_factory=_Writes)

    def insert(self, table: sa.Table, **values: Any) -> None:
        """As on a page of its own."""
        self.writes.inserts[table].append(values)

    def update(self, table: sa.Table, key: dict[str, Any], **columns: Any) -> None:
        """As on a page of its own."""
        statement = (table, tuple(sorted(key)), tuple(sorted(columns)))
        named = {f"{_KEY}{name}": value for name, value in key.items()}
        self.writes.updates[statement].append({**named, **columns})

    def move_money(self, charge_id: str, *, reserved_minor: int, refunded_minor: int) -> None:
        """As on a page of its own."""
        moved = self.writes.money[charge_id]
        moved[0] += reserved_minor
        moved[1] += refunded_minor

    def write(self) -> None:
        """Hand the changed columns of the refund's row over to the bulk."""
        if self._changes:
            changes = {**self._changes, "updated_at": self.now}
            self.update(schema.refunds, {"refund_id": self.refund_id}, **changes)
            self._changes.clear()


@dataclass
class Pages:
    """The pages that are the caller's, by refund id in key order; `stale` are others' by now."""

    connection: sa.Connection
    now: datetime
    mine: dict[str, BulkPage] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    _writes: _Writes = field(default_factory=_Writes)

    def add(self, row: dict[str, Any]) -> BulkPage:
        """Open the page of a row that this transaction has locked or inserted."""
        page = BulkPage(self.connection, self.now, row, writes=self._writes)
        self.mine[page.refund_id] = page
        return page

    def write(self) -> None:
        """Write all of it; called once, at the end of the transaction."""
        for page in self.mine.values():
            page.write()
        _write(self.connection, self._writes)


@contextmanager
def open_pages(ledger: Ledger, fences: Mapping[str, int | None]) -> Iterator[Pages]:
    """Many refunds' pages in one transaction; what is written on them is committed together.

    With a fence the caller claims to be the refund's runner: the refund is `stale` unless it
    still is, and its lease is renewed.
    """
    with ledger.writing() as connection:
        query = (
            sa.select(schema.refunds)
            .where(among(connection, schema.refunds.c.refund_id, fences))
            .order_by(schema.refunds.c.refund_id)
            .with_for_update()
        )
        rows = [dict(row) for row in connection.execute(query).mappings()]
        pages = Pages(connection, ledger.clock(), stale=set(fences))
        until = pages.now + timedelta(seconds=LEASE_SECONDS)
        for row in rows:
            fence = fences[row["refund_id"]]
            if fence is not None and (row["fence"] != fence or row["lease_holder"] is None):
                continue
            page = pages.add(row)
            pages.stale.discard(page.refund_id)
            if fence is not None:
                page.change(lease_expires_at=until)
        yield pages
        pages.write()


def among(connection: sa.Connection, column: Any, values: Iterable[str]) -> Any:
    """`column` is one of `values`, as one parameter however many there are."""
    wanted = list(values)
    if connection.dialect.name == "postgresql":
        array = sa.literal(wanted, postgresql.ARRAY(sa.Text))
        return column == sa.any_(array)
    listed = sa.func.json_each(json.dumps(wanted)).table_valued("value")
    return column.in_(sa.select(listed.c.value))


def _write(connection: sa.Connection, writes: _Writes) -> None:
    for table, rows in writes.inserts.items():
        connection.execute(table.insert(), rows)
    for (table, key, _), rows in writes.updates.items():
        where = [table.c[name] == sa.bindparam(f"{_KEY}{name}") for name in key]
        columns: dict[str, Any] = {
            name: sa.bindparam(name) for name in rows[0] if not name.startswith(_KEY)
        }
        connection.execute(table.update().where(*where).values(**columns), rows)
    # In one order for everybody, as the rows were locked.
    moved = [
        {f"{_KEY}charge_id": charge_id, "reserved": amounts[0], "refunded": amounts[1]}
        for charge_id, amounts in sorted(writes.money.items())
    ]
    if moved:
        row = schema.charges.c
        connection.execute(
            schema.charges.update()
            .where(row.charge_id == sa.bindparam(f"{_KEY}charge_id"))
            .values(
                reserved_minor=row.reserved_minor + sa.bindparam("reserved"),
                refunded_minor=row.refunded_minor + sa.bindparam("refunded"),
            ),
            moved,
        )
