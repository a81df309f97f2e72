"""A refund that leaves a batch's main road waits where the single chain would have it wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from refunds.clock import system_clock
from refunds.ledger import Ledger, batches, schema, waits
from refunds.models import Outcome
from tasks import books
from tests.batch.batch_world import World


def fault(endpoint: str, kind: str, times: int | None, **fields: Any) -> dict[str, Any]:
    return {"endpoint": endpoint, "kind": kind, "times": times, **fields}


def test_a_system_that_is_away_is_waited_for_without_a_run_and_calls_the_batch_back(
    world: World,
) -> None:
    wanted = world.requests(3, "away")
    batch_id = world.take_together(wanted)
    world.faults(fault("POST /crm/v1/cases", "unauthorized", None))
    prefect_runs = world.carry(batch_id)
    assert prefect_runs.created == {}
    assert world.states() == {"syncing": 3}
    assert [wait["name"] for wait in waits.open_waits(world.ledger, "away_00001")] == [
        "outage-crm-1"
    ]
    assert batches.to_launch(world.ledger) == []

    world.faults()
    with world.ledger.writing() as connection:
        connection.execute(schema.outages.update().values(until=system_clock()))
    in_an_hour = Ledger(books.ledger().engine, lambda: system_clock() + timedelta(hours=1))
    # One tries, and what it finds lets the others go on.
    for woken in (1, 2):
        assert len(waits.end_due(in_an_hour)) == woken
        [called_back] = batches.to_launch(world.ledger)
        world.carry(called_back.batch_id)
    assert world.states() == {"completed": 3}
    assert world.broken() == []


def test_a_payment_that_is_refused_for_good_is_compensated_and_the_others_are_paid(
    world: World,
) -> None:
    wanted = world.requests(3, "no", goodwill_minor=500)
    batch_id = world.take_together(wanted)
    world.faults(fault("POST /gateway/v1/refunds", "decline", 1))
    world.carry(batch_id)
    outcomes = sorted(world.row(request.refund_id)["outcome"] for request in wanted)
    assert outcomes == [Outcome.FAILED, Outcome.PAID, Outcome.PAID]
    assert world.broken() == []


def test_without_prefect_a_question_is_left_for_the_next_run_and_put_once(world: World) -> None:
    wanted = world.requests(2, "ask", goodwill_minor=9_000)
    batch_id = world.take_together(wanted)
    world.carry(batch_id, prefect_is_away=True)
    assert world.row("ask_00001")["lane"] == "batch"
    [called_back] = batches.to_launch(world.ledger)
    prefect_runs = world.carry(called_back.batch_id)
    assert sorted(prefect_runs.created) == [("ask_00001", 1), ("ask_00002", 1)]
    row = world.row("ask_00001")
    assert (row["lane"], row["run_number"]) == ("now", 1)
    assert row["run_id"] == prefect_runs.run_id("ask_00001", 1)
    keys = [act["key"] for act in world.acts() if act["refund_id"] == "ask_00001"]
    assert keys == ["ask_00001:send_card:1:team"]


def test_a_batch_is_carried_by_one_run_at_a_time(world: World) -> None:
    batch_id = world.take_together(world.requests(1, "one"))
    first = batches.take(world.ledger, batch_id, "run-1")
    assert first is not None
    assert batches.take(world.ledger, batch_id, "run-2") is None
    batches.release(world.ledger, first)
    assert batches.take(world.ledger, batch_id, "run-2") is not None
