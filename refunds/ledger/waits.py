"""Waits: for a person, a callback or a clock. One primitive, three reasons.

A wait is open until it `ended` (what was waited for is in the ledger), and done when the run has
`passed` it. In between the run has to be woken: waking is a hint that may get lost, so the sweep
looks for waits that ended and were not passed.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from refunds.ledger import outages, schema
from refunds.ledger.book import Ledger, Page
from refunds.ledger.pages import among

WaitReason = Literal["person", "callback", "timer"]

# A wake-up that did not lead to a run passing its wait is tried again after this long: a woken
# run needs a few seconds to start, and a second wake-up of a starting run would start it twice.
WAKE_AGAIN_SECONDS = 30


def open_wait(
    ledger: Ledger,
    refund_id: str,
    name: str,
    *,
    reason: WaitReason,
    run_id: str | None,
    fence: int,
    due_at: datetime | None = None,
    closing: Callable[[Page, int], None] = lambda _page, _openings: None,
) -> int:
    """Begin to wait and give the lease back; 0 when it is over already.

    Otherwise the number of times this wait was begun: 1, 2, … `closing` is called with it as the
    last thing that the runner may write.
    """
    with ledger.page(refund_id, fence) as page:
        known = _row(page.connection, refund_id, name)
        if (known is not None and known["ended_at"] is not None) or has_come(page, name):
            return 0
        openings = 1 if known is None else int(known["openings"]) + 1
        if known is None:
            page.connection.execute(
                schema.waits.insert().values(
                    refund_id=refund_id,
                    name=name,
                    reason=reason,
                    run_id=run_id,
                    opened_at=page.now,
                    openings=openings,
                    due_at=due_at,
                )
            )
            due = due_at.isoformat() if due_at else None
            page.append("wait.started", {"name": name, "reason": reason, "due_at": due})
        else:
            _update(page.connection, refund_id, name, run_id=run_id, openings=openings)
        closing(page, openings)
        page.change(lease_holder=None, lease_expires_at=None)
        return openings


def end(page: Page, kinds: tuple[str, ...], why: str) -> None:
    """What the refund waits for has come: end its open waits of these kinds.

    A wait's kind is the first word of its name: approval, settlement, outage, attention.
    """
    row = schema.waits.c
    ended = page.connection.execute(
        schema.waits.update()
        .where(row.refund_id == page.refund_id, row.ended_at.is_(None))
        .where(sa.or_(*(row.name.startswith(f"{kind}-") for kind in kinds)))
        .values(ended_at=page.now)
    )
    if ended.rowcount:
        page.append("wait.ended", {"kinds": list(kinds), "why": why})


def mark_woken(page: Page) -> None:
    """Somebody is about to start a run: the sweep holds back, and wakes it only if that fails."""
    row = schema.waits.c
    page.connection.execute(
        schema.waits.update()
        .where(row.refund_id == page.refund_id)
        .where(row.ended_at.is_not(None), row.passed_at.is_(None))
        .values(woken_at=page.now)
    )


def pass_ended(page: Page) -> None:
    """The run goes on: every wait that ended is done."""
    row = schema.waits.c
    passed = page.connection.execute(
        schema.waits.update()
        .where(row.refund_id == page.refund_id)
        .where(row.ended_at.is_not(None), row.passed_at.is_(None))
        .values(passed_at=page.now)
    )
    if passed.rowcount:
        page.append("wait.passed", {"count": passed.rowcount})


def end_due(ledger: Ledger) -> list[str]:
    """End every wait whose time has come; returns the refunds concerned.

    Of those that wait for a system only as many as it can be expected to serve.
    """
    with ledger.reading() as connection:
        row = schema.waits.c
        found = connection.execute(
            sa.select(row.refund_id, row.name, row.run_id)
            .where(row.ended_at.is_(None), row.due_at <= ledger.clock())
            .order_by(row.opened_at, row.refund_id)
        ).all()
        due = outages.let_go(connection, found, ledger.clock())
    for refund_id, name in due:
        with ledger.page(refund_id) as page:
            known = _row(page.connection, refund_id, name)
            if known is not None and known["ended_at"] is None:
                _update(page.connection, refund_id, name, ended_at=page.now)
                page.append("wait.ended", {"name": name, "why": "due"})
    return [refund_id for refund_id, _ in due]


def to_wake(ledger: Ledger) -> list[tuple[str, str, str]]:
    """(refund_id, wait's name, run id) of waits that ended and whose run has not gone on.

    A wait without a run is its batch's, which is called back for all of them at once.
    """
    row = schema.waits.c
    query = (
        sa.select(row.refund_id, row.name, row.run_id)
        .where(row.ended_at.is_not(None), row.passed_at.is_(None), row.run_id.is_not(None))
        .where(_not_just_woken(ledger.clock()))
        .order_by(row.refund_id)
    )
    with ledger.reading() as connection:
        return [(refund_id, name, run_id) for refund_id, name, run_id in connection.execute(query)]


def to_claim(page: Page) -> tuple[str, str] | None:
    """The wait that ended and the run to wake for it now; None when somebody just did."""
    row = schema.waits.c
    found = page.connection.execute(
        sa.select(row.name, row.run_id).where(
            row.refund_id == page.refund_id,
            row.ended_at.is_not(None),
            row.passed_at.is_(None),
            row.run_id.is_not(None),
            _not_just_woken(page.now),
        )
    ).first()
    return None if found is None else (found.name, found.run_id)


def claim_wake(page: Page) -> str | None:
    """The run to wake for this refund now, or None when nothing ended or somebody just did."""
    found = to_claim(page)
    if found is None:
        return None
    name, run_id = found
    _update(page.connection, page.refund_id, name, woken_at=page.now)
    return run_id


def give_to_a_batch(page: Page) -> list[str]:
    """What ended is its batch's business from now on; returns the runs that waited for it."""
    row = schema.waits.c
    mine = (row.refund_id == page.refund_id, row.ended_at.is_not(None), row.passed_at.is_(None))
    query = sa.select(row.run_id).where(*mine, row.run_id.is_not(None)).distinct()
    run_ids = list(page.connection.execute(query).scalars())
    page.connection.execute(
        schema.waits.update().where(*mine).values(run_id=None, woken_at=page.now)
    )
    return run_ids


def count_woken(connection: sa.Connection, now: datetime, limit: int) -> int:
    """How many runs were woken just now and have not gone on yet; counts up to `limit`."""
    row = schema.waits.c
    query = (
        sa.select(row.refund_id)
        .where(row.ended_at.is_not(None), row.passed_at.is_(None), row.run_id.is_not(None))
        .where(row.woken_at <= now)
        .where(row.woken_at > now - timedelta(seconds=WAKE_AGAIN_SECONDS))
        .limit(limit)
    )
    return len(connection.execute(query).all())


def open_waits(ledger: Ledger, refund_id: str) -> list[dict[str, Any]]:
    """What the refund waits for now."""
    row = schema.waits.c
    query = sa.select(schema.waits).where(row.refund_id == refund_id, row.passed_at.is_(None))
    with ledger.reading() as connection:
        return [dict(found) for found in connection.execute(query).mappings()]


def begun_among(ledger: Ledger, names: Mapping[str, str]) -> set[str]:
    """The refunds, of those in `names`, that have begun to wait under the name given for each."""
    row = schema.waits.c
    with ledger.reading() as connection:
        query = sa.select(row.refund_id, row.name).where(among(connection, row.refund_id, names))
        found = connection.execute(query)
        return {refund_id for refund_id, name in found if name == names[refund_id]}


def count_named(ledger: Ledger, refund_id: str, prefix: str) -> int:
    """How many waits of this refund have been passed whose name starts with `prefix`."""
    row = schema.waits.c
    query = sa.select(row.name).where(row.refund_id == refund_id, row.passed_at.is_not(None))
    with ledger.reading() as connection:
        return sum(name.startswith(prefix) for name in connection.execute(query).scalars())


def _not_just_woken(now: datetime) -> sa.ColumnElement[bool]:
    """A wake-up in the future was given by a clock that was set back since: it may be old."""
    woken_at = schema.waits.c.woken_at
    before = now - timedelta(seconds=WAKE_AGAIN_SECONDS)
    return sa.or_(woken_at.is_(None), woken_at <= before, woken_at > now)


def begin(
    page: Page, name: str, *, reason: WaitReason, run_id: str, due_at: datetime | None
) -> None:
    """Begin to wait, on a page and for a run that is asleep already.

    What has come in the meantime ends the wait at once, and the sweep wakes the run.
    """
    page.insert(
        schema.waits,
        refund_id=page.refund_id,
        name=name,
        reason=reason,
        run_id=run_id,
        opened_at=page.now,
        openings=1,
        due_at=due_at,
        ended_at=page.now if has_come(page, name) else None,
    )
    due = due_at.isoformat() if due_at else None
    page.append("wait.started", {"name": name, "reason": reason, "due_at": due})


def has_come(page: Page, name: str) -> bool:
    """Whether it came between the run's last look and its wait: nobody would end that wait."""
    kind, _, rest = name.partition("-")
    if kind == "approval":
        row = schema.approvals.c
        query = sa.select(row.approval_id).where(
            row.refund_id == page.refund_id,
            row.round == int(rest.partition("-")[0]),
            row.status != "open",
        )
    elif kind == "settlement":
        effect = schema.effects.c
        query = sa.select(effect.key).where(
            effect.refund_id == page.refund_id,
            effect.step == "issue_refund",
            effect.state.in_(("succeeded", "refused")),
        )
    else:
        return False
    return page.connection.execute(query).first() is not None


def _row(connection: sa.Connection, refund_id: str, name: str) -> dict[str, Any] | None:
    row = schema.waits.c
    found = (
        connection.execute(
            sa.select(schema.waits).where(row.refund_id == refund_id, row.name == name)
        )
        .mappings()
        .first()
    )
    return dict(found) if found else None


def _update(connection: sa.Connection, refund_id: str, name: str, **columns: Any) -> None:
    row = schema.waits.c
    connection.execute(
        schema.waits.update().where(row.refund_id == refund_id, row.name == name).values(**columns)
    )
