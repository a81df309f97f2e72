"""What is decided at the same time goes to one carrier, whoever wakes it, and to one only."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from refunds.ledger import batches, bursts, leases, requests, schema, waits
from refunds.ledger.batches import Batch
from refunds.ledger.bursts import Claim
from refunds.models import Outcome
from tests.ledger.ledger_desk import Desk, Runner, at_once

FROM = 2


@pytest.fixture(autouse=True)
def _nothing_is_under_way(desk: Desk) -> None:
    """Tests share a ledger: no other one's wake-ups or bursts count."""
    with desk.ledger.writing() as connection:
        connection.execute(schema.waits.update().values(passed_at=desk.clock()))
        connection.execute(schema.batches.update().values(finished_at=desk.clock()))


def waiting(desk: Desk) -> Runner:
    """A refund that was launched and waits for a person."""
    case = desk.case()
    with desk.ledger.page(case.refund_id) as page:
        leases.assign(page, "run-1", 1)
    runner = desk.run(case)
    desk.ask(runner)
    waits.open_wait(
        desk.ledger,
        runner.refund_id,
        "approval-1-team",
        reason="person",
        run_id="run-1",
        fence=runner.fence,
    )
    return runner


def decided(desk: Desk) -> Runner:
    runner = waiting(desk)
    desk.decide(runner, "approve")
    return runner


def claim(desk: Desk, runner: Runner, burst_from: int = FROM) -> Claim | None:
    return bursts.claim(desk.ledger, runner.refund_id, burst_from)


def gathered(desk: Desk, count: int = 2) -> tuple[str, list[Runner]]:
    """A burst that nobody has taken yet, and what is in it."""
    runners = [decided(desk) for _ in range(count)]
    found = {claim(desk, runner, 0) for runner in runners}
    [burst_id] = {each.burst_id for each in found if each is not None}
    assert burst_id is not None
    return burst_id, runners


def row(desk: Desk, runner: Runner) -> dict[str, object]:
    return requests.read(desk.ledger, runner.refund_id)


def burst(desk: Desk, burst_id: str) -> Batch:
    return batches.read(desk.ledger, burst_id)


def sleepers(desk: Desk, burst_id: str) -> set[str]:
    return {found.refund_id for found in bursts.left_asleep(desk.ledger, burst_id=burst_id)}


def test_the_first_few_wake_their_own_runs_and_what_comes_behind_them_is_gathered(
    desk: Desk,
) -> None:
    claims = [claim(desk, decided(desk)) for _ in range(5)]
    assert [found.run_id for found in claims if found] == ["run-1", "run-1", None, None, None]
    later = [found for found in claims if found and found.burst_id]
    assert len({found.burst_id for found in later}) == 1
    assert [found.opens for found in later] == [True, False, False]


def test_runs_that_have_gone_on_are_nobodys_crowd(desk: Desk) -> None:
    for _ in range(4):
        runner = decided(desk)
        found = claim(desk, runner)
        assert found == Claim(run_id="run-1")
        assert leases.take(desk.ledger, runner.refund_id, "run-1").fence is not None


def test_while_a_burst_is_under_way_what_is_decided_joins_the_next(desk: Desk) -> None:
    first, _ = gathered(desk)
    taken = batches.take(desk.ledger, first, "run-of-the-burst")
    assert taken is not None
    found = claim(desk, decided(desk), 100)
    assert found is not None
    assert found.opens
    assert found.burst_id not in (None, first)
    for batch in (taken, batches.take(desk.ledger, found.burst_id or "", "run-2")):
        assert batch is not None
        batches.finish(desk.ledger, batch)
    assert claim(desk, decided(desk), 100) == Claim(run_id="run-1")


def test_a_burst_that_a_run_has_taken_takes_nobody_in_any_more(desk: Desk) -> None:
    burst_id, runners = gathered(desk)
    batch = batches.take(desk.ledger, burst_id, "run-of-the-burst")
    assert batch is not None
    late = decided(desk)
    claim(desk, late, 0)
    keys = batches.next_keys(desk.ledger, batch, 10)
    assert keys == sorted(runner.refund_id for runner in runners)


