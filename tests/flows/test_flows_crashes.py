"""Killed at any moment: a further run finishes the refund, and each act happened once."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client

from refunds.ledger import effects, requests
from tasks import runs, upkeep
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


async def test_a_worker_asks_once_about_a_run_that_sleeps_until_its_refund_is_written_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = world.request(200_000)
    await world.refunds.submit([request])
    assert (await world.work(request)).name == "Suspended"
    run_id = world.row(request)["run_id"]
    asked: list[list[str]] = []
    really = PrefectClient.read_flow_runs

    async def counted(client: PrefectClient, **about: Any) -> Any:
        asked.append([str(each) for each in about["flow_run_filter"].id.any_])
        return await really(client, **about)

    monkeypatch.setattr(PrefectClient, "read_flow_runs", counted)
    asleep: runs.Asleep = set()
    with world.later(seconds=90):
        for _ in range(3):
            await upkeep.relaunch_lost.fn(asleep)
    assert sum(run_id in ids for ids in asked) == 1

    await world.refunds.decide(request.refund_id, "approve", person="lea")
    with world.later(seconds=180):
        await upkeep.relaunch_lost.fn(asleep)
    assert sum(run_id in ids for ids in asked) == 2
    assert (await world.work(request)).is_completed()


async def test_a_run_that_takes_over_goes_before_all_that_nobody_has_begun(world: World) -> None:
    begun, queued = world.request(), world.request()
    await world.refunds.submit([begun])
    await world.refunds.submit([queued])
    further = await runs.launch(begun.refund_id, again=True)
    first = requests.read(world.ledger, queued.refund_id)["run_id"]
    due = {run_id: await _due_at(run_id) for run_id in (further, first)}
    assert due[further] < due[first]


async def _due_at(run_id: str) -> datetime:
    async with get_client() as client:
        due = (await client.read_flow_run(UUID(run_id))).next_scheduled_start_time
    assert due is not None
    return due
