"""What waits for a person: open questions, urgent ones first, then the oldest deadline.

One query a page, by key and not by offset, whatever the number of waiting refunds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from refunds.authority import APPROVER, Person, folded
from refunds.errors import BadInput
from refunds.ledger import people, schema
from refunds.ledger.book import Ledger
from refunds.ledger.people import Register
from refunds.ledger.questions import NORMAL, OPEN, URGENT

# A page that a person reads, and the largest that a program may ask for.
_PAGE_ROWS = 50
_LARGEST_PAGE_ROWS = 500

# Where a page ended: priority, deadline, approval.
Cursor = tuple[int, datetime, str]


@dataclass(frozen=True)
class Filters:
    """What an inbox is narrowed to; amounts in minor units of `currency`, which they need."""

    currency: str | None = None
    at_least_minor: int | None = None
    at_most_minor: int | None = None
    level: str | None = None
    due_before: datetime | None = None
    is_urgent: bool | None = None
    order_id: str | None = None
    customer_id: str | None = None


@dataclass(frozen=True)
class Waiting:
    """One open question; `approvals_so_far` of the `people_needed` have approved it."""

    approval_id: str
    refund_id: str
    digest: str
    amount_minor: int
    currency: str
    order_id: str
    customer_id: str
    requested_by: str
    level: str
    is_urgent: bool
    people_needed: int
    verified_needed: bool
    approvals_so_far: int
    asked_at: datetime
    deadline: datetime
    reasons: tuple[str, ...]

    @property
    def cursor(self) -> Cursor:
        """Where the next page begins after this row."""
        return (URGENT if self.is_urgent else NORMAL, self.deadline, self.approval_id)


def waiting_for(
    ledger: Ledger,
    person: str | None = None,
    filters: Filters | None = None,
    after: Cursor | None = None,
    limit: int = _PAGE_ROWS,
) -> list[Waiting]:
    """The open questions that a person may answer and has not, urgent first, then by deadline.

    Left out for them are their own requests, amounts above their limit, and what they or somebody
    for them have answered. Without a `person` it is every open question. `after` is the last
    row's `cursor` of the page before; a page has at most 500 rows. What is shown here is checked
    again when it is decided. Raises BadInput for amounts without a currency.
    """
    wanted = filters or Filters()
    amounts = (wanted.at_least_minor, wanted.at_most_minor)
    if wanted.currency is None and amounts != (None, None):
        raise BadInput("an amount to filter by needs its currency")
    with ledger.reading() as connection:
        query = _narrowed(_open_questions(ledger.clock()), wanted)
        if person is not None:
            query = query.where(*_theirs(people.register(connection), person, ledger.clock()))
        if after is not None:
            query = query.where(_after(after))
        rows = connection.execute(query.limit(min(max(limit, 1), _LARGEST_PAGE_ROWS)))
        return [_waiting(row) for row in rows.mappings()]


def count_waiting(ledger: Ledger) -> int:
    """How many questions are open."""
    query = sa.select(sa.func.count()).where(
        schema.approvals.c.status == OPEN, schema.approvals.c.deadline > ledger.clock()
    )
    with ledger.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _open_questions(now: datetime) -> sa.Select[Any]:
    asked, refund, given = schema.approvals.c, schema.refunds.c, schema.decisions.c
    approved = (
        sa.select(sa.func.count())
        .where(given.approval_id == asked.approval_id)
        .scalar_subquery()
        .label("approvals_so_far")
    )
    return (
        sa.select(
            *(asked.approval_id, asked.refund_id, asked.digest, asked.requested_by, asked.level),
            *(asked.priority, asked.people_needed, asked.verified_needed, asked.reasons),
            *(asked.opened_at, asked.deadline, approved),
            *(refund.amount_minor, refund.currency, refund.order_id, refund.customer_id),
        )
        .join_from(schema.approvals, schema.refunds, refund.refund_id == asked.refund_id)
        .where(asked.status == OPEN, asked.deadline > now)
        .order_by(asked.priority, asked.deadline, asked.approval_id)
    )


def _narrowed(query: sa.Select[Any], filters: Filters) -> sa.Select[Any]:
    asked, refund = schema.approvals.c, schema.refunds.c
    conditions: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
        "currency": lambda value: refund.currency == value,
        "at_least_minor": lambda value: refund.amount_minor >= value,
        "at_most_minor": lambda value: refund.amount_minor <= value,
        "level": lambda value: asked.level == value,
        "due_before": lambda value: asked.deadline < value,
        "is_urgent": lambda value: asked.priority == (URGENT if value else NORMAL),
        "order_id": lambda value: refund.order_id == value,
        "customer_id": lambda value: refund.customer_id == value,
    }
    for name, condition in conditions.items():
        value = getattr(filters, name)
        if value is not None:
            query = query.where(condition(value))
    return query


def _theirs(register: Register, name: str, now: datetime) -> list[sa.ColumnElement[bool]]:
    """What this person may answer: neither their own nor answered, and within their rights."""
    asked, given = schema.approvals.c, schema.decisions.c
    person = register.find(name)
    own = person.aliases if person else frozenset({folded(name)})
    mine = folded(person.person_id) if person else folded(name)
    answered = sa.exists().where(
        given.approval_id == asked.approval_id,
        sa.or_(
            given.person_key == mine,
            given.for_person == (person.person_id if person else name.strip()),
        ),
    )
    conditions: list[sa.ColumnElement[bool]] = [
        asked.requester_key.not_in(own),
        asked.customer_key.not_in(own),
        ~answered,
    ]
    if register:
        conditions.append(_within_rights(register, person, now))
    return conditions


def _within_rights(
    register: Register, person: Person | None, now: datetime
) -> sa.ColumnElement[bool]:
    asked = schema.approvals.c
    if person is None:
        return sa.and_(~asked.verified_needed, asked.people_needed == 1)
    if not person.is_active:
        return sa.false()
    roles = {role for one in (person, *register.away_for(person, now)) for role in one.roles}
    audiences = [asked.audiences.contains(f"|{role}|", autoescape=True) for role in roles]
    has_role = sa.true() if APPROVER in roles else sa.or_(sa.false(), *audiences)
    refund = schema.refunds.c
    listed = [
        sa.and_(refund.currency == currency, refund.amount_minor <= limit)
        for currency, limit in person.limits.items()
    ]
    unlisted = sa.and_(
        refund.currency.not_in(list(person.limits)), refund.amount_minor <= asked.limit_minor
    )
    return sa.and_(has_role, sa.or_(unlisted, *listed))


def _after(cursor: Cursor) -> sa.ColumnElement[bool]:
    asked = schema.approvals.c
    order = (asked.priority, asked.deadline, asked.approval_id)
    last = (sa.literal(value, by.type) for value, by in zip(cursor, order, strict=True))
    return sa.tuple_(*order) > sa.tuple_(*last)


def _waiting(row: Any) -> Waiting:
    return Waiting(
        approval_id=row["approval_id"],
        refund_id=row["refund_id"],
        digest=row["digest"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        order_id=row["order_id"],
        customer_id=row["customer_id"],
        requested_by=row["requested_by"],
        level=row["level"],
        is_urgent=row["priority"] == URGENT,
        people_needed=row["people_needed"],
        verified_needed=row["verified_needed"],
        approvals_so_far=row["approvals_so_far"],
        asked_at=row["opened_at"],
        deadline=row["deadline"],
        reasons=tuple(reason["text"] for reason in row["reasons"] or ()),
    )
