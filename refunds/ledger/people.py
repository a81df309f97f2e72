"""Who may decide: the people of the finance team, with every change of their rights on record.

While nobody is in here, a name at a door counts as the door knows it (`refunds decide --as
alice` on a fresh ledger). The first person that is added turns on the rules for registered people
(refunds/authority.py), for good: so an account that merely signs somebody in to the embedded
stack is no reason to add a person. People are never deleted, only made inactive.

Credentials are not kept here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from refunds.authority import Person, folded
from refunds.digests import digest
from refunds.errors import BadInput, HistoryBroken, UnknownPerson
from refunds.ledger import schema
from refunds.ledger.book import Ledger
from refunds.origin import Origin

_COLUMNS = tuple(Person.model_fields)


@dataclass(frozen=True)
class Register:
    """All people at one moment."""

    people: tuple[Person, ...]

    def __bool__(self) -> bool:
        """Whether anybody is registered, active or not."""
        return bool(self.people)

    def find(self, name: str) -> Person | None:
        """Who is meant by a name: an id, or the one person with this name or contact."""
        wanted = folded(name)
        for person in self.people:
            if folded(person.person_id) == wanted:
                return person
        alike = [person for person in self.people if wanted in person.aliases]
        return alike[0] if len(alike) == 1 else None

    def away_for(self, delegate: Person, now: datetime) -> tuple[Person, ...]:
        """For whom a person may act now."""
        return tuple(
            person
            for person in self.people
            if person.is_active
            and person.is_away(now)
            and person.delegate_to is not None
            and folded(person.delegate_to) == folded(delegate.person_id)
        )


def register(connection: sa.Connection) -> Register:
    """Everybody, within the caller's transaction."""
    rows = connection.execute(sa.select(schema.people).order_by(schema.people.c.person_id))
    return Register(tuple(_person(row) for row in rows.mappings()))


def listed(ledger: Ledger) -> list[Person]:
    """Everybody in key order, the inactive too."""
    with ledger.reading() as connection:
        return list(register(connection).people)


def find(ledger: Ledger, name: str) -> Person | None:
    """Who is meant by a name, or None when nobody is registered under it."""
    with ledger.reading() as connection:
        return register(connection).find(name)


def acts_for(ledger: Ledger, person_id: str) -> list[Person]:
    """For whom this person may act now, because they are away. Raises UnknownPerson."""
    with ledger.reading() as connection:
        people = register(connection)
    return list(people.away_for(_known(people, person_id), ledger.clock()))


def add(ledger: Ledger, person: Person, *, by: str, origin: Origin | None = None) -> Person:
    """Register a person; the same person again changes nothing.

    Raises BadInput when the id is taken by another person or the delegate is not registered.
    """
    with ledger.writing() as connection:
        _one_at_a_time(connection)
        people = register(connection)
        known = people.find(person.person_id)
        if known == person:
            return known
        if known is not None and folded(known.person_id) == folded(person.person_id):
            raise BadInput(
                f"{known.person_id} is registered already; change it with `refunds people limit` "
                "or `away`"
            )
        _check_delegate(people, person)
        connection.execute(
            schema.people.insert().values(person_key=folded(person.person_id), **_row(person))
        )
        data = {**person.plain(), **_changed_by(by, origin)}
        _append(connection, ledger.clock(), "person.added", data)
    return person


def change(
    ledger: Ledger, person_id: str, *, by: str, origin: Origin | None = None, **fields: Any
) -> Person:
    """Change fields of a person: roles, limits, contact, an absence, is_active.

    Raises UnknownPerson, or pydantic's ValidationError for what a person cannot have.
    """
    with ledger.writing() as connection:
        _one_at_a_time(connection)
        people = register(connection)
        before = _known(people, person_id)
        after = Person.model_validate({**before.model_dump(), **fields})
        if after == before:
            return after
        _check_delegate(people, after)
        connection.execute(
            schema.people.update()
            .where(schema.people.c.person_id == before.person_id)
            .values(**_row(after))
        )
        then, now = before.plain(), after.plain()
        changed = {
            name: {"then": then[name], "now": now[name]} for name in now if now[name] != then[name]
        }
        data = {"person_id": before.person_id, "changed": changed, **_changed_by(by, origin)}
        _append(connection, ledger.clock(), "person.changed", data)
    return after


def events(ledger: Ledger, after: int = 0, limit: int = 1_000) -> list[dict[str, Any]]:
    """Changes of people's rights from the first one after a sequence number, as JSON types."""
    row = schema.people_history.c
    query = (
        sa.select(schema.people_history)
        .where(row.sequence > after)
        .order_by(row.sequence)
        .limit(limit)
    )
    with ledger.reading() as connection:
        return [_plain(found) for found in connection.execute(query).mappings()]


def check(ledger: Ledger) -> None:
    """Raise HistoryBroken at the first change that does not follow from the one before."""
    previous, position = "", 0
    for position, event in enumerate(_all_events(ledger), start=1):
        content = {key: value for key, value in event.items() if key != "digest"}
        follows = event["sequence"] == position and event["previous_digest"] == previous
        if not follows or digest(content) != event["digest"]:
            raise HistoryBroken(f"the history of people does not verify at event {position}")
        previous = event["digest"]


def _all_events(ledger: Ledger) -> Iterator[dict[str, Any]]:
    after = 0
    while found := events(ledger, after):
        yield from found
        after = found[-1]["sequence"]


def _known(people: Register, person_id: str) -> Person:
    person = people.find(person_id)
    if person is None:
        raise UnknownPerson(person_id)
    return person


def _check_delegate(people: Register, person: Person) -> None:
    if person.delegate_to is None:
        return
    delegate = people.find(person.delegate_to)
    if delegate is None or not delegate.is_active:
        raise BadInput(f"the delegate {person.delegate_to!r} is not an active registered person")


def _one_at_a_time(connection: sa.Connection) -> None:
    """Changes of people are rare and form one chain; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        # The number is ours alone; the one beside it belongs to migrations.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305462)")


def _changed_by(by: str, origin: Origin | None) -> dict[str, Any]:
    return {"by": by, "origin": origin.plain() if origin else None}


def _append(connection: sa.Connection, now: datetime, event: str, data: dict[str, Any]) -> None:
    row = schema.people_history.c
    last = connection.execute(
        sa.select(row.sequence, row.digest).order_by(row.sequence.desc()).limit(1)
    ).first()
    entry = {
        "sequence": last.sequence + 1 if last else 1,
        "at": now.isoformat(),
        "event": event,
        "data": data,
        "previous_digest": last.digest if last else "",
    }
    connection.execute(
        schema.people_history.insert().values(**{**entry, "at": now, "digest": digest(entry)})
    )


def _person(row: Any) -> Person:
    return Person.model_validate({name: row[name] for name in _COLUMNS})


def _row(person: Person) -> dict[str, Any]:
    return {**person.model_dump(), "roles": list(person.roles)}


def _plain(row: Any) -> dict[str, Any]:
    return {**row, "at": row["at"].isoformat()}
