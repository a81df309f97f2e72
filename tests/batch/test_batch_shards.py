"""A large batch is shared out by key range; no two have the same refund, and one report comes."""

from __future__ import annotations

from collections import Counter

import pytest

from refunds.clock import system_clock
from refunds.ledger import batches, nights, schema
from refunds.ledger.batches import Batch
from refunds.settings import settings
from tests.batch.batch_world import World


@pytest.fixture(autouse=True)
def small_shards(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three refunds are many."""
    monkeypatch.setenv("REFUNDS_SHARD_SIZE", "3")
    settings.cache_clear()


def open_shards(world: World, night: str) -> list[Batch]:
    return [each for each in batches.shards(world.ledger, night) if each.finished_at is None]


def test_each_refund_is_in_one_shard_and_the_last_shard_closes_the_night(world: World) -> None:
    wanted = world.requests(8, "part")
    night = world.opened_night(wanted)
    prefect_runs = world.carry(night)
    assert prefect_runs.launched == [f"{night}.{number}" for number in (1, 2, 3)]
    shards = batches.shards(world.ledger, night)
    with world.ledger.streaming() as connection:
        found = [row["refund_id"] for s in shards for row in nights.refunds_of(connection, s)]
    assert found == sorted(request.refund_id for request in wanted)
    assert world.states() == {"received": 8}

    # In any order; the night itself stays closed to others until all are through.
    for shard in reversed(shards):
        assert batches.take(world.ledger, night, "somebody") is None
        assert night not in [batch.batch_id for batch in batches.to_launch(world.ledger)]
        world.carry(shard.batch_id)
    assert world.states() == {"completed": 8}
    assert batches.read(world.ledger, night).finished_at is not None
    kept = nights.latest(world.ledger, night)
    assert kept is not None
    assert (kept.facts["asked"]["count"], kept.notice_state) == (8, "succeeded")
    assert world.broken() == []
    assert batches.to_launch(world.ledger) == []


def test_a_shard_that_died_is_taken_up_again_and_does_nothing_twice(world: World) -> None:
    wanted = world.requests(5, "dead")
    night = world.opened_night(wanted)
    world.carry(night)
    first, second = open_shards(world, night)
    # It took its lease and the refunds' and was gone.
    assert batches.take(world.ledger, first.batch_id, "a run that dies") is not None
    with world.ledger.writing() as connection:
        connection.execute(schema.batches.update().values(lease_holder="gone@here:1:1"))
    world.carry(second.batch_id)
    assert batches.read(world.ledger, night).finished_at is None
    with world.ledger.writing() as connection:
        connection.execute(schema.batches.update().values(lease_expires_at=system_clock()))
    assert [batch.batch_id for batch in batches.to_launch(world.ledger)] == [first.batch_id]
    world.carry(first.batch_id)
    assert world.states() == {"completed": 5}
    ours = {request.refund_id for request in wanted}
    done = Counter(act["key"] for act in world.acts() if act["refund_id"] in ours)
    assert max(done.values()) == 1


def test_a_night_whose_last_shard_died_before_the_report_is_closed_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = world.opened_night(world.requests(4, "last"))
    world.carry(night)
    first, second = open_shards(world, night)
    world.carry(first.batch_id)
    with monkeypatch.context() as patch:
        patch.setattr("flows.batch.reporting.send_report", _die)
        with pytest.raises(ConnectionResetError):
            world.carry(second.batch_id)
    assert nights.latest(world.ledger, night) is None
    [called] = batches.to_launch(world.ledger)
    assert called.batch_id == night
    world.carry(night)
    kept = nights.latest(world.ledger, night)
    assert kept is not None
    assert kept.facts["asked"]["count"] == 4
    assert world.states() == {"completed": 4}


def test_shards_whose_runs_cannot_be_started_are_left_to_the_sweep(world: World) -> None:
    night = world.opened_night(world.requests(4, "away"))
    world.carry(night, prefect_is_away=True)
    waiting = [batch.batch_id for batch in batches.to_launch(world.ledger)]
    assert waiting == [f"{night}.1", f"{night}.2"]


def test_a_stale_runner_closes_nothing(world: World) -> None:
    night = world.opened_night(world.requests(4, "old"))
    world.carry(night)
    shard = open_shards(world, night)[0]
    stale = batches.take(world.ledger, shard.batch_id, "a run")
    assert stale is not None
    with world.ledger.writing() as connection:
        connection.execute(schema.batches.update().values(lease_holder="another@there:1:1"))
    assert batches.finish(world.ledger, stale) is None
    assert batches.read(world.ledger, shard.batch_id).finished_at is None


def test_a_night_that_is_over_leaves_what_its_shards_have_not_begun(world: World) -> None:
    night = world.opened_night(world.requests(7, "dawn"))
    world.carry(night)
    first, *others = open_shards(world, night)
    world.carry(first.batch_id)
    for shard in others:
        world.carry(shard.batch_id, at=world.at_hours(2))
    assert world.states() == {"completed": 3, "received": 4}
    kept = nights.latest(world.ledger, night)
    assert kept is not None
    assert kept.facts["left_over"] == 4


async def _die(_: object) -> None:
    raise ConnectionResetError
