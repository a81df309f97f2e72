"""What earlier workers of this machine left behind: adopted, ended or scheduled again.

Only processes of this machine are judged; a run of another host is left to whoever
watches the ledger's leases.
"""

from __future__ import annotations

import uuid
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import Abort
from prefect.states import Scheduled
from prefect.utilities.engine import propose_state

from deployments.process_identity import ProcessIdentity

# The largest page Prefect's API gives.
_PAGE_COUNT = 200

# A worker records a child's identity within a second of claiming its run, under load
# within a few: a state younger than this may still be on its way.
SETTLED_SECONDS = 5.0

_CLAIM = "Claimed by "


def claim(worker: ProcessIdentity) -> str:
    """The message of the Pending state by which a worker takes a run."""
    return f"{_CLAIM}{worker}"


@dataclass(frozen=True)
class Findings:
    """Unfinished runs of the pool, by what is to be done about them."""

    # In this worker's hands, and to be stopped.
    to_stop: list[FlowRun] = field(default_factory=list)

    # Their process ended, or lives without the worker that started it.
    to_adopt: list[tuple[FlowRun, ProcessIdentity]] = field(default_factory=list)
    # Claimed by a worker that died, or forgot, before it started a process.
    to_release: list[FlowRun] = field(default_factory=list)
    # Cancelling, and nowhere is a process for it.
    to_cancel: list[FlowRun] = field(default_factory=list)
    # Too young to be judged.
    unsettled: list[FlowRun] = field(default_factory=list)


async def find(client: PrefectClient, pool_name: str, in_hand: Container[UUID]) -> Findings:
    """Look at the pool's unfinished runs; those in hand only matter when cancelled."""
    findings = Findings()
    for run in await _unfinished(client, pool_name):
        if run.id in in_hand:
            if run.state and run.state.is_cancelling():
                findings.to_stop.append(run)
        elif _is_settled(run):
            _sort(run, findings)
        else:
            findings.unsettled.append(run)
    return findings


async def release(client: PrefectClient, run: FlowRun) -> None:
    """Give a run that was claimed and never started back to the pool."""
    if run.state is None:
        return
    # At the place in the queue that it had.
    again: State[Any] = Scheduled(
        scheduled_time=run.expected_start_time,
        message="Its worker ended before it started the run.",
    )
    # One release only, should two workers find the same run.
    again.state_details.transition_id = uuid.uuid5(run.state.id, "released")
    try:
        await propose_state(client, again, run.id)
    except Abort:
        # It has started after all, or was cancelled.
        return


def _sort(run: FlowRun, findings: Findings) -> None:
    if run.state is None:
        return
    child = ProcessIdentity.parse(run.infrastructure_pid)
    if run.state.is_pending():
        message = run.state.message or ""
        worker = ProcessIdentity.parse(message.removeprefix(_CLAIM))
        if worker and worker.is_local and (_is_own(worker) or not worker.is_alive()):
            findings.to_release.append(run)
    elif child and child.is_local:
        findings.to_adopt.append((run, child))
    elif run.state.is_cancelling() and not run.infrastructure_pid:
        findings.to_cancel.append(run)


def _is_own(worker: ProcessIdentity) -> bool:
    return worker == ProcessIdentity.parse(str(ProcessIdentity.of_this_process()))


def _is_settled(run: FlowRun) -> bool:
    if run.state is None:
        return False
    age = datetime.now(UTC) - run.state.timestamp
    return age > timedelta(seconds=SETTLED_SECONDS)


async def _unfinished(client: PrefectClient, pool_name: str) -> list[FlowRun]:
    types = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
            ),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool_name])),
            sort=FlowRunSort.ID_DESC,
            limit=_PAGE_COUNT,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE_COUNT:
            return found
