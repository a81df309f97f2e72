"""One who kills, with a stopwatch: `python -m benchmarks.struck`, in a whole stack's environment.

Prints as JSON how long it took until a refund that was struck had its next step done.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psutil
import sqlalchemy as sa

from benchmarks.shop import requests
from deployments.stack_home import Home
from refunds.api import AsyncRefunds
from refunds.ledger import batches, journal, schema
from refunds.settings import settings
from tasks import books

KILLS = 5

# The shop's orders by name. A batch lasts through all of its kills; so do sixty runs.
COUNTS = {"alone": 60, "together": 1_000}

_PATIENCE_SECONDS = 120.0
_ASK_SECONDS = 0.02

# A run's first step goes on with nothing; a batch's steps have other names.
_BEGINNING = "open_refund"

_refund, _event = schema.refunds.c, schema.history.c


async def main() -> None:
    """Kill all of them, and tell."""
    async with AsyncRefunds() as engine:
        for request in requests("alone", COUNTS["alone"]):
            await engine.submit([request])
        worker = [await _struck("alone", _worker) for _ in range(KILLS)]
        await _until(lambda: not _open("alone"))

        wanted = requests("together", COUNTS["together"])
        await engine.submit(wanted)
        batch_id = batches.file_id([request["refund_id"] for request in wanted])
        batch = [await _struck("together", lambda: _batch(batch_id)) for _ in range(KILLS)]
        await _until(lambda: not _open("together"))
    print(json.dumps({"worker": worker, "batch": batch}))


async def _struck(name: str, victim: Callable[[], psutil.Process | None]) -> float:
    """Kill while refunds of this name are under way; seconds to the next step of one of them."""
    await _until(lambda: _open(name, under_way=True))
    process = await _until(victim)
    family = [process, *process.children(recursive=True)]
    killed_at = datetime.now(UTC)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    struck = _open(name, under_way=True)
    next_step = await _until(lambda: _next_step(struck, killed_at))
    return float((next_step - killed_at).total_seconds())


def _worker() -> psutil.Process | None:
    found = Home(settings().home_dir).read_processes().get("worker")
    return psutil.Process(found.pid) if found else None


def _batch(batch_id: str) -> psutil.Process | None:
    holder = batches.read(books.ledger(), batch_id).lease_holder
    # Run, host, process and its birth: `run@host:4711:…`.
    pid = int(holder.rsplit(":", 2)[1]) if holder else 0
    return psutil.Process(pid) if pid and psutil.pid_exists(pid) else None


def _open(name: str, *, under_way: bool = False) -> list[str]:
    """Refunds of this name without an outcome; those alone that somebody carries on just now."""
    query = sa.select(_refund.refund_id).where(
        _refund.refund_id.startswith(f"{name}_", autoescape=True), _refund.outcome.is_(None)
    )
    if under_way:
        query = query.where(_refund.lease_holder.is_not(None))
    with books.ledger().reading() as connection:
        return list(connection.execute(query).scalars())


def _next_step(struck: Sequence[str], since: datetime) -> datetime | None:
    query = (
        sa.select(_event.data, _event.at)
        .where(_event.refund_id.in_(struck), _event.event == journal.ENDED, _event.at > since)
        .order_by(_event.at)
    )
    with books.ledger().reading() as connection:
        ended = [at for data, at in connection.execute(query) if data["step"] != _BEGINNING]
    return ended[0] if ended else None


async def _until(ask: Callable[[], Any]) -> Any:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not (found := ask()):  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(_ASK_SECONDS)
        return found


if __name__ == "__main__":
    asyncio.run(main())
