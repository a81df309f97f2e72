"""Who may put refunds back on their feet: whoever may decide about some."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends

from refunds.authority import may_not_steer
from refunds.ledger import people
from refunds.service.problems import Refused
from refunds.service.who import Person, Visitor, Writer
from tasks import books


def why_not(visitor: Visitor) -> str | None:
    """Why this person may not resume or reset refunds, or None when they may."""
    with books.ledger().reading() as connection:
        register = people.register(connection)
    return may_not_steer(
        visitor.person_id,
        register.find(visitor.person_id),
        frozenset(level.audience for level in books.policy().approval.levels),
        anyone_registered=bool(register),
    )


def _steering(visitor: Visitor) -> Visitor:
    refusal = why_not(visitor)
    if refusal is not None:
        what_to_do = "Ask one of them, or whoever keeps `refunds people`."
        raise Refused(HTTPStatus.FORBIDDEN, "role-needed", refusal, what_to_do)
    return visitor


def looker(visitor: Person) -> Visitor:
    """A dependency of pages for those who steer."""
    return _steering(visitor)


def steerer(visitor: Writer) -> Visitor:
    """A dependency of forms that steer."""
    return _steering(visitor)


Looker = Annotated[Visitor, Depends(looker)]
Steerer = Annotated[Visitor, Depends(steerer)]
