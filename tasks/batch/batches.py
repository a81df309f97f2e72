"""The batch itself: taken by one run and worked off chunk by chunk."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import date
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from refunds.ledger import batches
from refunds.ledger.batches import Batch
from refunds.settings import settings
from tasks import books
from tasks.batch.chunk import Chunk
from tasks.batch.line import CHUNK_SIZE, Line
from tasks.batch.writer import write


@task(name="open_night", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=60)
async def open_night(night: date | None) -> str:
    """Gather what was left to the night; returns the batch's id. Again, it takes what came in."""
    night = night or books.ledger().clock().date()
    return (await write(batches.open_night, night, settings().night_hours)).batch_id


@task(name="take_batch", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=60)
async def take_batch(batch_id: str) -> Batch | None:
    """Take the batch for this run; None while another run that may live has it."""
    return await write(batches.take, batch_id, str(flow_run.id))


@task(name="next_chunk", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=60)
async def next_chunk(line: Line) -> Chunk | None:
    """The next refunds in key order; None at the end.

    When the night is over only what was begun goes on: nobody else would take it to its end.
    """
    batch = line.batch
    if batch.stop_at is not None and books.ledger().clock() >= batch.stop_at:
        await write(batches.leave_to_next_night, batch)
    keys = await write(batches.next_keys, batch, CHUNK_SIZE, line.taken_to)
    return line.take(Chunk(batch, str(flow_run.id), keys)) if keys else None


@task(name="advance", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=60)
async def advance(line: Line, chunk: Chunk) -> str:
    """Note how far the batch has got without a gap; returns the key."""
    cursor = line.finished(chunk)
    if cursor is not None:
        await write(batches.advance, chunk.batch, cursor)
    return cursor or ""


async def side_by_side(*works: Coroutine[Any, Any, Any]) -> None:
    """Let these go on at the same time; returns when all have ended."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


@asynccontextmanager
async def alive(batch: Batch) -> AsyncIterator[None]:
    """Keep the batch's lease, and those of the refunds in hand, while the block runs."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(batches.RENEW_SECONDS)
            await write(batches.renew, batch)

    heart = asyncio.create_task(beat())
    try:
        yield
    finally:
        heart.cancel()
        with suppress(asyncio.CancelledError):
            await heart
