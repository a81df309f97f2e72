"""Refund requests in the ledger: taken once, found again, listed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from refunds.errors import ContentConflict, UnknownRefund
from refunds.ledger import schema
from refunds.ledger.book import Ledger, open_page
from refunds.ledger.engine import insert_if_absent
from refunds.models import Outcome, Proposal, RefundRequest, Rival, State

# How many rows one statement carries: SQLite's oldest limit on parameters is 999.
_ROWS_AT_ONCE = 400

# An outcome that took nothing leaves the items and the money to others.
_TOOK_NOTHING = (Outcome.REJECTED, Outcome.EXPIRED, Outcome.FAILED)


def submit(
    ledger: Ledger, requests: Sequence[RefundRequest], lane: str = "now"
) -> list[dict[str, Any]]:
    """Take all of the requests or none. The same request again changes nothing.

    Returns each one's row, in the order given. Raises ContentConflict naming the fields that
    differ when an id was taken before with other content.
    """
    with ledger.writing() as connection:
        known = _known(connection, [request.refund_id for request in requests])
        # In key order, so that two batches that overlap wait for each other and never in a ring.
        for request in sorted(requests, key=lambda request: request.refund_id):
            if request.refund_id not in known:
                if _insert(connection, request, lane, ledger):
                    known[request.refund_id] = {"request": request.plain()}
                else:
                    known |= _known(connection, [request.refund_id])
            _same_or_conflict(request, known[request.refund_id])
        rows = _known(connection, [request.refund_id for request in requests])
    return [rows[request.refund_id] for request in requests]


def read(ledger: Ledger, refund_id: str) -> dict[str, Any]:
    """A refund's row. Raises UnknownRefund."""
    with ledger.reading() as connection:
        rows = _known(connection, [refund_id])
    if refund_id not in rows:
        raise UnknownRefund(refund_id)
    return rows[refund_id]


def is_known(ledger: Ledger, refund_id: str) -> bool:
    """Whether a request with this id was ever taken."""
    with ledger.reading() as connection:
        return refund_id in _known(connection, [refund_id])


def in_force(ledger: Ledger, request: RefundRequest) -> tuple[RefundRequest, Proposal | None]:
    """The request with the smaller amount that an approver proposed, if any did."""
    query = sa.select(schema.refunds.c.proposal).where(
        schema.refunds.c.refund_id == request.refund_id
    )
    with ledger.reading() as connection:
        found = connection.execute(query).scalar()
    if found is None:
        return request, None
    proposal = Proposal.model_validate(found)
    return request.model_copy(update={"amount_minor": proposal.amount_minor}), proposal


def listed(
    ledger: Ledger, state: State | None = None, after: str = "", limit: int = 100_000
) -> list[dict[str, Any]]:
    """Rows in key order, from the first id after `after`."""
    query = (
        sa.select(schema.refunds)
        .where(schema.refunds.c.refund_id > after)
        .order_by(schema.refunds.c.refund_id)
        .limit(limit)
    )
    if state is not None:
        query = query.where(schema.refunds.c.state == state)
    with ledger.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def counts(ledger: Ledger) -> dict[str, int]:
    """How many refunds are in each state."""
    query = sa.select(schema.refunds.c.state, sa.func.count()).group_by(schema.refunds.c.state)
    with ledger.reading() as connection:
        return {str(state): int(count) for state, count in connection.execute(query)}


def unfinished(ledger: Ledger, waits_since: datetime) -> list[dict[str, Any]]:
    """Refunds of the "now" lane that are not over and that some run should be carrying on.

    Left out are those that wait, unless they began to wait after `waits_since`: a run that died
    while it lay down to sleep is found here.
    """
    row, wait = schema.refunds.c, schema.waits.c
    asleep = sa.exists().where(
        wait.refund_id == row.refund_id,
        wait.passed_at.is_(None),
        wait.ended_at.is_(None),
        wait.opened_at <= waits_since,
    )
    query = (
        sa.select(schema.refunds)
        .where(row.outcome.is_(None), ~asleep)
        .where(sa.or_(row.lane == "now", row.run_id.is_not(None)))
        .order_by(row.refund_id)
    )
    with ledger.reading() as connection:
        return [dict(found) for found in connection.execute(query).mappings()]


