"""Who may put refunds back on their feet: whoever may decide about some."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends

from refunds.authority import may_not_steer
from refunds.ledger import people
from refunds.ledger.access.api_keys import ApiKey
from refunds.scopes import Scope
from refunds.service import limits, who
from refunds.service.problems import Refused
from refunds.service.who import Person, Visitor, Writer
from tasks import books


def why_not(person_id: str) -> str | None:
    """Why this person may not resume or reset refunds, or None when they may."""
    with books.ledger().reading() as connection:
        register = people.register(connection)
    return may_not_steer(
        person_id,
        register.find(person_id),
        frozenset(level.audience for level in books.policy().approval.levels),
        anyone_registered=bool(register),
    )


def _check(person_id: str) -> None:
    refusal = why_not(person_id)
    if refusal is not None:
        what_to_do = "Ask one of them, or whoever keeps `refunds people`."
        raise Refused(HTTPStatus.FORBIDDEN, "role-needed", refusal, what_to_do)


def looker(visitor: Person) -> Visitor:
    """A dependency of pages for those who steer."""
    limits.people.spend(visitor.person_id)
    _check(visitor.person_id)
    return visitor


def steerer(visitor: Writer) -> Visitor:
    """A dependency of forms that steer."""
    _check(visitor.person_id)
    return visitor


def program(key: Annotated[ApiKey, Depends(who.machine(Scope.STEER))]) -> ApiKey:
    """A dependency of calls that steer: the scope, and the role of whom the key belongs to."""
    if key.person_id is not None:
        _check(key.person_id)
    return key


Looker = Annotated[Visitor, Depends(looker)]
Steerer = Annotated[Visitor, Depends(steerer)]
SteeringKey = Annotated[ApiKey, Depends(program)]
