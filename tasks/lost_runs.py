"""Refunds and nights whose run will not go on by itself, by Prefect's word."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from tasks import books, runs

Row = dict[str, Any]

# What nobody has to start again: it did its work, or somebody has to look.
_OVER = (StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED)

# A run that a worker took but that did not ask the ledger for its refund within this time is
# taken for lost with its worker; a busy queue leaves runs Scheduled, not Pending. As long as a
# lease, so that whatever a dead host had is taken over within a minute.
_STARTING_SECONDS = 45

# How many runs one question to Prefect is about: its page holds 200.
_RUNS_AT_ONCE = 200

# Counting has no page; the names of so many make forty kilobytes.
_COUNTED_AT_ONCE = 1_000

# Fifty such questions in a row, about ten thousand unfinished refunds, go through in a minute.
_ANSWERS_SECONDS = 60


async def among(rows: list[Row]) -> list[Row]:
    """Those refunds whose own run will not go on by itself.

    The caller has seen that no living process holds the lease of any of them. Thousands may wait:
    of those (`is_waiting`) Prefect is asked how many sleep, and about each only if not all do.
    """
    if not rows:
        return []
    found: dict[str, FlowRun] = {}
    stranded: set[str] = set()
    async with runs.asked(_ANSWERS_SECONDS) as client:
        rows = await _to_read(client, rows)
        ids = [UUID(row["run_id"]) for row in rows if row["run_id"] is not None]
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            read = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    id=FlowRunFilterId(any_=ids[start : start + _RUNS_AT_ONCE])
                ),
                limit=_RUNS_AT_ONCE,
                sort=FlowRunSort.ID_DESC,
            )
            found.update({str(run.id): run for run in read})
            # A paused one is the waker's business.
            stranded |= await runs.stranded(
                client, [run for run in read if run.state and run.state.is_scheduled()]
            )
    return [
        row for row in rows if row["run_id"] in stranded or _is_lost(row, found.get(row["run_id"]))
    ]


async def night() -> FlowRun | None:
    """The last run that was to open a night, where it died before it could; None as a rule."""
    begun = [StateType.CRASHED, StateType.PENDING, StateType.RUNNING, *_OVER]
    name = runs.NIGHTLY_DEPLOYMENT.partition("/")[2]
    async with runs.asked() as client:
        found = await client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=begun))
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=1,
        )
    run: FlowRun | None = found[0] if found else None
    if run is None or run.state is None or run.state.type in _OVER:
        return None
    return run if _is_lost({"lease_holder": None}, run) else None


async def _to_read(client: PrefectClient, rows: list[Row]) -> list[Row]:
    """All but those of which a number says that they sleep as they should."""
    to_read: list[Row] = []
    waiting: list[Row] = []
    for row in rows:
        is_counted = row.get("is_waiting") and row["run_id"] is not None
        (waiting if is_counted else to_read).append(row)
    for start in range(0, len(waiting), _COUNTED_AT_ONCE):
        chunk = waiting[start : start + _COUNTED_AT_ONCE]
        if await _count_asleep(client, [UUID(row["run_id"]) for row in chunk]) < len(chunk):
            to_read += chunk
    return to_read


async def _count_asleep(client: PrefectClient, run_ids: list[UUID]) -> int:
    return await client.count_flow_runs(
        flow_run_filter=FlowRunFilter(
            id=FlowRunFilterId(any_=run_ids),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])),
        )
    )


def _is_lost(row: Row, run: FlowRun | None) -> bool:
    """A queued run is merely late, a paused one is the waker's business, a new one is starting."""
    if run is None or run.state is None or run.state.is_final():
        return True
    now = books.ledger().clock()
    if run.state.type is StateType.PAUSED:
        # No wait of a refund has a time in Prefect: somebody suspended it by hand, for so long.
        until = run.state.state_details.pause_timeout
        return until is not None and until < now
    if run.state.type is StateType.SCHEDULED:
        return False
    if row["lease_holder"] is not None:
        # It ran, and the process that held the lease is gone.
        return True
    # A start in the future is of a clock that was set back since: it says nothing.
    return bool(abs(now - run.state.timestamp) > timedelta(seconds=_STARTING_SECONDS))
