"""A wait is open until what it waits for has come, and done when the run has passed it."""

from datetime import datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from refunds.errors import StaleRunner
from refunds.ledger import effects, history, leases, requests, schema, waits
from refunds.ledger.waits import WAKE_AGAIN_SECONDS
from tests.ledger.ledger_desk import Desk, Runner, at_once

TEAM = "approval-1-team"


def wait(desk: Desk, runner: Runner, name: str = TEAM, due_at: datetime | None = None) -> int:
    return waits.open_wait(
        desk.ledger,
        runner.refund_id,
        name,
        reason="person",
        run_id="run-1",
        fence=runner.fence,
        due_at=due_at,
    )


def again(desk: Desk, runner: Runner) -> Runner:
    lease = leases.take(desk.ledger, runner.refund_id, "run-1")
    assert lease.fence is not None
    return Runner(runner.case, lease.fence)


def claim(desk: Desk, runner: Runner) -> str | None:
    with desk.ledger.page(runner.refund_id) as page:
        return waits.claim_wake(page)


def has_ended(desk: Desk, runner: Runner, name: str = TEAM) -> bool:
    (found,) = (w for w in waits.open_waits(desk.ledger, runner.refund_id) if w["name"] == name)
    return found["ended_at"] is not None


def is_to_wake(desk: Desk, runner: Runner) -> bool:
    return runner.refund_id in {refund_id for refund_id, _, _ in waits.to_wake(desk.ledger)}


def test_waiting_gives_the_lease_back(desk: Desk) -> None:
    runner = desk.asked()
    assert wait(desk, runner) == 1
    with pytest.raises(StaleRunner):
        history.append(desk.ledger, runner.refund_id, "note", {}, runner.fence)


def test_each_time_a_wait_is_begun_has_a_number_of_its_own(desk: Desk) -> None:
    runner = desk.asked()
    begun = [wait(desk, runner), wait(desk, again(desk, runner)), wait(desk, again(desk, runner))]
    assert begun == [1, 2, 3]
    assert desk.events(runner.refund_id).count("wait.started") == 1


def test_a_decision_ends_the_wait_and_a_wait_that_ended_is_not_begun_again(desk: Desk) -> None:
    runner = desk.asked()
    wait(desk, runner)
    assert not has_ended(desk, runner)
    desk.decide(runner, "approve")
    assert has_ended(desk, runner)
    assert wait(desk, again(desk, runner)) == 0


def test_a_decision_that_came_before_the_wait_leaves_nothing_to_wait_for(desk: Desk) -> None:
    runner = desk.asked()
    desk.decide(runner, "approve")
    assert wait(desk, runner) == 0
    assert waits.open_waits(desk.ledger, runner.refund_id) == []


def test_a_new_round_waits_although_the_last_one_was_decided(desk: Desk) -> None:
    runner = desk.asked()
    desk.decide(runner, "approve")
    desk.ask(runner, round_number=2)
    assert wait(desk, runner, "approval-2-team") == 1


def test_a_payment_that_settled_before_the_wait_leaves_nothing_to_wait_for(desk: Desk) -> None:
    runner = desk.paying()
    desk.record(runner, "pending", response={"id": "re_1"})
    desk.record(runner, "succeeded", response={"id": "re_1"})
    assert wait(desk, runner, "settlement-1") == 0


def test_a_settlement_ends_the_wait_for_it_and_no_other(desk: Desk) -> None:
    runner = desk.paying()
    desk.record(runner, "pending", response={"id": "re_1"})
    wait(desk, runner, "settlement-1")
    wait(desk, again(desk, runner), "outage-crm-1")
    effects.record(desk.ledger, runner.refund_id, runner.payment_key, "succeeded")
    assert has_ended(desk, runner, "settlement-1")
    assert not has_ended(desk, runner, "outage-crm-1")


def test_a_wait_ends_when_its_time_has_come_and_not_before(desk: Desk) -> None:
    runner = desk.asked()
    wait(desk, runner, due_at=desk.clock() + timedelta(seconds=60))
    desk.clock.advance(59)
    assert runner.refund_id not in waits.end_due(desk.ledger)
    desk.clock.advance(1)
    assert runner.refund_id in waits.end_due(desk.ledger)
    assert runner.refund_id not in waits.end_due(desk.ledger)
    assert desk.events(runner.refund_id).count("wait.ended") == 1


