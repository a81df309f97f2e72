"""A question is put to people, bound to a digest, and decided once."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy as sa

from refunds.errors import (
    ApproverRefused,
    DecisionConflict,
    DecisionLate,
    DigestStale,
    NothingToDecide,
)
from refunds.ledger import approvals, requests
from refunds.ledger.approvals import Standing
from sandbox.testing import until
from tests.ledger.ledger_desk import Desk, at_once

DAY_SECONDS = 24 * 3600

WAITING = sa.text(
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def somebody_waits(desk: Desk) -> bool:
    """Whether a transaction waits for a row; SQLite does not tell, and starts none meanwhile."""
    if desk.ledger.engine.name == "sqlite":
        return True
    with desk.ledger.reading() as connection:
        return connection.execute(WAITING).first() is not None


def test_a_decision_is_stored_with_who_made_it_and_why(desk: Desk) -> None:
    runner = desk.asked()
    standing = desk.decide(runner, "approve", reason="as agreed")
    (decision,) = standing.decisions
    assert (standing.status, decision["person"], decision["reason"]) == (
        "APPROVED",
        "mia",
        "as agreed",
    )
    assert requests.read(desk.ledger, runner.refund_id)["state"] == "approved"


def test_asking_again_changes_nothing(desk: Desk) -> None:
    runner = desk.asked()
    desk.ask(runner, people_needed=2)
    assert desk.standing(runner).people_needed == 1
    assert desk.events(runner.refund_id).count("approval.requested") == 1


def test_the_same_decision_again_returns_the_stored_one(desk: Desk) -> None:
    runner = desk.asked()
    first = desk.decide(runner, "approve")
    assert desk.decide(runner, "approve") == first
    assert desk.decide(runner, "approve", "noa") == first
    assert desk.events(runner.refund_id).count("decision.recorded") == 1


def test_a_different_decision_is_a_conflict_and_is_kept_in_the_history(desk: Desk) -> None:
    runner = desk.asked()
    desk.decide(runner, "reject")
    with pytest.raises(DecisionConflict, match="already REJECTED"):
        desk.decide(runner, "approve", "noa")
    assert desk.standing(runner).status == "REJECTED"
    assert desk.events(runner.refund_id)[-1] == "decision.refused"


def test_of_two_who_decide_differently_at_once_exactly_one_wins(desk: Desk) -> None:
    for _ in range(5):
        runner = desk.asked()
        results = at_once(
            partial(desk.decide, runner, "approve", "mia"),
            partial(desk.decide, runner, "reject", "noa"),
        )
        (won,) = [result for result in results if isinstance(result, Standing)]
        assert sum(isinstance(result, DecisionConflict) for result in results) == 1
        assert desk.standing(runner) == won
        assert len(won.decisions) == 1


def test_the_last_moment_is_in_time_and_the_deadline_is_late(desk: Desk) -> None:
    early, late = desk.asked(), desk.asked()
    desk.clock.advance(DAY_SECONDS - 1)
    assert desk.decide(early, "approve").status == "APPROVED"
    desk.clock.advance(1)
    for choice in ("approve", "reject"):
        with pytest.raises(DecisionLate):
            desk.decide(late, choice)
    assert desk.standing(late).status == "open"


def test_a_decision_that_waits_past_the_deadline_for_its_turn_is_late(desk: Desk) -> None:
    runner = desk.asked()
    with ThreadPoolExecutor(1) as pool:
        with desk.ledger.page(runner.refund_id):
            vote = pool.submit(desk.decide, runner, "approve")
            until(lambda: somebody_waits(desk))
            desk.clock.advance(DAY_SECONDS)
        assert isinstance(vote.exception(), DecisionLate)


def test_expired_is_not_rejected_and_is_final(desk: Desk) -> None:
    runner = desk.asked()
    assert not approvals.expire(desk.ledger, runner.refund_id)
    desk.clock.advance(DAY_SECONDS)
    assert approvals.expire(desk.ledger, runner.refund_id)
    assert not approvals.expire(desk.ledger, runner.refund_id)
    assert desk.standing(runner).status == "EXPIRED"
    with pytest.raises(DecisionLate):
        desk.decide(runner, "approve")


def test_what_was_decided_does_not_expire(desk: Desk) -> None:
    runner = desk.asked()
    desk.decide(runner, "approve")
    desk.clock.advance(DAY_SECONDS)
    assert not approvals.expire(desk.ledger, runner.refund_id)
    assert desk.standing(runner).status == "APPROVED"


def test_deciding_and_expiring_at_once_leaves_one_ending(desk: Desk) -> None:
    for _ in range(5):
        runner = desk.asked()
        later = desk.with_a_clock_of_its_own()
        later.clock.advance(DAY_SECONDS)
        decided, expired = at_once(
            partial(desk.decide, runner, "approve"),
            partial(approvals.expire, later.ledger, runner.refund_id),
        )
        status = desk.standing(runner).status
        if expired:
            assert (status, type(decided)) == ("EXPIRED", DecisionLate)
        else:
            assert (status, decided.status) == ("APPROVED", "APPROVED")


@pytest.mark.parametrize("person", ["sam", "SAM", " \uff33am ", "s\u200bam", "ada"])
def test_nobody_approves_their_own_request(desk: Desk, person: str) -> None:
    runner = desk.asked()
    with pytest.raises(ApproverRefused, match="cannot approve it"):
        desk.decide(runner, "approve", person)
    assert desk.standing(runner).status == "open"


def test_whoever_asked_may_take_it_back(desk: Desk) -> None:
    assert desk.decide(desk.asked(), "reject", "sam").status == "REJECTED"


def test_above_a_limit_two_different_people_approve(desk: Desk) -> None:
    runner = desk.asked(people_needed=2)
    assert desk.decide(runner, "approve", "mia").status == "open"
    assert desk.decide(runner, "approve", "noa").status == "APPROVED"


@pytest.mark.parametrize("again", ["mia", "Mia", "\uff2d\uff29\uff21", " mia ", "m\u200bia"])
def test_one_person_under_another_spelling_is_still_one(desk: Desk, again: str) -> None:
    runner = desk.asked(people_needed=2)
    desk.decide(runner, "approve", "mia")
    assert desk.decide(runner, "approve", again).status == "open"
    with pytest.raises(DecisionConflict, match="already said APPROVED"):
        desk.decide(runner, "reject", again)


def test_two_at_once_make_a_quorum_and_one_twice_does_not(desk: Desk) -> None:
    both, same = desk.asked(people_needed=2), desk.asked(people_needed=2)
    at_once(*[partial(desk.decide, both, "approve", person) for person in ("mia", "noa")])
    at_once(*[partial(desk.decide, same, "approve", person) for person in ("mia", "MIA")])
    assert (desk.standing(both).status, desk.standing(same).status) == ("APPROVED", "open")


def test_one_rejection_ends_it_whoever_approved_before(desk: Desk) -> None:
    runner = desk.asked(people_needed=2)
    desk.decide(runner, "approve", "mia")
    assert desk.decide(runner, "reject", "noa").status == "REJECTED"


def test_above_another_limit_the_approver_must_be_verified(desk: Desk) -> None:
    runner = desk.asked(verified_needed=True)
    with pytest.raises(ApproverRefused, match="identity is checked"):
        desk.decide(runner, "approve", verified=False)
    assert desk.decide(runner, "approve", verified=True).status == "APPROVED"


def test_a_decision_on_other_facts_is_stale(desk: Desk) -> None:
    runner = desk.asked()
    with pytest.raises(DigestStale):
        desk.decide(runner, "approve", digest="as-it-was")
    assert desk.decide(runner, "approve", digest="as-asked").status == "APPROVED"


def test_nobody_is_asked_about_a_refund_that_needs_no_person(desk: Desk) -> None:
    with pytest.raises(NothingToDecide):
        desk.decide(desk.run(), "approve")


def test_a_superseded_approval_counts_no_more_and_the_next_round_does(desk: Desk) -> None:
    runner = desk.asked()
    desk.decide(runner, "approve")
    first = desk.standing(runner).approval_id
    approvals.supersede(desk.ledger, runner.refund_id, first, "the amount changed")
    with pytest.raises(NothingToDecide):
        desk.decide(runner, "approve")
    desk.ask(runner, round_number=2)
    approvals.supersede(desk.ledger, runner.refund_id, first, "late news of the first round")
    assert desk.standing(runner).status == "open"
    assert desk.decide(runner, "approve").round == 2


@pytest.mark.parametrize("choice", ["reject", None])
def test_what_ended_without_approval_is_not_superseded(desk: Desk, choice: str | None) -> None:
    runner = desk.asked()
    if choice is None:
        desk.clock.advance(DAY_SECONDS)
        approvals.expire(desk.ledger, runner.refund_id)
    else:
        desk.decide(runner, "reject")
    before = desk.standing(runner)
    approvals.supersede(desk.ledger, runner.refund_id, before.approval_id, "changed")
    assert desk.standing(runner) == before
