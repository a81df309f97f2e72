"""A night: what it takes, when it ends, and who goes on with what it began."""

from __future__ import annotations

import asyncio
from datetime import date
from types import SimpleNamespace

import pytest

from refunds.clock import system_clock
from refunds.ledger import batches, schema, waits
from tasks import lost_runs, runs, upkeep
from tests.batch.batch_world import World

# Longer than the night and the patience with a settlement together.
_DAYS_LATER_HOURS = 24 * 30


def test_what_is_not_begun_when_the_night_is_over_is_left_to_the_next_one(world: World) -> None:
    wanted = world.requests(2, "late")
    night = world.opened_night(wanted)
    world.carry(night, at=world.at_hours(2))
    assert world.states() == {"received": 2}
    assert {world.row(request.refund_id)["lane"] for request in wanted} == {"nightly"}

    world.carry(world.opened_night())
    assert world.states() == {"completed": 2}


def test_what_a_night_began_goes_on_though_the_night_is_over(world: World) -> None:
    [request] = world.requests(1, "begun")
    night = world.opened_night([request])
    world.faults({"endpoint": "POST /crm/v1/cases", "kind": "unauthorized", "times": None})
    world.carry(night)
    assert world.states() == {"syncing": 1}

    world.faults()
    with world.ledger.writing() as connection:
        connection.execute(schema.outages.update().values(until=system_clock()))
    noon = world.at_hours(10)
    assert waits.end_due(noon) == [request.refund_id]
    [called_back] = batches.to_launch(world.ledger)
    world.carry(called_back.batch_id, at=noon)
    assert world.states() == {"completed": 1}
    assert batches.to_launch(world.ledger) == []


def test_a_payment_that_is_never_settled_is_woken_when_it_is_due_and_is_a_persons_case(
    world: World,
) -> None:
    [request] = world.requests(1, "slow")
    night = world.opened_night([request])
    pending = {"kind": "pending", "settle_after_seconds": 10**6, "times": 1}
    world.faults({"endpoint": "POST /gateway/v1/refunds", **pending})
    assert world.carry(night).created == {}
    [wait] = waits.open_waits(world.ledger, request.refund_id)
    assert (wait["name"], wait["run_id"]) == ("settlement-1", None)
    assert batches.to_launch(world.ledger) == []

    much_later = world.at_hours(_DAYS_LATER_HOURS)
    assert waits.end_due(much_later) == [request.refund_id]
    [called_back] = batches.to_launch(world.ledger)
    prefect_runs = world.carry(called_back.batch_id, at=much_later)
    assert list(prefect_runs.created) == [(request.refund_id, 1)]
    assert world.states() == {"needs_attention": 1}


def test_a_night_that_is_opened_twice_takes_what_came_in_and_carries_nothing_twice(
    world: World,
) -> None:
    first = world.requests(2, "one")
    night = world.opened_night(first)
    world.carry(night)
    # Its keys come before those that the night has passed already.
    second = world.requests(2, "early")
    assert world.opened_again(second) == night
    world.carry(night)
    assert world.states() == {"completed": 4}
    ours = {request.refund_id for request in (*first, *second)}
    acts = [act["key"] for act in world.acts() if act["refund_id"] in ours]
    assert len(acts) == len(set(acts))


def test_a_night_whose_run_died_before_it_was_opened_is_started_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.leave_to_the_night(world.requests(1, "never"))
    begun = system_clock()
    dead = SimpleNamespace(id="run-1", parameters={"night": None}, expected_start_time=begun)
    launched: list[tuple[date | None, str | None]] = []

    async def lost_night() -> SimpleNamespace:
        return dead

    async def launch_nightly(night: date | None, replaces: str | None = None) -> str:
        launched.append((night, replaces))
        return "run-2"

    monkeypatch.setattr(lost_runs, "night", lost_night)
    monkeypatch.setattr(runs, "launch_nightly", launch_nightly)
    assert asyncio.run(upkeep.relaunch_night.fn()) == 1
    assert launched == [(begun.date(), "run-1")]
    # Once the ledger knows of it, it is a batch like any other.
    batches.open_night(world.ledger, begun.date(), 1)
    assert asyncio.run(upkeep.relaunch_night.fn()) == 0
