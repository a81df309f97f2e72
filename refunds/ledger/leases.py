"""One runner at a time: a lease with a fencing number on each refund."""

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psutil
import sqlalchemy as sa

from refunds.code_version import code_version
from refunds.ledger import history, schema, waits
from refunds.ledger.book import LEASE_SECONDS, Ledger, Page
from refunds.models import Outcome, State
from refunds.process_birth import birth

# A lease is never this far ahead of a clock that agrees with its holder's to within a lease's
# length. One that is was written before somebody's clock was set back, and may be as old as that.
_MOST_AHEAD = timedelta(seconds=2 * LEASE_SECONDS)


@dataclass(frozen=True)
class Lease:
    """What a run found when it asked for the refund.

    `fence` is its number when the refund is its own, None when it is not; then `outcome` says
    how the refund ended, or `held_by` which run has it. `given_up` says who gave the refund up.
    """

    fence: int | None
    outcome: Outcome | None
    held_by: str | None
    given_up: str | None = None
    flow_version: int = 1


def holder_of_this_process(run_id: str) -> str:
    """Who we are, so that another process on this host can tell whether we still live."""
    return f"{run_id}@{socket.gethostname()}:{os.getpid()}:{birth(os.getpid())}"


def take(ledger: Ledger, refund_id: str, run_id: str) -> Lease:
    """Take the refund's lease for a run. Raises UnknownRefund.

    The run gets it when it owns the refund (the first run to ask does, later ones are named by
    `assign`) and no other process that may still be alive holds the lease. What a batch carries
    is no single run's.
    """
    holder = holder_of_this_process(run_id)
    with ledger.page(refund_id) as page:
        if page.row["outcome"] is not None:
            return Lease(None, Outcome(page.row["outcome"]), None)
        is_carried = page.row["lane"] == "batch"
        if page.row["run_id"] is None and not is_carried:
            page.change(run_id=run_id)
        link_run(page, run_id)
        if is_carried or page.row["run_id"] != run_id or held_by_another(page, holder):
            owner = page.row["run_id"] or page.row["burst_id"] or page.row["batch_id"]
            page.append("run.turned_away", {"run_id": run_id, "owner": owner})
            return Lease(None, None, owner)
        _note_loss(page)
        fence = hand_over(page, run_id, holder)
        waits.pass_ended(page)
        begin_to_assess(page)
        version = history.first(page).get("flow_version", 1)
        return Lease(fence, None, None, page.row["given_up"], version)


def hand_over(page: Page, run_id: str, holder: str) -> int:
    """Give the refund's lease to a run; returns its fence."""
    fence = int(page.row["fence"]) + 1
    page.change(
        fence=fence,
        lease_holder=holder,
        lease_expires_at=page.now + timedelta(seconds=LEASE_SECONDS),
    )
    page.append("run.took_over", {"run_id": run_id, "fence": fence, "code_version": code_version()})
    return fence


def begin_to_assess(page: Page) -> None:
    """A refund that is new, or that a person resumed, is looked at from the start."""
    if page.row["state"] in (State.RECEIVED, State.NEEDS_ATTENTION):
        page.enter(State.ASSESSING)


def release(ledger: Ledger, refund_id: str, fence: int) -> None:
    """Give the lease back, before a wait or at the end. A stale runner's release is a no-op."""
    with ledger.page(refund_id) as page:
        if page.row["fence"] == fence:
            page.change(lease_holder=None, lease_expires_at=None)


def assign(page: Page, run_id: str, run_number: int) -> None:
    """Make another run the owner; whatever ran before is fenced off."""
    _note_loss(page)
    page.change(
        # With a run of its own a refund leaves its batch.
        lane="now",
        run_id=run_id,
        run_number=run_number,
        launched_at=page.now,
        fence=page.row["fence"] + 1,
        lease_holder=None,
        lease_expires_at=None,
    )
    link_run(page, run_id)
    page.append("run.launched", {"run_id": run_id, "run_number": run_number})


def link_run(page: Page, run_id: str) -> None:
    """Remember that a Prefect run worked on the refund."""
    known = page.connection.execute(
        sa.select(schema.runs.c.run_id).where(
            schema.runs.c.refund_id == page.refund_id, schema.runs.c.run_id == run_id
        )
    ).first()
    if known is None:
        page.connection.execute(
            schema.runs.insert().values(
                refund_id=page.refund_id, run_id=run_id, first_seen_at=page.now
            )
        )


def _note_loss(page: Page) -> None:
    """A runner that never gave its lease back has died, or is cut off."""
    if page.row["lease_holder"] is not None:
        run_id = str(page.row["lease_holder"]).partition("@")[0]
        page.append("run.lost", {"run_id": run_id, "fence": page.row["fence"]})


def is_held(row: dict[str, Any], ledger: Ledger) -> bool:
    """Whether a process that may be alive holds the refund's lease."""
    return is_current(row["lease_holder"], row["lease_expires_at"], ledger.clock())


def held_by_another(page: Page, holder: str) -> bool:
    """Whether a process other than `holder` that may be alive has the lease."""
    current = page.row["lease_holder"]
    return current != holder and is_current(current, page.row["lease_expires_at"], page.now)


def is_current(holder: str | None, expires_at: datetime | None, now: datetime) -> bool:
    """Whether a lease stands: it has not run out, and its process is not known to be gone."""
    if holder is None or expires_at is None or expires_at <= now:
        return False
    if _is_local(holder):
        return _is_alive(holder)
    return expires_at - now <= _MOST_AHEAD


def _is_local(holder: str) -> bool:
    return holder.partition("@")[2].rsplit(":", 2)[0] == socket.gethostname()


def _is_alive(holder: str) -> bool:
    """Whether a process of this host is still there; what only another version reads is."""
    _, pid, born = holder.partition("@")[2].rsplit(":", 2)
    if not pid.isdecimal():
        return True
    try:
        # A killed process that its parent has not buried yet still has its number.
        return birth(int(pid)) == born and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
