"""Many decide at the same time, at real doors and against a real Prefect: one run carries them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow

from flows.batch import batch as batch_flow
from flows.refund import refund
from refunds.errors import SystemUnavailable
from refunds.ledger import batches, schema
from refunds.models import RefundRequest
from refunds.settings import settings
from tasks import lost_runs, runs, sleepers, upkeep
from tests.flows.flows_world import World

pytestmark = [
    pytest.mark.anyio,
    # Prefect leaves the connection that watches a deployed run to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

FOR_A_PERSON = 200_000
_COUNT = 6


@pytest.fixture(autouse=True)
def _one_wakes_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first run wakes for itself; nothing that other tests left is in the way."""
    monkeypatch.setenv("REFUNDS_BURST_FROM", "1")
    # What is submitted together gets its suspended runs from a batch, without a process each.
    monkeypatch.setenv("REFUNDS_BATCH_FROM", "2")
    settings.cache_clear()
    with world.ledger.writing() as connection:
        row = schema.waits.c
        connection.execute(
            schema.waits.update()
            .where(row.woken_at.is_not(None))
            .values(woken_at=None, passed_at=world.ledger.clock())
        )
    yield
    # As long as the warning about it is ignored.
    gc.collect()


async def asleep(world: World, count: int = _COUNT) -> dict[str, RefundRequest]:
    """Refunds whose own runs are suspended until somebody decides, by their run's id."""
    wanted = [world.request(FOR_A_PERSON) for _ in range(count)]
    await world.refunds.submit(wanted)
    await carry(world, world.row(wanted[0])["batch_id"])
    found = {world.row(request)["run_id"]: request for request in wanted}
    assert {(await state_of(world, run_id))[1] for run_id in found} == {"Suspended"}
    return found


async def decided(world: World, requests: Sequence[RefundRequest], choice: Any = "approve") -> None:
    """Everybody decides at the same time."""
    doors = (world.refunds.decide(each.refund_id, choice, person="lea") for each in requests)
    await asyncio.gather(*doors)


def gathered(world: World, requests: Sequence[RefundRequest]) -> tuple[str, list[RefundRequest]]:
    """The one burst of these, and which of them are in it."""
    mine = [request for request in requests if world.row(request)["burst_id"]]
    [burst_id] = {world.row(request)["burst_id"] for request in mine}
    return burst_id, mine


async def carry(world: World, burst_id: str) -> State[Any]:
    """Do what a worker does with the burst's run."""
    run_id = batches.read(world.ledger, burst_id).run_id
    assert run_id is not None
    run: Any = run_flow(batch_flow, flow_run=await world.prefect_run(run_id), return_type="state")
    state: State[Any] = await run
    return state


async def state_of(world: World, run_id: str) -> tuple[str, str]:
    state = (await world.prefect_run(run_id)).state
    assert state is not None
    return state.type.value, state.name or ""


async def test_what_is_decided_at_once_is_paid_once_and_no_run_is_left_asleep(
    world: World,
) -> None:
    by_run = await asleep(world)
    requests = list(by_run.values())
    await decided(world, requests)
    burst_id, together = gathered(world, requests)
    assert len(together) == _COUNT - 1
    for request in together:
        status = await world.refunds.status(request.refund_id)
        assert status["carried_by"] == burst_id

    assert (await carry(world, burst_id)).is_completed()
    [alone] = [request for request in requests if request not in together]
    assert (await world.work(alone)).is_completed()
    for request in requests:
        world.assert_paid_once(request)
    for run_id, request in by_run.items():
        ended = ("COMPLETED", "CarriedByBatch" if request in together else "Completed")
        assert await state_of(world, run_id) == ended


async def test_a_run_that_somebody_resumes_before_the_burst_finds_its_refund_in_other_hands(
    world: World,
) -> None:
    by_run = await asleep(world, 3)
    await decided(world, list(by_run.values()))
    burst_id, together = gathered(world, list(by_run.values()))
    [pressed, *_] = [run_id for run_id, request in by_run.items() if request in together]
    answer = {"decision": "reject", "approver": "bob", "reason": "I press what I like"}
    async with get_client() as client:
        resumed = await client.resume_flow_run(UUID(pressed), answer)
    assert resumed.status.value == "ACCEPT"
    run: Any = run_flow(refund, flow_run=await world.prefect_run(pressed), return_type="state")
    assert (await run).name == "AlreadyRunning"
    await carry(world, burst_id)
    for request in together:
        world.assert_paid_once(request)
    assert await state_of(world, pressed) == ("COMPLETED", "AlreadyRunning")


async def test_after_the_burst_nobody_can_resume_the_run_that_slept(world: World) -> None:
    by_run = await asleep(world, 2)
    await decided(world, list(by_run.values()), "reject")
    burst_id, [request] = gathered(world, list(by_run.values()))
    await carry(world, burst_id)
    assert world.outcome(request) == "REJECTED"
    world.assert_nothing_paid(request)
    [slept] = [run_id for run_id, each in by_run.items() if each is request]
    async with get_client() as client:
        resumed = await client.resume_flow_run(
            UUID(slept), {"decision": "approve", "approver": "b"}
        )
    assert resumed.status.value != "ACCEPT"


async def test_a_burst_whose_door_died_is_started_by_the_sweep_and_its_sleepers_are_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_run = await asleep(world, 3)
    with monkeypatch.context() as patch:

        async def dies(_batch_id: str) -> str:
            raise ConnectionResetError

        patch.setattr(runs, "launch_batch", dies)
        doors = (
            world.refunds.decide(each.refund_id, "approve", person="lea")
            for each in by_run.values()
        )
        await asyncio.gather(*doors, return_exceptions=True)
    burst_id, together = gathered(world, list(by_run.values()))
    assert batches.read(world.ledger, burst_id).run_id is None
    assert (await world.sweep())["batches"] == 1
    with monkeypatch.context() as patch:
        # It dies, too, before it has ended the runs that its refunds left asleep.

        async def nobody(_batch: Any) -> int:
            return 0

        patch.setattr(sleepers, "end_sleepers", nobody)
        await carry(world, burst_id)
    for request in together:
        world.assert_paid_once(request)
    slept = [run_id for run_id, each in by_run.items() if each in together]
    assert {await state_of(world, run_id) for run_id in slept} == {("PAUSED", "Suspended")}
    with world.ledger.writing() as connection:
        long_ago = world.ledger.clock().replace(year=2020)
        row = schema.runs.c
        connection.execute(
            schema.runs.update()
            .where(row.left_asleep_at.is_not(None))
            .values(left_asleep_at=long_ago)
        )
    assert (await world.sweep())["ended"] >= len(slept)
    assert {await state_of(world, run_id) for run_id in slept} == {("COMPLETED", "CarriedByBatch")}


async def test_a_batch_that_was_started_since_it_was_found_without_a_run_keeps_that_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [world.request() for _ in range(2)]
    with monkeypatch.context() as patch:

        async def away(_batch_id: str) -> str:
            raise SystemUnavailable("prefect", "away")

        patch.setattr(runs, "launch_batch", away)
        await world.refunds.submit(wanted)
    batch_id = world.row(wanted[0])["batch_id"]
    started: list[str] = []
    really = lost_runs.among

    async def among(rows: Any) -> Any:
        found = await really(rows)
        # Its door comes a moment after it was found.
        started.append(await runs.launch_batch(batch_id))
        return found

    monkeypatch.setattr(lost_runs, "among", among)
    await upkeep.relaunch_batches.fn()
    assert [batches.read(world.ledger, batch_id).run_id] == started
    await carry(world, batch_id)
    for request in wanted:
        world.assert_paid_once(request)
