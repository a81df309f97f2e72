"""No sequence of votes approves a refund without enough different people who may approve it."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refunds.authority import Person
from refunds.errors import ApproverRefused, BadInput, Conflict
from refunds.ledger import Ledger, connector, engine_of, history, people
from refunds.ledger.approvals import Standing
from sandbox.testing import FakeClock
from tests.ledger.conftest import migrated
from tests.ledger.ledger_desk import Desk

AMOUNT_MINOR = 1_000
# Forty stories of at most thirty steps: a few seconds on each database.
STORIES = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TEAM = ("mia", "noa", "eve")
NAMES = st.sampled_from([*TEAM, *TEAM, "MIA", "Mia Wu", "sam", "ada", "stranger"])
IDS = st.sampled_from(TEAM)
# Most of what happens are votes; in between the rights of those who vote change.
VOTES = st.tuples(
    st.just("vote"),
    NAMES,
    st.sampled_from([None, None, None, None, *TEAM]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from(["approve"] * 9 + ["reject"]),
)
CHANGES = st.one_of(
    st.tuples(st.just("limit"), IDS, st.sampled_from([AMOUNT_MINOR - 1, AMOUNT_MINOR])),
    st.tuples(st.just("activity"), IDS, st.booleans()),
    st.tuples(st.just("role"), IDS, st.sampled_from(["approver", "auditor"])),
    st.tuples(st.just("absence"), IDS, IDS),
    st.tuples(st.just("hours"), st.sampled_from([1, 6])),
)
ASKS = st.tuples(st.just("ask"), st.sampled_from([2, 2, 1, 3]), st.sampled_from([False, True]))
# Each question is followed by enough votes, and a change now and then, to be decided by them.
FOLLOWS = st.integers(0, 4).flatmap(lambda number: VOTES if number else CHANGES)


def _stood_in_for(away: str, delegate: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """A question that a delegate answers for somebody, and then either of them or a third.

    An absence of five hours may be over by then.
    """
    change = ("absence", away, delegate)
    hours = st.sampled_from([("hours", 1), ("hours", 1), ("hours", 6)])
    voters = st.sampled_from([away, delegate, *TEAM])
    said = st.tuples(
        *(st.just("vote"), voters, st.sampled_from([None, None, away])),
        *(st.just(True), st.just("approve")),
    )
    for_them = st.just(("vote", delegate, away, True, "approve"))
    return st.tuples(ASKS, st.just(change), hours, *[for_them | said] * 4)


PAIRS = st.permutations(TEAM).map(lambda team: team[:2])
STEPS = st.lists(
    st.one_of(st.tuples(ASKS, *[FOLLOWS] * 6), PAIRS.flatmap(lambda pair: _stood_in_for(*pair))),
    min_size=2,
    max_size=4,
)


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """A ledger of its own: whoever is registered counts for all of it."""
    clock = FakeClock()
    desk = Desk(Ledger(engine_of(connector(migrated(database_url))), clock), clock)
    yield desk
    desk.ledger.engine.dispose()


class Office:
    """A few people whose rights change, and one question after another."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        for name in TEAM:
            fresh: dict[str, Any] = {
                "limits": {"USD": AMOUNT_MINOR},
                "roles": ("approver",),
                "is_active": True,
            }
            here = dict.fromkeys(("away_from", "away_until", "delegate_to"))
            person = Person(person_id=name, name={"mia": "Mia Wu"}.get(name, name))
            if people.find(desk.ledger, name) is None:
                people.add(desk.ledger, person, by="root")
            people.change(desk.ledger, name, by="root", **fresh, **here)
        self.ask(2, verified=False)

    def ask(self, needed: int, *, verified: bool) -> None:
        self.runner = self.desk.asked(
            people_needed=needed,
            verified_needed=verified,
            deadline=self.desk.clock() + timedelta(days=30),
        )

    def do(self, kind: str, *given: Any) -> None:
        """One step of a story; the ledger may refuse any of them."""
        if kind == "vote":
            self.vote(*given)
        elif kind == "ask":
            self.ask(given[0], verified=given[1])
        elif kind == "hours":
            self.desk.clock.advance(given[0] * 3_600)
        else:
            self.change(kind, *given)

    def change(self, kind: str, person_id: str, value: Any) -> None:
        now = self.desk.clock()
        fields: dict[str, dict[str, Any]] = {
            "limit": {"limits": {"USD": value}},
            "activity": {"is_active": value},
            "role": {"roles": (value,)},
            "absence": {
                "away_from": now,
                "away_until": now + timedelta(hours=5),
                "delegate_to": value,
            },
        }
        with suppress(BadInput, ValueError):
            people.change(self.desk.ledger, person_id, by="root", **fields[kind])

    def vote(self, person: str, of: str | None, verified: Any, choice: Any) -> None:
        before = self.desk.standing(self.runner).status
        with suppress(Conflict):
            after = self.desk.decide(
                self.runner, choice, person, verified=verified, on_behalf_of=of
            )
            if (before, after.status) == ("open", "APPROVED"):
                self.check_enough(after)

    def check_enough(self, standing: Standing) -> None:
        """Count anew, from the people as they are now and in other words than the code's."""
        known = {person.person_id: person for person in people.listed(self.desk.ledger)}
        rights: list[str] = []
        for decision in standing.decisions:
            who, of = decision["person"], decision["for_person"]
            assert who not in ("sam", "ada")
            held = [known[name] for name in (who, of) if name in known]
            is_able = bool(held) and "approver" in held[-1].roles
            for person in held:
                is_able &= person.is_active and person.limits["USD"] >= AMOUNT_MINOR
            if of is not None:
                is_able &= stands_in(who, known[of], decision["decided_at"])
            if who == "stranger":
                is_able = (standing.people_needed, standing.verified_needed) == (1, False)
            if is_able and (decision["verified"] or not standing.verified_needed):
                rights += [name for name in (who, of) if name]
        # A right that was used twice is no second right.
        assert len(set(rights)) == len(rights)
        principals = sum(decision["for_person"] in rights for decision in standing.decisions)
        assert len(rights) - principals >= standing.people_needed


