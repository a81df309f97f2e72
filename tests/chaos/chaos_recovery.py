"""Two hundred refunds in flight, killed -9 again and again: how soon they go on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from refunds.ledger import batches, journal, schema
from tests.chaos.chaos_stack import ChaosStack, until

# Refunds with a run each are through at two a second, a batch at forty: so all kills strike
# while many are under way.
_RUNS_PAUSE_SECONDS = 6.0
_BATCH_PAUSE_SECONDS = 0.4
# Two hundred refunds take two minutes; a busy machine gets several times that.
_ALL_SECONDS = 900.0
# What a run begins with is no step that goes on with anything.
_BEGINNING = "open_refund"

_refund, _event = schema.refunds.c, schema.history.c


@dataclass
class Recovery:
    """What was measured, in seconds since `since`."""

    what_died: str
    since: str
    refunds: int
    # How fast this machine was: a bare import of Prefect, twice of which a restart takes.
    import_seconds: float = 0.0
    # How many refunds were under way at each kill.
    interrupted: list[int] = field(default_factory=list)
    first_step_seconds: list[float] = field(default_factory=list)
    # After the last kill.
    last_refund_seconds: float = 0.0


def of_runs(stack: ChaosStack, seed: int, *, refunds: int, kills: int) -> Recovery:
    """Refunds with a run each, killed with their worker. Raises AssertionError."""
    names = _names(seed, "runs", refunds)
    with stack.frozen("worker"):
        stack.take_one_by_one(names)
    found = Recovery("worker with its runs", "the kill", refunds)
    strike = partial(_kill_worker, stack)
    moments = _moments(seed, kills, _RUNS_PAUSE_SECONDS)
    return _strike_again_and_again(stack, names, strike, moments, found)


def of_a_batch(stack: ChaosStack, seed: int, *, refunds: int, kills: int) -> list[Recovery]:
    """Refunds of one batch, killed alone or with the worker. Raises AssertionError."""
    moments = _moments(seed, kills, _BATCH_PAUSE_SECONDS)
    alone, with_worker = _names(seed, "alone", refunds), _names(seed, "batch", refunds)
    kill = partial(_kill_batch, stack, batches.file_id(alone))
    measured = []
    for names, strike, found in (
        (alone, kill, Recovery("process of a batch", "the kill", refunds)),
        (
            with_worker,
            partial(_kill_worker, stack),
            Recovery("worker with a batch", "the kill", refunds),
        ),
    ):
        stack.take_together(dict.fromkeys(names, 10_000))
        measured.append(_strike_again_and_again(stack, names, strike, moments, found))
    return measured


def _names(seed: int, what: str, count: int) -> list[str]:
    return [f"rf-{seed}-{what}-{number:03}" for number in range(count)]


def _moments(seed: int, kills: int, most_seconds: float) -> list[float]:
    dice = random.Random(seed)
    return [dice.uniform(0, most_seconds) for _ in range(kills)]


def _strike_again_and_again(
    stack: ChaosStack,
    names: list[str],
    strike: Callable[[], float],
    moments: list[float],
    found: Recovery,
) -> Recovery:
    found.import_seconds = _import_seconds()
    for pause_seconds in moments:
        # A moment that nothing marks: that is what is tested.
        time.sleep(pause_seconds)
        until(partial(_read, stack, names, _under_way), "some refunds are under way")
        since = strike()
        struck = _read(stack, names, _under_way)
        first = until(partial(_first_step, stack, struck or names, since), "one of them goes on")
        found.interrupted.append(len(struck))
        found.first_step_seconds.append(first - since)
    until(lambda: not _read(stack, names, _refund.outcome.is_(None)), "all end", _ALL_SECONDS)
    found.last_refund_seconds = _last_end(stack, names) - since
    return found


def _import_seconds() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import prefect.main"], check=True)
    return time.monotonic() - began


def _kill_worker(stack: ChaosStack) -> float:
    # Not the birth of the next one: the system tells that to within a second only.
    return stack.kill_role("worker")


def _kill_batch(stack: ChaosStack, batch_id: str) -> float:
    os.kill(until(lambda: stack.pid_of_batch(batch_id), "the batch has a process"), 9)
    return time.time()


_under_way = sa.and_(_refund.lease_holder.is_not(None), _refund.outcome.is_(None))


def _read(stack: ChaosStack, names: list[str], condition: Any) -> list[str]:
    query = sa.select(_refund.refund_id).where(_refund.refund_id.in_(names), condition)
    with stack.ledger.reading() as connection:
        return list(connection.execute(query).scalars())


def _first_step(stack: ChaosStack, struck: list[str], since: float) -> float | None:
    """When the first of them had a step done."""
    query = (
        sa.select(_event.data, _event.at)
        .where(_event.refund_id.in_(struck), _event.event == journal.ENDED)
        .where(_event.at > datetime.fromtimestamp(since, UTC))
        .order_by(_event.at)
    )
    with stack.ledger.reading() as connection:
        ended = [at for data, at in connection.execute(query) if data["step"] != _BEGINNING]
    return float(ended[0].timestamp()) if ended else None


def _last_end(stack: ChaosStack, names: list[str]) -> float:
    query = sa.select(sa.func.max(_refund.completed_at)).where(_refund.refund_id.in_(names))
    with stack.ledger.reading() as connection:
        return float(connection.execute(query).scalar_one().timestamp())


def table(measured: list[Recovery]) -> str:
    """The measurements in Markdown; empty for none."""
    if not measured:
        return ""
    heads = (
        *("what dies", "refunds", "kills", "under way at each kill"),
        *("seconds to the next step of one of these", "seconds to the last refund"),
    )
    rows = [
        (
            *(found.what_died, str(found.refunds), str(len(found.interrupted))),
            ", ".join(map(str, found.interrupted)),
            f"{_listed(found.first_step_seconds)} after {found.since}",
            f"{found.last_refund_seconds:.0f}",
        )
        for found in measured
    ]
    lines = [heads, ("---",) * len(heads), *rows]
    imports = _listed(found.import_seconds for found in measured)
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in lines)
        + f"\n\nFor comparison: a bare `import prefect` took {imports} s meanwhile."
    )


def _listed(seconds: Iterable[float]) -> str:
    return ", ".join(f"{each:.1f}" for each in seconds)