def test_a_decision_is_committed_before_anything_is_woken(desk: Desk) -> None:
    runner = desk.asked()
    wait(desk, runner)
    assert not is_to_wake(desk, runner)
    assert claim(desk, runner) is None
    desk.decide(runner, "approve")
    assert desk.standing(runner).status == "APPROVED"
    assert is_to_wake(desk, runner)


def test_of_many_wakers_one_wakes_the_run(desk: Desk) -> None:
    runner = desk.asked()
    wait(desk, runner)
    desk.decide(runner, "approve")
    woken = at_once(*[partial(claim, desk, runner)] * 6)
    assert sorted(woken, key=str) == [None] * 5 + ["run-1"]
    assert not is_to_wake(desk, runner)


def test_a_wake_up_that_was_lost_is_given_again(desk: Desk) -> None:
    runner = desk.asked()
    wait(desk, runner)
    desk.decide(runner, "approve")
    claim(desk, runner)
    desk.clock.advance(WAKE_AGAIN_SECONDS)
    assert is_to_wake(desk, runner)
    assert claim(desk, runner) == "run-1"


def test_a_run_that_goes_on_has_passed_its_wait(desk: Desk) -> None:
    runner = desk.asked()
    wait(desk, runner)
    desk.decide(runner, "approve")
    again(desk, runner)
    desk.clock.advance(WAKE_AGAIN_SECONDS)
    assert not is_to_wake(desk, runner)
    assert waits.open_waits(desk.ledger, runner.refund_id) == []


def test_a_wait_is_passed_once_however_often_its_run_starts(desk: Desk) -> None:
    runner = desk.asked()
    wait(desk, runner)
    desk.decide(runner, "approve")
    for _ in range(2):
        again(desk, runner)
    assert desk.events(runner.refund_id).count("wait.passed") == 1
    assert waits.count_named(desk.ledger, runner.refund_id, "approval-") == 1


def test_a_run_without_a_wait_passes_nothing(desk: Desk) -> None:
    runner = desk.run()
    assert waits.open_waits(desk.ledger, runner.refund_id) == []
    assert "wait.passed" not in desk.events(runner.refund_id)


def test_deciding_and_beginning_to_wait_at_once_never_sleeps_through_the_decision(
    desk: Desk,
) -> None:
    for _ in range(5):
        runner = desk.asked()
        begun, _ = at_once(partial(wait, desk, runner), partial(desk.decide, runner, "approve"))
        assert begun == 0 or is_to_wake(desk, runner)


def test_a_time_without_a_zone_is_refused(desk: Desk) -> None:
    runner = desk.asked()
    with pytest.raises(sa.exc.StatementError, match="without a timezone"):
        wait(desk, runner, due_at=desk.clock().replace(tzinfo=None))
    with desk.ledger.reading() as connection:
        row = schema.waits.c
        query = sa.select(row.name).where(row.refund_id == runner.refund_id)
        assert connection.execute(query).all() == []


def test_a_wake_up_from_before_the_clock_was_set_back_is_given_again(desk: Desk) -> None:
    runner = desk.run()
    desk.clock.advance(3_600)
    waits.open_wait(
        desk.ledger,
        runner.refund_id,
        "outage-crm-1",
        reason="timer",
        run_id="run-1",
        fence=runner.fence,
        due_at=desk.clock(),
    )
    waits.end_due(desk.ledger)
    assert claim(desk, runner) == "run-1"
    assert claim(desk, runner) is None
    desk.clock.advance(-3_600)
    assert claim(desk, runner) == "run-1"


def test_a_wait_is_unfinished_work_while_it_is_fresh_and_again_when_it_has_ended(
    desk: Desk,
) -> None:
    runner = desk.asked()

    def is_waiting(since: timedelta) -> bool | None:
        found = requests.unfinished(desk.ledger, desk.clock() - since)
        rows = {row["refund_id"]: row["is_waiting"] for row in found}
        return rows.get(runner.refund_id)

    assert is_waiting(timedelta(hours=1)) is False
    wait(desk, runner)
    desk.clock.advance(60)
    assert is_waiting(timedelta(hours=1)) is True
    assert is_waiting(timedelta(seconds=59)) is None
    desk.decide(runner, "approve")
    assert is_waiting(timedelta(seconds=59)) is False
