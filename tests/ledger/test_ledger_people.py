"""Who may decide is on record, and so is who changed it."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from refunds.authority import Person
from refunds.errors import BadInput, HistoryBroken, UnknownPerson
from refunds.ledger import Ledger, connector, engine_of, people
from refunds.origin import Origin
from sandbox.testing import FakeClock
from tests.ledger.conftest import migrated


@pytest.fixture
def ledger(database_url: str) -> Any:
    """A ledger of its own: whoever is registered counts for all of it."""
    found = Ledger(engine_of(connector(migrated(database_url))), FakeClock())
    yield found
    found.engine.dispose()


def person(person_id: str = "mia", **fields: Any) -> Person:
    return Person.model_validate({"person_id": person_id, "name": person_id.title()} | fields)


def test_a_person_is_kept_as_added_and_adding_again_changes_nothing(ledger: Ledger) -> None:
    mia = person(limits={"USD": 50_000}, roles=["finance-leads"], contact="mia@example.com")
    for _ in range(2):
        assert people.add(ledger, mia, by="root") == mia
    assert people.listed(ledger) == [mia]
    assert [event["event"] for event in people.events(ledger)] == ["person.added"]


@pytest.mark.parametrize("spelling", ["MIA", "\uff2dia", "m\u200bia"])
def test_nobody_is_registered_twice_under_another_spelling(ledger: Ledger, spelling: str) -> None:
    people.add(ledger, person(), by="root")
    with pytest.raises(BadInput, match="mia is registered already"):
        people.add(ledger, person(spelling), by="root")


def test_a_person_is_found_by_id_name_or_contact_unless_two_are_meant(ledger: Ledger) -> None:
    mia = people.add(ledger, person(name="Mia Wu", contact="mia@example.com"), by="root")
    people.add(ledger, person("noa", name="N Wu"), by="root")
    people.add(ledger, person("nia", name="N Wu"), by="root")
    for name in ("Mia", " mia wu ", "MIA@example.com"):
        assert people.find(ledger, name) == mia
    assert people.find(ledger, "N Wu") is None
    assert people.find(ledger, "") is None


def test_each_change_of_rights_says_who_made_it_and_what_was_before(ledger: Ledger) -> None:
    people.add(ledger, person(), by="root")
    origin = Origin.of("cli")
    people.change(ledger, "MIA", by="zoe", origin=origin, limits={"USD": 70_000})
    people.change(ledger, "mia", by="zoe", limits={"USD": 70_000})
    (_, changed) = people.events(ledger)
    assert changed["data"] == {
        "person_id": "mia",
        "changed": {"limits": {"then": {}, "now": {"USD": 70_000}}},
        "by": "zoe",
        "origin": origin.plain(),
    }
    people.check(ledger)


def test_a_person_who_leaves_stays_on_record(ledger: Ledger) -> None:
    people.add(ledger, person(), by="root")
    people.change(ledger, "mia", by="root", is_active=False)
    (left,) = people.listed(ledger)
    assert not left.is_active
    with pytest.raises(UnknownPerson, match="nobody is registered as 'noa'"):
        people.change(ledger, "noa", by="root", is_active=False)


def test_a_delegate_acts_while_the_other_is_away_and_no_longer(ledger: Ledger) -> None:
    clock = ledger.clock
    assert isinstance(clock, FakeClock)
    people.add(ledger, person("noa"), by="root")
    leave: dict[str, Any] = {
        "away_from": clock() + timedelta(hours=1),
        "away_until": clock() + timedelta(hours=2),
    }
    mia = people.add(ledger, person(delegate_to="NOA", **leave), by="root")
    assert people.acts_for(ledger, "noa") == []
    clock.advance(3_600)
    assert people.acts_for(ledger, "noa") == [mia]
    clock.advance(3_600)
    assert people.acts_for(ledger, "noa") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"delegate_to": "noa"},
        {"away_from": "2026-11-25T00:00:00Z", "away_until": "2026-11-26T00:00:00Z"},
        {
            "away_from": "2026-11-26T00:00:00Z",
            "away_until": "2026-11-25T00:00:00Z",
            "delegate_to": "noa",
        },
        {
            "away_from": "2026-11-25T00:00:00Z",
            "away_until": "2026-11-26T00:00:00Z",
            "delegate_to": "MIA",
        },
        {"limits": {"usd": 1}},
        {"limits": {"USD": -1}},
        {"limits": {"USD": 1.5}},
        {"person_id": "m\nia"},
        {"person_id": "m" * 65},
    ],
)
def test_what_a_person_cannot_be_is_refused_and_nothing_is_kept(
    ledger: Ledger, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        people.add(ledger, person(**wrong), by="root")
    assert people.listed(ledger) == []


def test_nobody_delegates_to_a_stranger_or_to_somebody_who_left(ledger: Ledger) -> None:
    people.add(ledger, person("noa", is_active=False), by="root")
    leave = {"away_from": "2026-11-25T00:00:00Z", "away_until": "2026-11-26T00:00:00Z"}
    for delegate in ("noa", "nobody"):
        with pytest.raises(BadInput, match="not an active registered person"):
            people.add(ledger, person(delegate_to=delegate, **leave), by="root")


def test_the_database_refuses_to_change_what_was_recorded_of_people(ledger: Ledger) -> None:
    people.add(ledger, person(), by="root")
    for statement in ("UPDATE people_history SET event = 'x'", "DELETE FROM people_history"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            ledger.writing() as connection,
        ):
            connection.execute(sa.text(statement))


def test_a_change_made_behind_the_ledgers_back_is_found(ledger: Ledger) -> None:
    people.add(ledger, person(), by="root")
    with ledger.writing() as connection:
        connection.execute(
            sa.text(
                "ALTER TABLE people_history DISABLE TRIGGER ALL"
                if connection.dialect.name == "postgresql"
                else "DROP TRIGGER people_history_no_update"
            )
        )
        connection.execute(sa.text("UPDATE people_history SET event = 'person.removed'"))
    with pytest.raises(HistoryBroken):
        people.check(ledger)