# SQLite lets one writer in at a time.
@pytest.mark.parametrize(
    "ledger_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
def test_a_door_that_looked_just_before_another_one_opened_a_burst_joins_it(desk: Desk) -> None:
    late, early = decided(desk), decided(desk)
    came_first: list[Claim | None] = []

    def come_first(*executed: Any) -> None:
        statement = executed[2]
        if not came_first and "FROM batches" in statement and "FOR UPDATE" in statement:
            came_first.append(None)
            other = threading.Thread(
                target=lambda: came_first.append(claim(desk, early, 0)), name="another door"
            )
            other.start()
            other.join()

    sa.event.listen(desk.ledger.engine, "after_cursor_execute", come_first)
    try:
        joined = claim(desk, late, 0)
    finally:
        sa.event.remove(desk.ledger.engine, "after_cursor_execute", come_first)
    opened = came_first[1]
    assert opened is not None
    assert opened.opens
    assert joined == Claim(burst_id=opened.burst_id, opens=False)


def test_of_many_doors_one_claims_a_refund_and_one_opens_the_burst(desk: Desk) -> None:
    runners = [decided(desk) for _ in range(6)]
    found = at_once(*[partial(claim, desk, runner, 0) for runner in runners for _ in range(3)])
    claims = [each for each in found if each is not None]
    assert not [each for each in claims if isinstance(each, BaseException)]
    assert len(claims) == len(runners)
    opened = [each.burst_id for each in claims if each.opens]
    assert len(opened) == len(set(opened))
    assert {each.burst_id for each in claims} == set(opened)
    assert len(opened) == 1


def test_a_refund_in_a_burst_is_not_woken_again(desk: Desk) -> None:
    _, [runner] = gathered(desk, 1)
    desk.clock.advance(waits.WAKE_AGAIN_SECONDS)
    assert claim(desk, runner, 0) is None
    assert runner.refund_id not in {name for name, _, _ in waits.to_wake(desk.ledger)}


def test_a_door_that_dies_before_it_starts_the_bursts_run_leaves_it_to_be_found(
    desk: Desk,
) -> None:
    burst_id, _ = gathered(desk)
    assert burst_id in {batch.batch_id for batch in batches.to_launch(desk.ledger)}
    batches.assign(desk.ledger, burst_id, "run-of-the-burst", 1)
    batch = batches.take(desk.ledger, burst_id, "run-of-the-burst")
    assert batch is not None
    assert burst_id not in {batch.batch_id for batch in batches.to_launch(desk.ledger)}


def test_who_comes_late_with_the_run_that_a_batch_has_waits_for_nobody(desk: Desk) -> None:
    burst_id, _ = gathered(desk)
    batches.assign(desk.ledger, burst_id, "run-of-the-burst", 1)
    with desk.ledger.writing() as connection:
        # That run is about to write the batch's row.
        connection.execute(schema.batches.update().values(cursor="rf"))
        batches.assign(desk.ledger, burst_id, "run-of-the-burst", 1)


def test_a_run_that_was_quicker_than_the_door_that_started_it_has_not_died(desk: Desk) -> None:
    burst_id, _ = gathered(desk)
    assert batches.take(desk.ledger, burst_id, "run-of-the-burst") is not None
    batches.assign(desk.ledger, burst_id, "run-of-the-burst", 1)
    assert batches.read(desk.ledger, burst_id).deaths == 0
    batches.assign(desk.ledger, burst_id, "run-2", 2)
    assert batches.read(desk.ledger, burst_id).deaths == 1


def test_its_own_run_is_turned_away_before_and_after_the_burst_has_a_run(desk: Desk) -> None:
    burst_id, [runner] = gathered(desk, 1)
    lease = leases.take(desk.ledger, runner.refund_id, "run-1")
    assert (lease.fence, lease.held_by) == (None, burst_id)
    batches.assign(desk.ledger, burst_id, "run-of-the-burst", 1)
    lease = leases.take(desk.ledger, runner.refund_id, "run-1")
    assert (lease.fence, lease.held_by) == (None, "run-of-the-burst")
    assert desk.events(runner.refund_id).count("run.turned_away") == 2


def test_who_joins_after_its_run_was_started_belongs_to_that_run(desk: Desk) -> None:
    burst_id, _ = gathered(desk)
    batches.assign(desk.ledger, burst_id, "run-of-the-burst", 1)
    late = decided(desk)
    found = claim(desk, late, 0)
    assert found == Claim(burst_id=burst_id, opens=False)
    assert row(desk, late)["run_id"] == "run-of-the-burst"


def test_the_run_left_asleep_is_remembered_until_it_is_ended(desk: Desk) -> None:
    burst_id, runners = gathered(desk)
    assert sleepers(desk, burst_id) == {runner.refund_id for runner in runners}
    [first, _] = bursts.left_asleep(desk.ledger, burst_id=burst_id)
    assert first.run_id == "run-1"
    bursts.note_ended(desk.ledger, [first])
    assert sleepers(desk, burst_id) == {r.refund_id for r in runners} - {first.refund_id}
    before = bursts.left_asleep(desk.ledger, before=desk.clock())
    assert first.refund_id not in {found.refund_id for found in before}


@pytest.mark.parametrize("why", ["in somebody's process", "reset", "given up", "asked on"])
def test_what_a_batch_could_not_go_on_with_wakes_its_own_run(desk: Desk, why: str) -> None:
    runner = waiting(desk)
    if why == "asked on":
        with desk.ledger.page(runner.refund_id) as page:
            waits.end(page, ("approval",), "the next level is due")
    else:
        desk.decide(runner, "approve")
    with desk.ledger.page(runner.refund_id) as page:
        if why == "in somebody's process":
            page.change(run_number=0)
        elif why == "reset":
            page.append("refund.reset", {"forgotten": []})
        elif why == "given up":
            page.change(given_up="lea: never mind")
    assert claim(desk, runner, 0) == Claim(run_id="run-1")


def test_a_question_whose_time_is_over_is_carried_by_a_burst(desk: Desk) -> None:
    runner = waiting(desk)
    desk.clock.advance(25 * 3_600)
    with desk.ledger.page(runner.refund_id) as page:
        waits.end(page, ("approval",), "due")
    found = claim(desk, runner, 0)
    assert found is not None
    assert found.burst_id is not None


def test_a_burst_that_runs_cannot_carry_leaves_each_refund_to_a_run_of_its_own(
    desk: Desk,
) -> None:
    burst_id, [runner] = gathered(desk, 1)
    batches.dissolve(desk.ledger, burst(desk, burst_id))
    assert (row(desk, runner)["lane"], row(desk, runner)["run_id"]) == ("now", None)
    lost = requests.unfinished(desk.ledger, desk.clock())
    assert runner.refund_id in {found["refund_id"] for found in lost}


def test_a_nights_refund_that_a_burst_carries_stays_in_the_nights_report_and_out_of_its_hands(
    desk: Desk,
) -> None:
    runner = decided(desk)
    with desk.ledger.writing() as connection:
        batches.insert_file(connection, f"file-{runner.refund_id}", desk.clock())
    with desk.ledger.page(runner.refund_id) as page:
        page.change(batch_id=f"file-{runner.refund_id}")
    file = batches.read(desk.ledger, f"file-{runner.refund_id}")
    found = claim(desk, runner, 0)
    assert found is not None
    assert batches.next_keys(desk.ledger, file, 10) == []
    assert batches.next_keys(desk.ledger, burst(desk, found.burst_id or ""), 10) == [
        runner.refund_id
    ]
    assert row(desk, runner)["batch_id"] == file.batch_id
    with desk.ledger.page(runner.refund_id) as page:
        page.change(outcome=str(Outcome.PAID))
    assert batches.next_keys(desk.ledger, burst(desk, found.burst_id or ""), 10) == []