def run_ids(ledger: Ledger, refund_id: str) -> list[str]:
    """Every Prefect run that worked on the refund, oldest first."""
    query = (
        sa.select(schema.runs.c.run_id)
        .where(schema.runs.c.refund_id == refund_id)
        .order_by(schema.runs.c.first_seen_at, schema.runs.c.run_id)
    )
    with ledger.reading() as connection:
        return list(connection.execute(query).scalars())


def rivals(ledger: Ledger, request: RefundRequest) -> tuple[Rival, ...]:
    """Other refunds on the same order that took money or still may, in key order."""
    row = schema.refunds.c
    query = (
        sa.select(
            row.refund_id, row.state, row.request, row.amount_minor, schema.reservations.c.state
        )
        .join(schema.reservations, schema.reservations.c.refund_id == row.refund_id, isouter=True)
        .where(row.order_id == request.order_id, row.refund_id != request.refund_id)
        .where(sa.or_(row.outcome.is_(None), row.outcome.not_in(_TOOK_NOTHING)))
        .order_by(row.refund_id)
    )
    with ledger.reading() as connection:
        return tuple(
            Rival(
                refund_id=refund_id,
                state=State(state),
                item_ids=tuple(content["item_ids"]),
                amount_minor=amount_minor,
                holds_money=reservation in ("reserved", "refunded"),
            )
            for refund_id, state, content, amount_minor, reservation in connection.execute(query)
        )


def other_refunds_of(ledger: Ledger, request: RefundRequest) -> int:
    """How many other refunds of this customer are paid or under way."""
    row = schema.refunds.c
    query = (
        sa.select(sa.func.count())
        .select_from(schema.refunds)
        .where(row.customer_id == request.customer_id, row.refund_id != request.refund_id)
        .where(sa.or_(row.outcome.is_(None), row.outcome.not_in(_TOOK_NOTHING)))
    )
    with ledger.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _known(connection: sa.Connection, refund_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for chunk in _chunks(refund_ids):
        query = sa.select(schema.refunds).where(schema.refunds.c.refund_id.in_(chunk))
        for row in connection.execute(query).mappings():
            found[row["refund_id"]] = dict(row)
    return found


def _chunks(refund_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(refund_ids), _ROWS_AT_ONCE):
        yield refund_ids[start : start + _ROWS_AT_ONCE]


def _same_or_conflict(request: RefundRequest, row: dict[str, Any]) -> None:
    stored = RefundRequest.model_validate(row["request"])
    if stored != request:
        mine, theirs = request.plain(), stored.plain()
        differing = tuple(name for name in mine if mine[name] != theirs[name])
        raise ContentConflict(request.refund_id, differing)


def _insert(connection: sa.Connection, request: RefundRequest, lane: str, ledger: Ledger) -> bool:
    """False when somebody else has submitted this id in the meantime."""
    now = ledger.clock()
    inserted = connection.execute(
        insert_if_absent(connection, schema.refunds)
        .values(
            refund_id=request.refund_id,
            request=request.plain(),
            request_digest=request.digest(),
            order_id=request.order_id,
            customer_id=request.customer_id,
            amount_minor=request.amount_minor,
            currency=request.currency,
            lane=lane,
            state=State.RECEIVED,
            run_number=0,
            fence=0,
            submitted_at=now,
            updated_at=now,
            last_sequence=0,
            last_digest="",
        )
        .returning(schema.refunds.c.refund_id)
    ).first()
    if inserted is None:
        return False
    page = open_page(connection, request.refund_id, lambda: now)
    page.append("refund.submitted", {"request": request.plain(), "lane": lane})
    page.write()
    return True
