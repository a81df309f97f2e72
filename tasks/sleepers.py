"""Runs that sleep in Prefect though a burst carries their refunds: they are ended there.

Nobody waits for it: a run that somebody resumes in the meantime finds its refund in other hands.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_run_logger
from prefect.states import Completed, Running

from refunds.ledger import bursts
from refunds.ledger.batches import Batch
from refunds.ledger.bursts import Sleeper
from tasks import books, runs

# Prefect's SQLite takes one writer, and those who decide now come first.
_AT_ONCE = 2

# Prefect gives as many runs at a time.
_PAGE = 200

# What no process is at work on; any other run ends by itself, or lies down just now.
_ASLEEP = (StateType.PAUSED, StateType.SCHEDULED)


# A burst ends them itself within this time, unless it dies.
_LATE = timedelta(minutes=2)


@task(name="end_sleepers", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=600)
async def end_sleepers(batch: Batch) -> int:
    """End the runs of the refunds that a burst has carried; returns how many have ended."""
    if not batch.is_burst:
        return 0
    left = await asyncio.to_thread(bursts.left_asleep, books.ledger(), burst_id=batch.batch_id)
    return await _end_all(left)


@task(name="end_late_sleepers", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=600)
async def end_late_sleepers() -> int:
    """End the runs that a burst should have ended, and died; returns how many have ended."""
    before = books.ledger().clock() - _LATE
    return await _end_all(bursts.left_asleep(books.ledger(), before=before))


async def _end_all(sleepers: Sequence[Sleeper]) -> int:
    """End these runs in Prefect; returns how many have ended. What fails is left to the sweep."""
    count = 0
    for start in range(0, len(sleepers), _PAGE):
        page = sleepers[start : start + _PAGE]
        try:
            at_work = await _end([sleeper.run_id for sleeper in page])
        except httpx.HTTPError as error:
            get_run_logger().warning("runs are left asleep: %r", error)
            return count
        ended = [sleeper for sleeper in page if sleeper.run_id not in at_work]
        await asyncio.to_thread(bursts.note_ended, books.ledger(), ended)
        count += len(ended)
    return count


async def _end(run_ids: Sequence[str]) -> set[str]:
    """End those of these runs that sleep; returns those that are at work, or lie down just now."""
    gate = asyncio.Semaphore(_AT_ONCE)
    async with runs.prefect() as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run_id) for run_id in run_ids]))
        found = await client.read_flow_runs(
            flow_run_filter=wanted, limit=_PAGE, sort=FlowRunSort.ID_DESC
        )
        asleep = [run for run in found if run.state and run.state.type in _ASLEEP]

        async def one(run: FlowRun) -> None:
            async with gate:
                await _end_run(client, run)

        await asyncio.gather(*(one(run) for run in asleep))
        others = (run for run in found if run not in asleep)
        return {str(run.id) for run in others if run.state and not run.state.is_final()}


async def _end_run(client: PrefectClient, run: FlowRun) -> None:
    if run.deployment_id is None:
        # It holds its process: let it see for itself that others carry the refund.
        await client.set_flow_run_state(run.id, Running(), force=True)
        return
    carried: State[Any] = Completed(name="CarriedByBatch", message="A burst carries its refund.")
    await client.set_flow_run_state(run.id, carried)
