"""Each refund with all that belongs to it, read in batches from one snapshot of the ledger."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from refunds.errors import UnknownRefund
from refunds.ledger import schema
from refunds.ledger.effects import PAYMENT_STEP
from refunds.ledger.settling import SETTLED

# Refunds are read with all that belongs to them, this many at once: some megabytes.
_REFUNDS_AT_ONCE = 200

Grouped = dict[str, list[dict[str, Any]]]


@dataclass
class Dossier:
    """One refund with all that belongs to it."""

    row: dict[str, Any]
    events: list[dict[str, Any]]
    effects: list[dict[str, Any]]
    approvals: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    reservation: dict[str, Any] | None

    @property
    def refund_id(self) -> str:
        """Whose dossier this is."""
        return str(self.row["refund_id"])

    @property
    def payment(self) -> dict[str, Any] | None:
        """The effect that pays, if it was ever intended."""
        return next((e for e in self.effects if e["step"] == PAYMENT_STEP), None)

    @property
    def came_back(self) -> bool:
        """Whether the gateway took the payment back and the ledger knows it."""
        return any(event["event"] == "payment.came_back" for event in self.events)

    @property
    def settled(self) -> dict[str, Any] | None:
        """By what word of people its payment was ended as paid, if it was."""
        found = self.last(SETTLED)
        return found if found.get("is_paid") else None

    def last(self, name: str, *, before: int | None = None) -> dict[str, Any]:
        """The data of the last event of that name (before a sequence number), or nothing."""
        found = [
            event["data"]
            for event in self.events
            if event["event"] == name and (before is None or event["sequence"] < before)
        ]
        return found[-1] if found else {}


@dataclass(frozen=True)
class _Span:
    """The refunds from `after`, which is not among them, to `until`, which is; None is the end."""

    after: str
    until: str | None

    def of(self, query: sa.Select[Any], owner: sa.Column[Any]) -> sa.Select[Any]:
        """The part of a query that belongs to these refunds."""
        query = query.where(owner > self.after)
        return query if self.until is None else query.where(owner <= self.until)


@dataclass(frozen=True)
class _Only:
    """One refund alone."""

    refund_id: str

    def of(self, query: sa.Select[Any], owner: sa.Column[Any]) -> sa.Select[Any]:
        """The part of a query that belongs to it."""
        return query.where(owner == self.refund_id)


def read_one(connection: sa.Connection, refund_id: str) -> Dossier:
    """One refund with all that belongs to it. Raises UnknownRefund."""
    found = _read(connection, _Only(refund_id), [])
    if not found:
        raise UnknownRefund(refund_id)
    return found[0]


def read_all(connection: sa.Connection, problems: list[str]) -> Iterator[Dossier]:
    """Every refund in key order; what cannot be read or has lost its owner becomes a problem."""
    owner, after = schema.refunds.c.refund_id, ""
    while True:
        query = sa.select(owner).where(owner > after).order_by(owner).limit(_REFUNDS_AT_ONCE)
        refund_ids = list(connection.execute(query).scalars())
        if len(refund_ids) < _REFUNDS_AT_ONCE:
            yield from _readable(connection, after, [*refund_ids, None], problems)
            return
        yield from _readable(connection, after, refund_ids, problems)
        after = refund_ids[-1]


def _readable(
    connection: sa.Connection, after: str, ends: list[Any], problems: list[str]
) -> Iterator[Dossier]:
    """The dossiers up to the last of `ends`; one that was made unreadable hides no other."""
    try:
        found = _read(connection, _Span(after, ends[-1]), problems)
    except ValueError as error:
        if len(ends) == 1:
            problems.append(f"{ends[0] or 'the ledger'}: an entry cannot be read: {error}")
            return
        for end in ends:
            yield from _readable(connection, after, [end], problems)
            after = end or after
    else:
        yield from found


def _read(connection: sa.Connection, span: _Span | _Only, problems: list[str]) -> list[Dossier]:
    rows, events, effects, approvals, reservations = (
        _grouped(connection, span.of(sa.select(table), owner).order_by(owner, table.c[order]))
        for table, owner, order in (
            (schema.refunds, schema.refunds.c.refund_id, "submitted_at"),
            (schema.history, schema.history.c.refund_id, "sequence"),
            (schema.effects, schema.effects.c.refund_id, "key"),
            (schema.approvals, schema.approvals.c.refund_id, "round"),
            (schema.reservations, schema.reservations.c.refund_id, "charge_id"),
        )
    )
    owner = schema.approvals.c.refund_id
    votes = sa.select(schema.decisions, owner).join(schema.approvals)
    decisions = _grouped(connection, span.of(votes, owner))
    strangers = {name for part in (events, effects, approvals, reservations) for name in part}
    problems += [
        f"{name}: its entry in the ledger is gone" for name in sorted(strangers - rows.keys())
    ]
    return [
        Dossier(
            row,
            [{**event, "at": event["at"].isoformat()} for event in events[refund_id]],
            effects[refund_id],
            approvals[refund_id],
            decisions[refund_id],
            next(iter(reservations[refund_id]), None),
        )
        for refund_id, [row] in rows.items()
    ]


def _grouped(connection: sa.Connection, query: sa.Select[Any]) -> Grouped:
    grouped: Grouped = defaultdict(list)
    for found in connection.execute(query).mappings():
        grouped[found["refund_id"]].append(dict(found))
    return grouped
