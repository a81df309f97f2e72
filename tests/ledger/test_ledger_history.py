"""History only grows, and whatever is changed in it shows."""

from typing import Any

import pytest
import sqlalchemy as sa

from refunds.errors import HistoryBroken, UnknownRefund
from refunds.ledger import Ledger, connector, engine_of, history
from sandbox.testing import FakeClock
from tests.ledger.conftest import migrated
from tests.ledger.ledger_desk import Desk

CHANGES = {
    "refund_id": "rf_other",
    "sequence": 9,
    "at": "2026-11-23T22:00:01+00:00",
    "event": "state.unchanged",
    "data": {"from": "received", "to": "assessinG"},
    "previous_digest": "0" * 64,
    "digest": "0" * 64,
}


def lived(desk: Desk) -> list[dict[str, Any]]:
    """The events of a refund that was approved and paid."""
    runner = desk.asked()
    desk.decide(runner, "approve")
    events = history.read(desk.ledger, runner.refund_id)
    assert len(events) > 5
    return events


def test_events_are_numbered_and_each_carries_the_digest_of_the_one_before(desk: Desk) -> None:
    events = lived(desk)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    digests = [event["digest"] for event in events]
    assert [event["previous_digest"] for event in events] == ["", *digests[:-1]]
    history.check(events)


@pytest.mark.parametrize("column", CHANGES)
def test_an_edited_byte_in_any_column_is_found(desk: Desk, column: str) -> None:
    events = lived(desk)
    for position in range(len(events)):
        edited = [dict(event) for event in events]
        edited[position][column] = CHANGES[column]
        with pytest.raises(HistoryBroken):
            history.check(edited)


def test_a_removed_event_is_found(desk: Desk) -> None:
    events = lived(desk)
    for position in range(len(events) - 1):
        with pytest.raises(HistoryBroken, match=f"event {position + 1} is missing"):
            history.check(events[:position] + events[position + 1 :])


def test_a_swapped_pair_is_found(desk: Desk) -> None:
    events = lived(desk)
    for position in range(len(events) - 1):
        swapped = [*events]
        swapped[position : position + 2] = swapped[position : position + 2][::-1]
        with pytest.raises(HistoryBroken):
            history.check(swapped)


def test_a_swapped_pair_with_its_numbers_put_right_is_found(desk: Desk) -> None:
    swapped = [dict(event) for event in lived(desk)]
    swapped[2], swapped[3] = swapped[3] | {"sequence": 3}, swapped[2] | {"sequence": 4}
    with pytest.raises(HistoryBroken):
        history.check(swapped)


@pytest.mark.parametrize(
    "statement", ["UPDATE history SET event = 'x'", "DELETE FROM history", "TRUNCATE history"]
)
def test_the_database_refuses_to_change_history(desk: Desk, statement: str) -> None:
    refund_id = lived(desk)[0]["refund_id"]
    # SQLite has no TRUNCATE: to it the word itself is an error.
    says = "syntax" if (desk.ledger.engine.name, statement[0]) == ("sqlite", "T") else "append-only"
    with (
        pytest.raises(sa.exc.DBAPIError, match=says),
        desk.ledger.writing() as connection,
    ):
        connection.execute(sa.text(statement))
    assert len(desk.events(refund_id)) > 5


def test_an_event_changed_behind_the_ledgers_back_is_found(database_url: str) -> None:
    clock = FakeClock()
    desk = Desk(Ledger(engine_of(connector(migrated(database_url))), clock), clock)
    refund_id = lived(desk)[0]["refund_id"]
    with desk.ledger.writing() as connection:
        on_postgresql = connection.dialect.name == "postgresql"
        connection.execute(
            sa.text(
                "ALTER TABLE history DISABLE TRIGGER ALL"
                if on_postgresql
                else "DROP TRIGGER history_no_update"
            )
        )
        connection.execute(sa.text("UPDATE history SET event = 'state.unchanged' WHERE sequence=2"))
    with pytest.raises(HistoryBroken, match="event 2 was changed"):
        history.check(history.read(desk.ledger, refund_id))
    desk.ledger.engine.dispose()


def test_text_in_any_script_keeps_its_digest(desk: Desk) -> None:
    runner = desk.run(message="Ça va? 東京 🙂 \u0301", reason="naïve")
    history.append(desk.ledger, runner.refund_id, "note", {"said": "🙂\u2028é"}, runner.fence)
    assert desk.events(runner.refund_id)[-1] == "note"


def test_a_float_never_gets_into_the_history(desk: Desk) -> None:
    runner = desk.run()
    with pytest.raises(TypeError, match="float"):
        history.append(desk.ledger, runner.refund_id, "note", {"amount": 1.5}, runner.fence)
    assert "note" not in desk.events(runner.refund_id)


def test_an_unknown_refund_has_no_history(desk: Desk) -> None:
    with pytest.raises(UnknownRefund):
        history.read(desk.ledger, "rf_nobody")
