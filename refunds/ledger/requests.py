"""Refund requests in the ledger: taken once, found again, listed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from refunds.errors import ContentConflict, UnknownRefund
from refunds.flow_version import FLOW_VERSION
from refunds.ledger import batches, schema
from refunds.ledger.book import Ledger
from refunds.ledger.engine import insert_if_absent
from refunds.ledger.pages import Pages, among
from refunds.models import Outcome, Proposal, RefundRequest, Rival, State

# How many rows one statement carries: SQLite's oldest limit on parameters is 999.
_ROWS_AT_ONCE = 400

# An outcome that took nothing leaves the items and the money to others.
_TOOK_NOTHING = (Outcome.REJECTED, Outcome.EXPIRED, Outcome.FAILED)


def submit(
    ledger: Ledger,
    requests: Sequence[RefundRequest],
    lane: str = "now",
    *,
    together_from: int | None = None,
) -> list[dict[str, Any]]:
    """Take all of the requests or none. The same request again changes nothing.

    `together_from` new ones or more become one batch, to be carried by one run.
    Returns each one's row, in the order given. Raises ContentConflict naming the fields that
    differ when an id was taken before with other content.
    """
    ids = [request.refund_id for request in requests]
    with ledger.writing() as connection:
        known = _known(connection, ids)
        # In key order, so that two files that overlap wait for each other and never in a ring.
        new = sorted(
            (request for request in requests if request.refund_id not in known),
            key=lambda request: request.refund_id,
        )
        batch_id = None
        if together_from is not None and len(new) >= together_from:
            lane, batch_id = "batch", batches.file_id([request.refund_id for request in new])
        _insert(connection, new, {"lane": lane, "batch_id": batch_id}, ledger.clock())
        rows = _known(connection, ids)
        for request in requests:
            _same_or_conflict(request, rows[request.refund_id])
        if batch_id is not None:
            batches.insert_file(connection, batch_id, ledger.clock())
    return [rows[refund_id] for refund_id in ids]


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


InForce = tuple[RefundRequest, Proposal | None]


def in_force(ledger: Ledger, request: RefundRequest) -> InForce:
    """The request with the smaller amount that an approver proposed, if any did."""
    return in_force_of_many(ledger, [request])[request.refund_id]


def in_force_of_many(ledger: Ledger, wanted: Iterable[RefundRequest]) -> dict[str, InForce]:
    """As `in_force`, for each of these requests, by refund id."""
    found: dict[str, InForce] = {request.refund_id: (request, None) for request in wanted}
    row = schema.refunds.c
    with ledger.reading() as connection:
        query = sa.select(row.refund_id, row.proposal).where(
            among(connection, row.refund_id, found)
        )
        for refund_id, proposed in connection.execute(query):
            if proposed is not None:
                proposal = Proposal.model_validate(proposed)
                lowered = {"amount_minor": proposal.amount_minor}
                request = found[refund_id][0].model_copy(update=lowered)
                found[refund_id] = (request, proposal)
    return found


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
    """Refunds that are not over and that a run of their own should be carrying on.

    Left out are those that wait, unless they began to wait after `waits_since`: a run that died
    while it lay down to sleep is found here. Each with its run, its lease, and `is_waiting`.
    """
    row, wait = schema.refunds.c, schema.waits.c
    waits = (wait.refund_id == row.refund_id, wait.passed_at.is_(None), wait.ended_at.is_(None))
    # Every few seconds, and of thousands: what was asked for is not read with them.
    query = (
        sa.select(
            *(row.refund_id, row.run_id, row.run_number, row.updated_at),
            *(row.lease_holder, row.lease_expires_at),
            sa.exists().where(*waits).label("is_waiting"),
        )
        .where(row.outcome.is_(None), ~sa.exists().where(*waits, wait.opened_at <= waits_since))
        .where(sa.or_(row.lane == "now", row.given_up.is_not(None)))
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
        return tuple(_rival(*found) for found in connection.execute(query))


def rivals_of_many(ledger: Ledger, wanted: Sequence[RefundRequest]) -> dict[str, tuple[Rival, ...]]:
    """As `rivals`, for each of these requests, by refund id."""
    row = schema.refunds.c
    by_order: dict[str, list[Rival]] = defaultdict(list)
    with ledger.reading() as connection:
        query = (
            sa.select(
                row.order_id,
                row.refund_id,
                row.state,
                row.request,
                row.amount_minor,
                schema.reservations.c.state,
            )
            .join(
                schema.reservations, schema.reservations.c.refund_id == row.refund_id, isouter=True
            )
            .where(among(connection, row.order_id, {request.order_id for request in wanted}))
            .where(sa.or_(row.outcome.is_(None), row.outcome.not_in(_TOOK_NOTHING)))
            .order_by(row.refund_id)
        )
        for order_id, *found in connection.execute(query):
            by_order[order_id].append(_rival(*found))
    return {
        request.refund_id: tuple(
            rival for rival in by_order[request.order_id] if rival.refund_id != request.refund_id
        )
        for request in wanted
    }


def other_refunds_of_many(ledger: Ledger, wanted: Sequence[RefundRequest]) -> dict[str, int]:
    """As `other_refunds_of`, for each of these requests, by refund id."""
    row = schema.refunds.c
    with ledger.reading() as connection:
        query = (
            sa.select(row.customer_id, sa.func.count())
            .where(among(connection, row.customer_id, {r.customer_id for r in wanted}))
            .where(sa.or_(row.outcome.is_(None), row.outcome.not_in(_TOOK_NOTHING)))
            .group_by(row.customer_id)
        )
        counts = {customer_id: int(count) for customer_id, count in connection.execute(query)}
    # Each of them is under way, and is one of its customer's itself.
    return {request.refund_id: counts.get(request.customer_id, 1) - 1 for request in wanted}


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


def _rival(
    refund_id: str,
    state: str,
    content: dict[str, Any],
    amount_minor: int,
    reservation: str | None,
) -> Rival:
    return Rival(
        refund_id=refund_id,
        state=State(state),
        item_ids=tuple(content["item_ids"]),
        amount_minor=amount_minor,
        holds_money=reservation in ("reserved", "refunded"),
    )


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


def _insert(
    connection: sa.Connection, new: Sequence[RefundRequest], where: dict[str, Any], now: datetime
) -> None:
    """Insert those that nobody else has submitted in the meantime, with their first event."""
    by_id = {request.refund_id: _row(request, where, now) for request in new}
    if not by_id:
        return
    inserted = connection.execute(
        insert_if_absent(connection, schema.refunds).returning(schema.refunds.c.refund_id),
        list(by_id.values()),
    ).scalars()
    pages = Pages(connection, now)
    for refund_id in inserted:
        page = pages.add(by_id[refund_id])
        told = {"request": page.row["request"], "lane": page.row["lane"]}
        page.append("refund.submitted", {**told, "flow_version": FLOW_VERSION})
    pages.write()


def _row(request: RefundRequest, where: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "refund_id": request.refund_id,
        "request": request.plain(),
        "request_digest": request.digest(),
        "order_id": request.order_id,
        "customer_id": request.customer_id,
        "amount_minor": request.amount_minor,
        "currency": request.currency,
        **where,
        "state": State.RECEIVED,
        "run_number": 0,
        "fence": 0,
        "submitted_at": now,
        "updated_at": now,
        "last_sequence": 0,
        "last_digest": "",
    }
