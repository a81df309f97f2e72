"""Under a real Prefect: a history replays, and a reset starts a run that pays once."""

import asyncio
from typing import Any

import pytest

from refunds import history_document
from refunds.errors import CannotReset
from refunds.models import RefundRequest
from refunds.replay import Performance, replay
from tests.flows.flows_world import World

pytestmark = pytest.mark.anyio


async def replayed(world: World, request: RefundRequest) -> Performance:
    document = history_document.of(world.ledger, request.refund_id)
    return await asyncio.to_thread(replay, document)


async def reset(world: World, request: RefundRequest, to: str) -> dict[str, Any]:
    return await world.refunds.reset(
        request.refund_id, to, person="ops", reason="looked wrong", apply=True
    )


async def test_what_a_deployed_run_did_is_replayed_without_an_act(world: World) -> None:
    request = world.request(200_000)
    await world.refunds.submit([request])
    await world.work(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    assert (await world.work(request)).is_completed()
    acts = world.acts(request)
    performance = await replayed(world, request)
    assert (performance.difference, performance.outcome) == (None, "PAID")
    assert world.acts(request) == acts
    world.assert_paid_once(request)


async def test_a_reset_of_a_waiting_run_asks_again_and_pays_once(world: World) -> None:
    request = world.request(200_000)
    await world.refunds.submit([request])
    await world.work(request)
    before = world.row(request)["run_id"]
    done = await reset(world, request, "load_order")
    assert done["run_id"] not in (None, before)
    assert (await world.work(request)).name == "Suspended"
    assert [a["round"] for a in world.events(request, "approval.requested")] == [1, 2]
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    assert (await world.work(request)).is_completed()
    world.assert_paid_once(request)
    assert (await replayed(world, request)).difference is None
    with pytest.raises(CannotReset, match="it is over"):
        await reset(world, request, "load_order")


async def test_results_of_the_steps_that_run_again_are_gone_from_prefect(world: World) -> None:
    request = world.request(goodwill_minor=500)
    world.faults(
        {
            "endpoint": "POST /logistics/v1/labels",
            "kind": "error_before",
            "status": 422,
            "times": 1,
            "match": {"refund_id": request.refund_id},
        }
    )
    await world.refunds.submit([request])
    assert (await world.work(request)).name == "Suspended"
    done = await reset(world, request, "load_risk")
    assert f"{request.refund_id}:load_risk:1" in done["forgotten"]
    assert (await world.work(request)).is_completed()
    assert len(world.events(request, "refund.assessed")) == 2
    world.assert_paid_once(request)
