"""What changes between a batch's verdict and its payment concerns one refund, not its chunk."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from refunds import history_document
from refunds.clock import system_clock
from refunds.ledger import batches, schema, waits
from refunds.models import Outcome
from refunds.replay import replay
from tasks.batch import asides
from tests.batch.batch_world import World


def test_a_charge_that_is_disputed_is_a_persons_case_and_the_others_are_paid(world: World) -> None:
    wanted = world.requests(3, "bank")
    world.dispute(wanted[1])
    prefect_runs = world.carry(world.take_together(wanted))
    assert world.states() == {"completed": 2, "awaiting_approval": 1}
    assert list(prefect_runs.created) == [(wanted[1].refund_id, 1)]
    assert [reason["rule"] for reason in world.row(wanted[1].refund_id)["reasons"]] == ["disputed"]
    assert world.broken() == []


def test_an_order_that_no_longer_fits_is_its_own_refunds_trouble(world: World) -> None:
    wanted = world.requests(3, "fit")

    def spoil() -> None:
        world.in_the_shop(
            "UPDATE payments SET amount_minor = -1 WHERE order_id = ?", wanted[1].order_id
        )

    world.carry(world.take_together(wanted), before_paying=spoil)
    assert world.states() == {"completed": 2, "needs_attention": 1}
    assert wanted[1].order_id in world.row(wanted[1].refund_id)["attention"]
    assert world.broken() == []


def test_a_refused_payment_holds_no_money_however_late_it_is_told(world: World) -> None:
    wanted = world.requests(1, "held")
    batch_id = world.take_together(wanted)
    world.faults(
        {"endpoint": "POST /gateway/v1/refunds", "kind": "decline", "times": 1},
        {"endpoint": "POST /crm/v1/cases", "kind": "unauthorized", "times": None},
    )
    world.carry(batch_id)
    assert world.states() == {"syncing": 1}

    world.faults()
    with world.ledger.writing() as connection:
        connection.execute(schema.outages.update().values(until=system_clock()))
    waits.end_due(world.at_hours(1))
    [called_back] = batches.to_launch(world.ledger)
    world.carry(called_back.batch_id)
    assert world.row(wanted[0].refund_id)["outcome"] == Outcome.FAILED
    with world.ledger.reading() as connection:
        assert set(connection.execute(sa.select(schema.reservations.c.state)).scalars()) == {
            "released"
        }
    assert world.broken() == []


def test_a_payment_that_was_blocked_as_the_batch_died_is_not_attempted_anew_without_a_person(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = world.requests(2, "blocked")
    batch_id = world.take_together(wanted)
    fault = {"endpoint": "POST /gateway/v1/refunds", "kind": "decline", "times": 1}
    world.faults({**fault, "status": 400, "code": "charge_disputed"})

    async def dies(_chunk: object, errors: dict[str, Exception]) -> None:
        if errors:
            raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(asides, "put_aside", dies)
        with pytest.RaisesGroup(ConnectionResetError, flatten_subgroups=True):
            world.carry(batch_id)
    world.carry(batch_id)
    by_state = {world.row(request.refund_id)["state"]: request for request in wanted}
    stuck = by_state["needs_attention"]
    assert "`refunds resume` pays it anew" in world.row(stuck.refund_id)["attention"]
    assert world.row(by_state["completed"].refund_id)["outcome"] == "PAID"
    assert [act for act in world.acts() if act["key"] == f"{stuck.refund_id}:issue_refund:2"] == []
    assert world.broken() == []
    assert replay(history_document.of(world.ledger, stuck.refund_id)).difference is None
