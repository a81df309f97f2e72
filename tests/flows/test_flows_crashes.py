"""Killed at any moment: a further run finishes the refund, and each act happened once."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Crashed, Pending, Running, Suspended

from refunds.ledger import effects, requests
from refunds.models import RefundRequest
from tasks import lost_runs, runs, upkeep
from tests.flows.flows_world import World, fault, until

pytestmark = pytest.mark.anyio

# Held after it acted, or before: either way the process that asked does not learn of it.
_HELD = {"timeout_after": {"seconds": 60}, "slow": {"seconds": 2}}


@pytest.mark.parametrize(
    ("endpoint", "kind", "step"),
    [
        ("POST /logistics/v1/labels", "timeout_after", "create_return_label"),
        ("POST /gateway/v1/refunds", "timeout_after", "issue_refund"),
        ("POST /gateway/v1/refunds", "slow", "issue_refund"),
        ("POST /crm/v1/cases", "timeout_after", "sync_crm"),
        ("POST /notices/v1/messages", "timeout_after", "notify_customer"),
    ],
    ids=["label_made", "paid", "about_to_pay", "crm_told", "customer_told"],
)
async def test_a_refund_killed_in_a_step_is_finished_once_by_a_further_run(
    world: World, endpoint: str, kind: str, step: str
) -> None:
    request = world.request()
    key = f"{request.refund_id}:{step}"
    match = {"refund_id": request.refund_id}
    world.faults(fault(endpoint, kind, match=match, **_HELD[kind]))
    process = world.start_elsewhere(request)
    if kind == "slow":
        await until(lambda: effects.read(world.ledger, key), "the intent is written")
    else:
        await until(lambda: key in world.acts(request), "the other system has acted")
    process.kill()
    process.wait()
    effect = effects.read(world.ledger, key)
    assert effect is not None
    # The gateway's webhook may bring the ending of a payment whose run is dead.
    assert not effect.is_final or step == "issue_refund"
    assert (await world.run(request)).name == "AlreadyRunning"
    assert await upkeep.relaunch_lost.fn() >= 1
    # What the dead process sent may still be under way: then the gateway asks for patience.
    while (await world.work(request)).name == "Suspended":
        await world.pass_time(request, hours=1)
    world.assert_paid_once(request)
    assert len(world.events(request, "run.launched")) == 1


@pytest.mark.parametrize("finder", ["the sweep", "a worker"])
async def test_whoever_looks_for_lost_refunds_starts_them_again(world: World, finder: str) -> None:
    request = world.request()
    match = {"refund_id": request.refund_id}
    world.faults(fault("POST /logistics/v1/labels", "timeout_after", match=match, seconds=60))
    process = world.start_elsewhere(request)
    key = f"{request.refund_id}:create_return_label"
    await until(lambda: key in world.acts(request), "the label is made")
    process.kill()
    process.wait()
    await (upkeep.recover() if finder == "a worker" else world.sweep())
    assert len(world.events(request, "run.launched")) == 1
    while (await world.work(request)).name == "Suspended":
        await world.pass_time(request, hours=1)
    world.assert_paid_once(request)


async def test_a_refund_killed_while_it_waits_is_decided_and_paid_once(world: World) -> None:
    request = world.request(200_000)
    process = world.start_elsewhere(request)
    await world.until_waiting(request)
    process.kill()
    process.wait()
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    # Prefect takes the dead run for paused and lets it go on; nobody does.
    with world.later(seconds=90):
        assert await upkeep.relaunch_lost.fn() >= 1
    assert (await world.work(request)).is_completed()
    world.assert_paid_once(request)


async def test_runs_that_sleep_as_they_should_are_counted_and_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = [await _suspended(world) for _ in range(3)]
    rows = [{**world.row(request), "is_waiting": True} for request in asleep]
    read = _noting("read_flow_runs", monkeypatch)
    assert await lost_runs.among(rows) == []
    assert read == []

    # What else is asked about is asked for by name.
    queued = world.request()
    await world.refunds.submit([queued])
    assert await lost_runs.among([*rows, world.row(queued)]) == []
    assert read == [world.row(queued)["run_id"]]


@pytest.mark.parametrize("loss", ["deleted", "cancelled", "crashed"])
async def test_a_refund_whose_run_goes_while_it_waits_gets_another(world: World, loss: str) -> None:
    request, other = await _suspended(world), await _suspended(world)
    before, others = world.row(request), world.row(other)
    async with get_client() as client:
        if loss == "deleted":
            await client.delete_flow_run(UUID(before["run_id"]))
        else:
            state: State[Any] = Cancelled() if loss == "cancelled" else Crashed()
            await client.set_flow_run_state(UUID(before["run_id"]), state, force=True)
    with world.later(seconds=90):
        assert await upkeep.relaunch_lost.fn() >= 1
    assert world.row(request)["run_number"] == before["run_number"] + 1
    assert world.row(other)["run_number"] == others["run_number"]


async def test_a_refund_that_waits_for_long_is_left_to_whoever_wakes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = world.row(await _suspended(world))["run_id"]
    counted = _noting("count_flow_runs", monkeypatch)
    with world.later(seconds=90):
        await upkeep.recover()
    assert run_id in counted
    counted.clear()
    with world.later(seconds=180):
        await upkeep.recover()
    assert run_id not in counted
    # The sweep still looks, for an hour.
    with world.later(seconds=180):
        await upkeep.relaunch_lost.fn()
    assert run_id in counted


async def test_a_run_that_somebody_suspended_for_some_time_is_lost_after_it(world: World) -> None:
    request = world.request()
    await world.refunds.submit([request])
    run_id = UUID(world.row(request)["run_id"])
    async with get_client() as client:
        states: list[State[Any]] = [Pending(), Running(), Suspended(timeout_seconds=60)]
        for state in states:
            await client.set_flow_run_state(run_id, state)
    with world.later(seconds=30):
        assert await lost_runs.among([world.row(request)]) == []
    with world.later(seconds=90):
        assert await lost_runs.among([world.row(request)]) == [world.row(request)]


async def test_a_run_that_takes_over_goes_before_all_that_nobody_has_begun(world: World) -> None:
    begun, queued = world.request(), world.request()
    await world.refunds.submit([begun])
    await world.refunds.submit([queued])
    further = await runs.launch(begun.refund_id, again=True)
    first = requests.read(world.ledger, queued.refund_id)["run_id"]
    due = {run_id: await _due_at(run_id) for run_id in (further, first)}
    assert due[further] < due[first]


async def _suspended(world: World) -> RefundRequest:
    request = world.request(200_000)
    await world.refunds.submit([request])
    assert (await world.work(request)).name == "Suspended"
    return request


def _noting(call: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the runs that Prefect is asked about by this call of its client."""
    asked: list[str] = []
    really = getattr(PrefectClient, call)

    async def noted(client: PrefectClient, **about: Any) -> Any:
        about_ids = about["flow_run_filter"].id
        asked.extend(str(each) for each in (about_ids.any_ if about_ids else ()))
        return await really(client, **about)

    monkeypatch.setattr(PrefectClient, call, noted)
    return asked


async def _due_at(run_id: str) -> datetime:
    async with get_client() as client:
        due = (await client.read_flow_run(UUID(run_id))).next_scheduled_start_time
    assert due is not None
    return due
