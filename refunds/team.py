"""The Python API for people: who may decide, up to what, and who stands in for whom."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from refunds.authority import APPROVER, Person
from refunds.errors import BadInput
from refunds.ledger import people
from refunds.origin import Origin
from tasks import books

_HERE = Origin.of("api")


class People:
    """Who may decide. Every change says `by` whom it was made and stays on record."""

    def add(
        self,
        person_id: str,
        *,
        by: str,
        name: str = "",
        roles: Sequence[str] = (APPROVER,),
        limits: Mapping[str, int] | None = None,
        contact: str = "",
        origin: Origin = _HERE,
    ) -> Person:
        """Register a person. `limits` are in minor units per currency; the rest is the policy's.

        The first one turns on the rules for registered people. Raises BadInput.
        """
        person = _valid(
            lambda: Person.model_validate(
                {
                    "person_id": person_id,
                    "name": name or person_id,
                    "roles": tuple(roles),
                    "limits": dict(limits or {}),
                    "contact": contact,
                }
            )
        )
        return people.add(books.ledger(), person, by=by, origin=origin)

    def list(self) -> list[Person]:
        """Everybody in key order, who left as well."""
        return people.listed(books.ledger())

    def limit(
        self, person_id: str, limits: Mapping[str, int], *, by: str, origin: Origin = _HERE
    ) -> Person:
        """Set up to what a person may approve in these currencies; the others stay.

        Raises UnknownPerson or BadInput.
        """
        known = people.find(books.ledger(), person_id)
        merged = {**(known.limits if known else {}), **limits}
        return _changed(person_id, by, origin, limits=merged)

    def away(
        self,
        person_id: str,
        *,
        until: datetime,
        delegate_to: str,
        by: str,
        since: datetime | None = None,
        origin: Origin = _HERE,
    ) -> Person:
        """Let `delegate_to` act for a person who is away, from `since` (default: now) to `until`.

        Raises UnknownPerson or BadInput.
        """
        start = since or books.ledger().clock()
        absence = {"away_from": start, "away_until": until, "delegate_to": delegate_to}
        return _changed(person_id, by, origin, **absence)

    def back(self, person_id: str, *, by: str, origin: Origin = _HERE) -> Person:
        """End a person's absence. Raises UnknownPerson."""
        nobody = dict.fromkeys(("away_from", "away_until", "delegate_to"))
        return _changed(person_id, by, origin, **nobody)

    def remove(self, person_id: str, *, by: str, origin: Origin = _HERE) -> Person:
        """Take all rights from a person, who stays on record. Raises UnknownPerson."""
        return _changed(person_id, by, origin, is_active=False)


class AsyncPeople:
    """As `People`, with await."""

    async def add(self, person_id: str, **fields: Any) -> Person:
        """As `People.add`."""
        return await asyncio.to_thread(People().add, person_id, **fields)

    async def list(self) -> list[Person]:
        """As `People.list`."""
        return await asyncio.to_thread(People().list)

    async def limit(self, person_id: str, limits: Mapping[str, int], **fields: Any) -> Person:
        """As `People.limit`."""
        return await asyncio.to_thread(People().limit, person_id, limits, **fields)

    async def away(self, person_id: str, **fields: Any) -> Person:
        """As `People.away`."""
        return await asyncio.to_thread(People().away, person_id, **fields)

    async def back(self, person_id: str, **fields: Any) -> Person:
        """As `People.back`."""
        return await asyncio.to_thread(People().back, person_id, **fields)

    async def remove(self, person_id: str, **fields: Any) -> Person:
        """As `People.remove`."""
        return await asyncio.to_thread(People().remove, person_id, **fields)


def _changed(person_id: str, by: str, origin: Origin, **fields: Any) -> Person:
    return _valid(lambda: people.change(books.ledger(), person_id, by=by, origin=origin, **fields))


def _valid(make: Callable[[], Person]) -> Person:
    try:
        return make()
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'] if part != '[key]') or 'absence'}: "
            f"{e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_input=False)
        )
        raise BadInput(f"a person cannot be kept so: {wrong}") from error
