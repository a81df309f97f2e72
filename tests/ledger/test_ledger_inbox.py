"""An inbox shows what its person may answer, urgent first, then the oldest deadline."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from refunds.authority import Person
from refunds.errors import BadInput
from refunds.ledger import Ledger, approvals, connector, engine_of, people
from refunds.ledger.approvals import Filters
from sandbox.testing import FakeClock
from tests.ledger.conftest import migrated
from tests.ledger.ledger_desk import Desk, Runner

LIMIT = {"rules": {"limit_minor": 5_000}}


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """A ledger of its own: an inbox shows all of it."""
    clock = FakeClock()
    desk = Desk(Ledger(engine_of(connector(migrated(database_url))), clock), clock)
    yield desk
    desk.ledger.engine.dispose()


def ask(desk: Desk, hours: float = 24, amount_minor: int = 1_000, **fields: Any) -> Runner:
    runner = desk.run(amount_minor=amount_minor)
    deadline = desk.clock() + timedelta(hours=hours)
    desk.ask(runner, deadline=deadline, **LIMIT | fields)
    return runner


def shown(desk: Desk, person: str | None = None, **filters: Any) -> list[str]:
    found = approvals.waiting_for(desk.ledger, person, Filters(**filters))
    return [waiting.refund_id for waiting in found]


def add(desk: Desk, person_id: str, **fields: Any) -> Person:
    person = Person.model_validate({"person_id": person_id, "name": person_id.title()} | fields)
    return people.add(desk.ledger, person, by="root")


def test_the_oldest_deadline_comes_first_and_what_was_escalated_before_it(desk: Desk) -> None:
    late, soon, urgent = (ask(desk, hours) for hours in (30, 10, 40))
    levels = [{"name": name, "audience": name, "until": desk.clock()} for name in ("team", "leads")]
    desk.ask(urgent, 2, deadline=desk.clock() + timedelta(hours=40), levels=levels)
    approvals.escalate(desk.ledger, urgent.refund_id, 2, "leads", urgent.fence)
    approvals.supersede(desk.ledger, urgent.refund_id, f"{urgent.refund_id}:approval:1", "new")
    found = approvals.waiting_for(desk.ledger)
    order = [(waiting.refund_id, waiting.is_urgent) for waiting in found if waiting.level != ""]
    assert order == [(urgent.refund_id, True)]
    assert shown(desk, is_urgent=False)[:2] == [soon.refund_id, late.refund_id]
    assert found[0].refund_id == urgent.refund_id


def test_what_is_decided_or_whose_time_is_over_waits_for_nobody(desk: Desk) -> None:
    decided, over, waiting = ask(desk), ask(desk, hours=1), ask(desk, hours=9)
    desk.decide(decided, "approve")
    desk.clock.advance(2 * 3_600)
    assert shown(desk) == [waiting.refund_id]
    assert approvals.count_waiting(desk.ledger) == 1
    assert over.refund_id not in shown(desk)


def test_nobody_is_shown_their_own_request_or_what_they_answered(desk: Desk) -> None:
    runner = ask(desk, people_needed=2)
    assert shown(desk, "SAM") == shown(desk, "ada") == []
    assert shown(desk, "mia") == [runner.refund_id]
    desk.decide(runner, "approve", "mia")
    assert shown(desk, " Mia") == []
    (waiting,) = approvals.waiting_for(desk.ledger, "noa")
    assert (waiting.approvals_so_far, waiting.people_needed) == (1, 2)


def test_a_registered_person_is_shown_what_is_within_their_limit(desk: Desk) -> None:
    small, large = ask(desk, amount_minor=1_000), ask(desk, amount_minor=6_000)
    add(desk, "mia")
    add(desk, "noa", limits={"USD": 6_000})
    add(desk, "eve", limits={"USD": 500})
    assert shown(desk, "mia") == [small.refund_id]
    # Both came at the same time: then their names order them.
    assert shown(desk, "noa") == sorted([small.refund_id, large.refund_id])
    assert shown(desk, "eve") == []


def test_a_person_is_shown_what_their_role_or_that_of_whom_they_act_for_may_answer(
    desk: Desk,
) -> None:
    level = {"name": "team", "audience": "a_b", "until": desk.clock() + timedelta(days=1)}
    runner = ask(desk, levels=[level])
    add(desk, "mia", roles=["a_b"])
    add(desk, "noa", roles=["axb"])
    add(desk, "eve", roles=["auditor"], is_active=True)
    add(desk, "gil", is_active=False)
    assert shown(desk, "mia") == [runner.refund_id]
    assert [shown(desk, name) for name in ("noa", "eve", "gil")] == [[], [], []]
    leave: dict[str, Any] = {
        "away_from": desk.clock(),
        "away_until": desk.clock() + timedelta(hours=1),
    }
    people.change(desk.ledger, "mia", by="root", delegate_to="eve", **leave)
    assert shown(desk, "eve") == [runner.refund_id]


def test_a_name_that_nobody_registered_is_shown_what_takes_no_checked_identity(desk: Desk) -> None:
    plain = ask(desk)
    ask(desk, verified_needed=True)
    ask(desk, people_needed=2)
    assert len(shown(desk, "kim")) == 3
    add(desk, "mia")
    assert shown(desk, "kim") == [plain.refund_id]


def test_filters_narrow_an_inbox(desk: Desk) -> None:
    small, large = ask(desk, hours=2), ask(desk, hours=50, amount_minor=9_000)
    assert shown(desk, currency="USD", at_least_minor=1_001) == [large.refund_id]
    assert shown(desk, currency="USD", at_most_minor=1_000) == [small.refund_id]
    assert shown(desk, due_before=desk.clock() + timedelta(hours=3)) == [small.refund_id]
    assert shown(desk, order_id=large.case.request.order_id) == [large.refund_id]
    assert shown(desk, customer_id="bob") == shown(desk, level="leads") == []
    for unclear in (Filters(at_least_minor=0), Filters(at_most_minor=0)):
        with pytest.raises(BadInput, match="needs its currency"):
            approvals.waiting_for(desk.ledger, None, unclear)


def test_pages_follow_each_other_without_a_gap_or_a_double(desk: Desk) -> None:
    asked = [ask(desk, hours=hours % 3 + 1).refund_id for hours in range(10)]
    seen: list[str] = []
    after = None
    while page := approvals.waiting_for(desk.ledger, None, None, after, limit=3):
        seen += [waiting.refund_id for waiting in page]
        after = page[-1].cursor
    assert sorted(seen) == sorted(asked)
    assert seen == shown(desk)


def test_a_page_is_one_statement_and_reads_by_its_index(desk: Desk) -> None:
    for _ in range(5):
        ask(desk)
    add(desk, "mia")
    statements: list[str] = []
    sa.event.listen(
        desk.ledger.engine,
        "before_cursor_execute",
        lambda *arguments: statements.append(arguments[2]),
    )
    assert len(approvals.waiting_for(desk.ledger, "mia")) == 5
    selects = [one for one in statements if one.startswith("SELECT")]
    assert [("FROM people" in one, "FROM approvals" in one) for one in selects] == [
        (True, False),
        (False, True),
    ]
    if desk.ledger.engine.name == "sqlite":
        with desk.ledger.reading() as connection:
            plan = connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT approval_id FROM approvals WHERE status='open' "
                "AND deadline > '2026' ORDER BY priority, deadline, approval_id LIMIT 50"
            ).all()
        assert "ix_approvals_inbox" in str(plan)
        assert "TEMP B-TREE" not in str(plan)
