"""A version that would break refunds under way is refused, with the list of them."""

from __future__ import annotations

import pytest

from deployments import carried, setup
from refunds.ledger import Ledger, connector, engine_of, migrate, schema
from refunds.settings import settings
from sandbox.testing import FakeClock
from tests.ledger.ledger_desk import Desk, Runner


@pytest.fixture
def desk() -> Desk:
    url, clock = settings().ledger_database_url, FakeClock()
    migrate(url)
    return Desk(Ledger(engine_of(connector(url)), clock), clock)


def _assessed(desk: Desk, runner: Runner, **order: object) -> None:
    """What the flow writes of a round."""
    case = runner.case
    assert case.order is not None
    data = {
        "round": 1,
        "assessment": {"verdict": "REVIEW", "reasons": [], "policy_version": "1"},
        "order": case.order.plain() | order,
        "after_sales": [],
        "rivals": [],
        "risk": {
            "orders_total": 1,
            "orders_cancelled": 0,
            "spent_minor": 1,
            "refunded_minor": 0,
            "other_refunds": 0,
        },
    }
    with desk.ledger.page(runner.refund_id) as page:
        page.append("refund.assessed", data)


def test_what_this_version_began_it_can_carry_on(desk: Desk) -> None:
    runner = desk.paying()
    _assessed(desk, runner)
    assert carried.broken(desk.ledger) == []


def test_a_renamed_step_that_a_waiting_refund_has_done_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = desk.paying()
    steps = carried.steps_of_this_version() - {"issue_refund"}
    monkeypatch.setattr(carried, "steps_of_this_version", lambda: steps | {"pay_refund"})
    [sentence] = carried.broken(desk.ledger)
    assert sentence.startswith(runner.refund_id)
    assert "its step issue_refund is not in this version" in sentence
    with pytest.raises(
        setup.SetUpFailed, match=f"(?s)cannot carry on 1 refunds.*{runner.refund_id}"
    ):
        setup._migrate(settings())


def test_facts_that_this_version_cannot_read_are_refused(desk: Desk) -> None:
    runner = desk.run(desk.case())
    _assessed(desk, runner, colour_of_the_parcel="green")
    [sentence] = carried.broken(desk.ledger)
    assert "its order cannot be read (colour_of_the_parcel: Extra inputs" in sentence


def test_a_refund_that_is_over_holds_no_version_back(desk: Desk) -> None:
    runner = desk.run(desk.case())
    _assessed(desk, runner, colour_of_the_parcel="green")
    with desk.ledger.writing() as connection:
        connection.execute(schema.refunds.update().values(outcome="PAID"))
    assert carried.broken(desk.ledger) == []


def test_a_step_that_no_waiting_refund_has_done_may_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.run(desk.case())
    monkeypatch.setattr(carried, "steps_of_this_version", set)
    assert carried.broken(desk.ledger) == []