def stands_in(who: str, of: Person, at: datetime) -> bool:
    """Whether somebody was named by a person who was away then."""
    if of.away_from is None or of.away_until is None:
        return False
    return of.delegate_to == who and of.away_from <= at < of.away_until


@STORIES
@given(steps=STEPS)
def test_no_sequence_of_votes_approves_without_enough_able_people(
    desk: Desk, steps: list[tuple[Any, ...]]
) -> None:
    office = Office(desk)
    for step in chain.from_iterable(steps):
        office.do(*step)
    people.check(desk.ledger)
    history.check(history.read(desk.ledger, office.runner.refund_id))


def test_whoever_loses_the_right_before_the_quorum_is_full_counts_no_more(desk: Desk) -> None:
    for name in ("mia", "noa", "eve"):
        limits = {"USD": AMOUNT_MINOR}
        people.add(desk.ledger, Person(person_id=name, name=name, limits=limits), by="root")
    runner = desk.asked(people_needed=2)
    desk.decide(runner, "approve", "mia")
    people.change(desk.ledger, "mia", by="root", is_active=False)
    assert desk.decide(runner, "approve", "noa").status == "open"
    assert desk.decide(runner, "approve", "eve").status == "APPROVED"


def test_a_delegate_and_whom_they_act_for_are_one(desk: Desk) -> None:
    leave = {"away_from": desk.clock(), "away_until": desk.clock() + timedelta(hours=9)}
    for name in ("noa", "eve"):
        limits = {"USD": AMOUNT_MINOR}
        people.add(desk.ledger, Person(person_id=name, name=name, limits=limits), by="root")
    mia = Person.model_validate(
        {"person_id": "mia", "name": "Mia", "limits": {"USD": AMOUNT_MINOR}, "delegate_to": "noa"}
        | leave
    )
    people.add(desk.ledger, mia, by="root")
    runner = desk.asked(people_needed=2)
    taken = desk.decide(runner, "approve", "noa", on_behalf_of="MIA")
    assert (taken.decisions[0]["person"], taken.decisions[0]["for_person"]) == ("noa", "mia")
    with pytest.raises(ApproverRefused, match="noa decided for mia already"):
        desk.decide(runner, "approve", "mia")
    assert desk.decide(runner, "approve", "noa").status == "open"
    assert desk.decide(runner, "approve", "eve").status == "APPROVED"


def test_a_registered_person_is_one_under_each_of_their_names(desk: Desk) -> None:
    limits = {"USD": AMOUNT_MINOR}
    people.add(desk.ledger, Person(person_id="mia", name="Mia Wu", limits=limits), by="root")
    runner = desk.asked(people_needed=2)
    for name in ("mia", "Mia Wu", " MIA WU "):
        assert desk.decide(runner, "approve", name).status == "open"
    assert len(desk.standing(runner).decisions) == 1
