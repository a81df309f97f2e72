"""Bursts: what many people decide at the same time is carried by one run, as a batch.

A few runs that are woken find their place at once. When more than that have been woken and none
of them has gone on yet, a further refund joins a burst instead: a batch that is open until its
run takes it. Its membership is in the ledger before anything is started.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from refunds.flow_version import FLOW_VERSION
from refunds.ledger import batches, leases, questions, schema, waits
from refunds.ledger.batches import BURST
from refunds.ledger.book import Ledger, Page
from refunds.ledger.engine import insert_if_absent

# What takes refunds in; a shard is a part of one of them.
KINDS = ("file", "night", BURST)

# What a batch can go on from: a question that is answered, a payment that is settled.
_CARRIED = ("approval", "settlement")


@dataclass(frozen=True)
class Claim:
    """Who goes on with a refund whose wait has ended: its own run, or a burst.

    `opens` is true for the one refund with which the burst began: its run has to be started.
    """

    run_id: str | None = None
    burst_id: str | None = None
    opens: bool = False


@dataclass(frozen=True)
class Sleeper:
    """A run that sleeps in Prefect though its refund is carried by a burst."""

    refund_id: str
    run_id: str


def claim(ledger: Ledger, refund_id: str, burst_from: int) -> Claim | None:
    """Say who goes on with a refund now; None when nothing ended or somebody was just woken.

    With `burst_from` runs woken and not yet going on, or a burst under way, it joins a burst.
    """
    with ledger.page(refund_id) as page:
        found = waits.to_claim(page)
        if found is None:
            return None
        if _is_crowded(page, burst_from) and _can_be_carried(page, wait=found[0]):
            return _join(page)
        return Claim(run_id=waits.claim_wake(page))


def left_asleep(
    ledger: Ledger, *, burst_id: str | None = None, before: datetime | None = None
) -> list[Sleeper]:
    """The runs that a burst's refunds left behind, or all that were left before a time."""
    row, refund = schema.runs.c, schema.refunds.c
    query = sa.select(row.refund_id, row.run_id).where(row.left_asleep_at.is_not(None))
    if burst_id is not None:
        query = query.join(schema.refunds, refund.refund_id == row.refund_id)
        query = query.where(refund.burst_id == burst_id)
    if before is not None:
        query = query.where(row.left_asleep_at <= before)
    with ledger.reading() as connection:
        found = connection.execute(query.order_by(row.left_asleep_at, row.refund_id))
        return [Sleeper(refund_id, run_id) for refund_id, run_id in found]


def note_ended(ledger: Ledger, sleepers: Sequence[Sleeper]) -> None:
    """These runs sleep no more."""
    row = schema.runs.c
    with ledger.writing() as connection:
        for sleeper in sleepers:
            connection.execute(
                schema.runs.update()
                .where(row.refund_id == sleeper.refund_id, row.run_id == sleeper.run_id)
                .values(left_asleep_at=None)
            )


def carried_by_kind(ledger: Ledger) -> dict[str, int]:
    """How many refunds that are not over are carried by batches of each kind."""
    batch, refund = schema.batches.c, schema.refunds.c
    query = (
        sa.select(batch.kind, sa.func.count())
        .join(
            schema.refunds,
            sa.func.coalesce(refund.burst_id, refund.batch_id) == batch.batch_id,
        )
        .where(*batches.is_carried())
        .group_by(batch.kind)
    )
    with ledger.reading() as connection:
        return {kind: int(count) for kind, count in connection.execute(query)}


def count(ledger: Ledger) -> int:
    """How many bursts there have been."""
    query = sa.select(sa.func.count()).where(schema.batches.c.kind == BURST)
    with ledger.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _is_crowded(page: Page, burst_from: int) -> bool:
    row = schema.batches.c
    under_way = sa.select(row.batch_id).where(row.kind == BURST, row.finished_at.is_(None))
    if page.connection.execute(under_way.limit(1)).first() is not None:
        return True
    return waits.count_woken(page.connection, page.now, burst_from) >= burst_from


def _can_be_carried(page: Page, wait: str) -> bool:
    """Whether a batch knows how to go on from here; if not, the refund's own run does."""
    row = page.row
    # What was never launched runs in somebody's own process, where there may be no worker at all.
    if row["run_number"] == 0 or row["lane"] != "now":
        return False
    if row["given_up"] or row["lease_holder"] is not None:
        return False
    kind = wait.partition("-")[0]
    if kind not in _CARRIED or (kind == "approval" and not _is_answered(page)):
        return False
    return _has_a_plain_course(page)


def _is_answered(page: Page) -> bool:
    """Whether the question is closed, or too late to answer; otherwise the next level is asked."""
    asked = questions.read(page.connection, page.refund_id)
    return asked is not None and (asked.status != questions.OPEN or page.now >= asked.deadline)


def _has_a_plain_course(page: Page) -> bool:
    """Whether its flow is of this version, and nobody has put it back to an earlier step."""
    row = schema.history.c
    found = page.connection.execute(
        sa.select(row.event, row.data).where(
            row.refund_id == page.refund_id,
            sa.or_(row.sequence == 1, row.event == "refund.reset"),
        )
    ).all()
    return len(found) == 1 and found[0].data.get("flow_version", 1) == FLOW_VERSION


def _join(page: Page) -> Claim:
    burst_id, run_id, opens = _open_burst(page)
    for sleeping in waits.give_to_a_batch(page):
        leases.link_run(page, sleeping)
        page.update(
            schema.runs,
            {"refund_id": page.refund_id, "run_id": sleeping},
            left_asleep_at=page.now,
        )
    page.append("refund.gathered", {"burst_id": burst_id, "run_id": page.row["run_id"]})
    page.change(lane="batch", burst_id=burst_id, run_id=run_id)
    return Claim(burst_id=burst_id, opens=opens)


def _open_burst(page: Page) -> tuple[str, str | None, bool]:
    """The burst that no run has taken yet, with its run if one was started; or a new one.

    Its row stays locked until this refund is in: no run takes it in between.
    """
    row, connection = schema.batches.c, page.connection
    is_open = sa.and_(row.kind == BURST, row.finished_at.is_(None), row.lease_holder.is_(None))
    query = sa.select(row.batch_id, row.run_id).where(is_open).limit(1).with_for_update()
    while True:
        # Counted before it is looked: one that another door opens after the look has this number.
        count = sa.select(sa.func.count()).where(row.kind == BURST)
        burst_id = f"burst-{connection.execute(count).scalar_one() + 1}"
        found = connection.execute(query).first()
        if found is not None:
            return found.batch_id, found.run_id, False
        opened = connection.execute(
            insert_if_absent(connection, schema.batches)
            .values(
                batch_id=burst_id,
                kind=BURST,
                cursor="",
                run_number=0,
                deaths=0,
                opened_at=page.now,
                updated_at=page.now,
            )
            .returning(row.batch_id)
        ).first()
        if opened is not None:
            return burst_id, None, True
