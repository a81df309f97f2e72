"""A run of its own for a refund of a batch: created asleep, without ever starting a process.

Prefect has it as if it had suspended itself: the Resume form of its wait, its name and tags. It
is woken like any other, and goes on in the single chain from the ledger.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput
from prefect.input.run_input import Keyset, keyset_from_paused_state
from prefect.logging import get_run_logger
from prefect.states import Suspended

from tasks import runs
from tasks.batch.chunk import Road

# Prefect's SQLite takes one writer; a few requests in flight keep it busy.
_AT_ONCE = 4


@dataclass(frozen=True)
class Sleeper:
    """How a run sleeps: the key of its wait, what lists show of it, and the form that wakes it."""

    key: str
    name: str | None = None
    tags: tuple[str, ...] = ()
    form: type[RunInput] | None = None


async def create(roads: Sequence[Road], sleeper: Callable[[Road], Sleeper]) -> None:
    """Create each refund's own run, once however often it is called.

    Sets `own_run_id`; it stays None where Prefect could not be reached.
    """
    if not roads:
        return
    gate = asyncio.Semaphore(_AT_ONCE)
    async with runs.prefect() as client:
        try:
            deployment = await client.read_deployment_by_name(runs.REFUND_DEPLOYMENT)
        except (httpx.HTTPError, ObjectNotFound) as error:
            get_run_logger().warning("no runs of their own: %r", error)
            return

        async def one(road: Road) -> None:
            async with gate:
                try:
                    road.own_run_id = await _create(client, deployment.id, road, sleeper(road))
                except (httpx.HTTPError, ObjectNotFound) as error:
                    get_run_logger().warning("%s: no run of its own: %r", road.refund_id, error)

        await asyncio.gather(*(one(road) for road in roads))


async def _create(client: PrefectClient, deployment_id: UUID, road: Road, sleeper: Sleeper) -> str:
    state: State[Any] = Suspended(pause_key=sleeper.key)
    keyset = keyset_from_paused_state(state)
    if sleeper.form is not None:
        state.state_details.run_input_keyset = {str(part): key for part, key in keyset.items()}
    run = await client.create_flow_run_from_deployment(
        deployment_id,
        parameters={"request": road.request.plain()},
        state=state,
        name=sleeper.name or f"refund-{road.refund_id}",
        tags=["refund", *sleeper.tags],
        idempotency_key=runs.idempotency_key(road.refund_id, road.next_run_number),
    )
    if sleeper.form is not None:
        await _save(client, run.id, keyset, sleeper.form)
    return str(run.id)


async def _save(client: PrefectClient, run_id: UUID, keyset: Keyset, form: type[RunInput]) -> None:
    """Store the form as Prefect does; what an earlier batch run stored of it is replaced."""
    try:
        await form.asave(keyset, flow_run_id=run_id)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.CONFLICT:
            raise
        for key in (keyset["schema"], keyset["description"]):
            with suppress(ObjectNotFound):
                await client.delete_flow_run_input(run_id, key)
        await form.asave(keyset, flow_run_id=run_id)
