"""What the CRM, coupons, logistics and notices have in common: a thing is made, maybe undone."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from sandbox.answers import Answer, Ask, Refused
from sandbox.clock import Clock, to_ms
from sandbox.dialects import JSON_DIALECT
from sandbox.door import Effect, Reading
from sandbox.effects import Effects
from sandbox.fault_rules import Rule
from sandbox.identifiers import to_id, to_number
from sandbox.listing import Listing
from sandbox.records import Id, Record, error, parse_nothing, reader_of


class AboutRefund(Record):
    """A body that names our refund request and, as `reference`, the caller's key for the step."""

    refund_id: Id
    reference: Id | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One kind of thing that a system keeps.

    `row` gives the columns of a new row from an accepted body, but for those that every thing
    has (`refund_id`, `reference`); `listing` shows it.
    """

    system: str
    path: str
    made_as: str
    body: type[AboutRefund]
    row: Callable[[Any], dict[str, str | int | None]]
    listing: Listing

    @property
    def table(self) -> str:
        """The table of the things."""
        return self.listing.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """The end of a thing: the verb in the path, the effect's kind and the status it leaves."""

    verb: str
    undone_as: str
    status: str


class Systems:
    """Builds the endpoints of things."""

    def __init__(self, clock: Clock, effects: Effects) -> None:
        self._clock = clock
        self._effects = effects

    def making(self, thing: Thing) -> Effect:
        """Return the endpoint that makes a thing and answers 201 with it."""

        def act(tx: sqlite3.Connection, ask: Ask, fault: Rule | None) -> Answer:
            del fault
            columns = {
                "at_ms": to_ms(self._clock()),
                "refund_id": ask.body.refund_id,
                "reference": ask.body.reference,
                **thing.row(ask.body),
            }
            number = _insert(tx, thing.table, columns)
            self._effects.record(
                tx,
                ask,
                kind=thing.made_as,
                refund_id=ask.body.refund_id,
                request=ask.body.model_dump(mode="json", exclude_unset=True),
                response_id=to_id(thing.listing.prefix, number),
            )
            row = tx.execute(
                f"SELECT * FROM {thing.table} WHERE number = ?",  # noqa: S608  a table of ours
                (number,),
            ).fetchone()
            return Answer.of(201, thing.listing.shown(row))

        return Effect(
            system=thing.system,
            dialect=JSON_DIALECT,
            path=thing.path,
            parse=_parser(reader_of(thing.body)),
            act=act,
            refund_of=lambda _, ask: ask.body.refund_id,
        )

    def undoing(self, thing: Thing, undoing: Undoing) -> Effect:
        """Return the endpoint that ends a thing; a thing that has ended is answered as it is."""

        def act(tx: sqlite3.Connection, ask: Ask, fault: Rule | None) -> Answer:
            del fault
            row = _found(tx, thing, ask)
            if row is None:
                text = f"There is no {thing.listing.prefix} with this id."
                raise Refused(error(404, "not_found", text))
            if row["status"] == undoing.status:
                return Answer.of(200, thing.listing.shown(row))
            tx.execute(
                f"UPDATE {thing.table} SET status = ? WHERE number = ?",  # noqa: S608  a table of ours
                (undoing.status, row["number"]),
            )
            identifier = to_id(thing.listing.prefix, row["number"])
            self._effects.record(
                tx,
                ask,
                kind=undoing.undone_as,
                refund_id=row["refund_id"],
                request={"id": identifier},
                response_id=identifier,
            )
            return Answer.of(200, thing.listing.shown(row) | {"status": undoing.status})

        def refund_of(tx: sqlite3.Connection, ask: Ask) -> str | None:
            row = _found(tx, thing, ask)
            return row["refund_id"] if row else None

        return Effect(
            system=thing.system,
            dialect=JSON_DIALECT,
            path=f"{thing.path}/{{id}}/{undoing.verb}",
            parse=_parser(parse_nothing),
            act=act,
            refund_of=refund_of,
        )

    def listing(self, thing: Thing) -> Reading:
        """Return the endpoint that lists the things."""
        return Reading(
            system=thing.system,
            dialect=JSON_DIALECT,
            path=thing.path,
            read=lambda reader, ask: thing.listing.page(reader, ask.query),
        )


def _parser(parse: Callable[[bytes], Record]) -> Callable[[Request, bytes], object]:
    return lambda _, body: parse(body)


def _insert(tx: sqlite3.Connection, table: str, columns: dict[str, str | int | None]) -> int:
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    cursor = tx.execute(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608  names from the code
        tuple(columns.values()),
    )
    assert cursor.lastrowid is not None  # noqa: S101  an INSERT has one
    return cursor.lastrowid


def _found(tx: sqlite3.Connection, thing: Thing, ask: Ask) -> sqlite3.Row | None:
    number = to_number(thing.listing.prefix, ask.path["id"])
    row: sqlite3.Row | None = tx.execute(
        f"SELECT * FROM {thing.table} WHERE number = ?",  # noqa: S608  a table of ours
        (number,),
    ).fetchone()
    return row
