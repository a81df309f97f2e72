"""Two hundred refunds in flight, their worker killed -9 again and again: how soon they go on."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import psutil
import sqlalchemy as sa

from refunds.ledger import schema
from tests.chaos.chaos_stack import ChaosStack, until

# Refunds are through at about two a second: all five kills strike while many are under way.
_MOST_PAUSE_SECONDS = 6.0
# Two hundred refunds take two minutes; a busy machine gets several times that.
_ALL_SECONDS = 600.0


@dataclass
class Recovery:
    """What was measured, in seconds since the worker's new process began."""

    refunds: int
    interrupted: list[int] = field(default_factory=list)
    first_step_seconds: list[float] = field(default_factory=list)
    last_refund_seconds: float = 0.0

    def told(self) -> str:
        """One sentence for the report."""
        firsts = ", ".join(f"{seconds:.1f}" for seconds in self.first_step_seconds)
        return (
            f"{self.refunds} refunds, the worker killed {len(self.first_step_seconds)} times with "
            f"{sum(self.interrupted)} runs under way in all: the first interrupted refund went on "
            f"{firsts} s after the new worker's process began; the last of all refunds ended "
            f"{self.last_refund_seconds:.0f} s after the last restart"
        )


def kill_again_and_again(stack: ChaosStack, seed: int, *, refunds: int, kills: int) -> Recovery:
    """Submit, kill at moments from the seed, wait for the end of all. Raises AssertionError."""
    dice, found = random.Random(seed), Recovery(refunds)
    names = [f"rf-{seed}-recovery-{number:03}" for number in range(refunds)]
    stack.take_many(names)
    for _ in range(kills):
        # A moment that nothing marks: that is what is tested.
        time.sleep(dice.uniform(0, _MOST_PAUSE_SECONDS))
        struck = until(lambda: _under_way(stack), "some refunds are under way")
        killed_at = datetime.now(UTC)
        stack.kill_role("worker")
        began = psutil.Process(stack.pid("worker")).create_time()
        first = until(
            partial(_first_step, stack, killed_at),
            "an interrupted refund goes on",
        )
        found.interrupted.append(len(struck))
        found.first_step_seconds.append(first.timestamp() - began)
    until(lambda: not _unfinished(stack), "all refunds end", _ALL_SECONDS)
    found.last_refund_seconds = _last_end(stack) - began
    return found


def _under_way(stack: ChaosStack) -> list[str]:
    row = schema.refunds.c
    query = sa.select(row.refund_id).where(row.lease_holder.is_not(None), row.outcome.is_(None))
    with stack.ledger.reading() as connection:
        return list(connection.execute(query).scalars())


def _unfinished(stack: ChaosStack) -> list[str]:
    query = sa.select(schema.refunds.c.refund_id).where(schema.refunds.c.outcome.is_(None))
    with stack.ledger.reading() as connection:
        return list(connection.execute(query).scalars())


def _first_step(stack: ChaosStack, since: datetime) -> datetime | None:
    """When the first refund that was given to a further run had a step done by it."""
    row = schema.history.c
    query = (
        sa.select(row.refund_id, row.event, row.data, row.at)
        .where(row.at > since)
        .order_by(row.at, row.sequence)
    )
    further: set[str] = set()
    with stack.ledger.reading() as connection:
        for refund_id, event, data, at in connection.execute(query):
            if event == "run.launched" and data["run_number"] > 1:
                further.add(refund_id)
            elif event == "step.ended" and refund_id in further:
                found: datetime = at
                return found
    return None


def _last_end(stack: ChaosStack) -> float:
    with stack.ledger.reading() as connection:
        ended: datetime = connection.execute(
            sa.select(sa.func.max(schema.refunds.c.completed_at))
        ).scalar_one()
    return ended.timestamp()
