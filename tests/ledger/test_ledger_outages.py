"""A system that is away: several refunds have to find it so, one tries, all are let go in turn."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest

from refunds.ledger import outages, waits
from refunds.ledger.outages import Outage
from tests.ledger.ledger_desk import Desk, at_once, new_id

PAUSES = (30, 120, 300)


@dataclass(frozen=True)
class System:
    """A system of one test's own."""

    desk: Desk
    name: str

    @property
    def outage(self) -> Outage:
        outage = outages.standing(self.desk.ledger, self.name)
        assert outage is not None
        return outage

    @property
    def is_away(self) -> bool:
        return self.name in [outage.system for outage in outages.every(self.desk.ledger)]

    def fails(self, *refund_ids: str) -> None:
        for refund_id in refund_ids:
            outages.found_away(self.desk.ledger, self.name, refund_id, "no answer", PAUSES)

    def answers(self) -> None:
        outages.found_well(self.desk.ledger, self.name)

    def asks_for_rest(self, seconds: float) -> None:
        outages.asks_for_rest(self.desk.ledger, self.name, seconds, "it asks to send less")

    def may_be_tried_by(self, refund_id: str) -> bool:
        return outages.may_try(self.desk.ledger, self.name, refund_id)

    def seconds_to_go(self) -> float:
        assert self.outage.until is not None
        return (self.outage.until - self.desk.clock()).total_seconds()

    def waited_for_by(self, count: int) -> list[str]:
        """Refunds that wait for the system for half a minute."""
        runners = sorted((self.desk.run() for _ in range(count)), key=lambda r: r.refund_id)
        for runner in runners:
            waits.open_wait(
                self.desk.ledger,
                runner.refund_id,
                f"outage-{self.name}-1",
                reason="timer",
                run_id="run-1",
                fence=runner.fence,
                due_at=self.desk.clock() + timedelta(seconds=30),
            )
        return [runner.refund_id for runner in runners]

    def woken(self, refund_ids: list[str]) -> list[str]:
        """Which of these the sweep would wake now."""
        return [found for found in waits.end_due(self.desk.ledger) if found in refund_ids]


@pytest.fixture
def system(desk: Desk) -> System:
    return System(desk, new_id("system"))


def test_one_refund_that_fails_again_and_again_is_its_own_affair(system: System) -> None:
    system.fails("rf_1", "rf_1", "rf_1", "rf_2", "rf_1")
    assert not system.outage.is_certain
    assert not system.is_away
    assert system.may_be_tried_by("rf_1")
    assert system.may_be_tried_by("rf_3")


def test_three_refunds_in_a_row_make_it_an_outage_that_nobody_sends_into(
    desk: Desk, system: System
) -> None:
    system.fails("rf_1", "rf_2", "rf_3")
    assert system.is_away
    assert system.seconds_to_go() == 30
    assert not any(system.may_be_tried_by(f"rf_{number}") for number in range(1, 5))
    assert System(desk, new_id("system")).may_be_tried_by("rf_1")


def test_an_answer_in_between_clears_the_suspicion(system: System) -> None:
    system.fails("rf_1", "rf_2")
    system.answers()
    system.fails("rf_3")
    assert not system.is_away


def test_one_refund_at_a_time_tries_and_each_failure_makes_the_pause_longer(
    desk: Desk, system: System
) -> None:
    system.fails("rf_1", "rf_2", "rf_3")
    for number, pause in enumerate((120, 300, 300), start=4):
        desk.clock.advance(system.seconds_to_go())
        assert system.may_be_tried_by(f"rf_{number}")
        # The quick retries of the one that tries are part of its try.
        assert system.may_be_tried_by(f"rf_{number}")
        assert not system.may_be_tried_by("rf_9")
        system.fails(f"rf_{number}")
        assert system.seconds_to_go() == pause
        assert not system.may_be_tried_by(f"rf_{number}")


def test_who_was_under_way_when_it_went_down_does_not_make_the_pause_longer(
    system: System,
) -> None:
    system.fails("rf_1", "rf_2", "rf_3", "rf_4", "rf_5", "rf_6")
    assert (system.outage.tries, system.seconds_to_go()) == (1, 30)


def test_a_try_that_never_ends_is_somebody_elses_after_a_while(desk: Desk, system: System) -> None:
    system.fails("rf_1", "rf_2", "rf_3")
    desk.clock.advance(30)
    assert system.may_be_tried_by("rf_4")
    desk.clock.advance(119)
    assert not system.may_be_tried_by("rf_5")
    desk.clock.advance(1)
    assert system.may_be_tried_by("rf_5")


def test_of_many_that_ask_at_once_one_tries(system: System) -> None:
    system.fails("rf_1", "rf_2", "rf_3")
    system.desk.clock.advance(30)
    asked = [partial(system.may_be_tried_by, f"rf_{number}") for number in range(6)]
    assert sorted(at_once(*asked)) == [False] * 5 + [True]


def test_a_system_that_asks_for_rest_gets_it_from_everybody_at_once(
    desk: Desk, system: System
) -> None:
    system.asks_for_rest(600)
    assert not system.may_be_tried_by("rf_1")
    system.asks_for_rest(60)
    desk.clock.advance(599)
    assert not system.may_be_tried_by("rf_1")
    desk.clock.advance(1)
    assert system.may_be_tried_by("rf_1")


def test_while_it_is_away_one_waiting_refund_is_woken_when_it_may_be_tried(
    desk: Desk, system: System
) -> None:
    system.fails("rf_1", "rf_2", "rf_3")
    refund_ids = system.waited_for_by(5)
    assert system.woken(refund_ids) == []
    desk.clock.advance(30)
    assert system.woken(refund_ids) == refund_ids[:1]
    assert system.may_be_tried_by(refund_ids[0])
    assert system.woken(refund_ids) == []


def test_once_it_is_back_all_are_woken_a_few_at_a_time(desk: Desk, system: System) -> None:
    other = System(desk, new_id("system"))
    system.fails("rf_1", "rf_2", "rf_3")
    refund_ids, others = system.waited_for_by(70), other.waited_for_by(1)
    system.answers()
    passes = [system.woken(refund_ids) for _ in range(3)]
    assert [len(woken) for woken in passes] == [50, 20, 0]
    assert sorted(passes[0] + passes[1]) == refund_ids
    desk.clock.advance(30)
    assert other.woken(others) == others


def test_a_wait_that_nobody_suspects_anything_of_ends_in_its_own_time(
    desk: Desk, system: System
) -> None:
    system.fails("rf_1")
    refund_ids = system.waited_for_by(1)
    assert system.woken(refund_ids) == []
    desk.clock.advance(30)
    assert system.woken(refund_ids) == refund_ids
