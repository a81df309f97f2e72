"""A waiting question is changed without starting over; new evidence is asked about anew."""

from datetime import timedelta
from typing import Any

import pytest

from refunds.api import AsyncRefunds
from refunds.errors import BadInput, Conflict, NothingToDecide
from refunds.ledger import approvals, effects, journal, updates, waits
from refunds.ledger.updates import Update
from refunds.models import RefundRequest
from refunds.replay import replay
from tasks import further_cards
from tests.replay import paths
from tests.replay.rehearsal import Rehearsal


def update(world: Rehearsal, request: RefundRequest, **change: Any) -> None:
    updates.update(
        world.ledger, request.refund_id, Update(**change), person="ops", reason="they are away"
    )


def question(world: Rehearsal, request: RefundRequest) -> approvals.Standing:
    found = approvals.standing(world.ledger, request.refund_id)
    assert found is not None
    return found


def test_a_deadline_that_was_moved_holds_for_decisions_and_for_the_wait(world: Rehearsal) -> None:
    request = paths.asked(world)
    world.pass_hours(49)
    assert world.run(request) == "suspended"
    later = question(world, request).deadline + timedelta(days=2)
    update(world, request, deadline=later)
    assert {wait["due_at"] for wait in waits.open_waits(world.ledger, request.refund_id)} == {later}
    world.pass_hours(30)
    world.decide(request, "approve")
    assert world.run(request) == "PAID"
    assert replay(world.document(request)).difference is None


@pytest.mark.parametrize("hours", [-1, 1, 400 * 24])
def test_a_deadline_that_cannot_be_is_refused_and_nothing_is_changed(
    world: Rehearsal, hours: int
) -> None:
    request = paths.asked(world)
    before = (world.document(request), question(world, request))
    with pytest.raises(BadInput, match="deadline"):
        update(world, request, priority=1, deadline=world.ledger.clock() + timedelta(hours=hours))
    assert (world.document(request), question(world, request)) == before


def test_priority_and_audience_change_in_place(world: Rehearsal) -> None:
    request = paths.asked(world)
    digest = question(world, request).digest
    update(world, request, priority=1, audience="night-shift", note="call first")
    now = question(world, request)
    assert (now.priority, now.levels[0].audience, now.digest) == (1, "night-shift", digest)
    [told] = [e.data for e in world.document(request).events if e.event == "refund.updated"]
    assert told["changes"] == {"priority": 1, "audience": "night-shift", "note": "call first"}
    world.decide(request, "approve")
    assert world.run(request) == "PAID"


def test_new_evidence_is_asked_about_anew_and_binds(world: Rehearsal) -> None:
    request = paths.asked(world)
    before = question(world, request).digest
    update(world, request, evidence="The parcel came back empty.")
    with pytest.raises(NothingToDecide):
        world.decide(request, "approve")
    assert world.run(request) == "suspended"
    now = question(world, request)
    assert (now.round, now.facts["evidence"]) == (2, ["The parcel came back empty."])
    assert now.digest != before
    world.decide(request, "approve")
    assert world.run(request) == "PAID"
    assert replay(world.document(request)).difference is None


def test_evidence_is_not_forgotten_with_the_results_of_steps(world: Rehearsal) -> None:
    request = paths.asked(world)
    update(world, request, evidence="The parcel came back empty.")
    assert world.run(request) == "suspended"
    world.decide(request, "approve")
    world.prefect.results.clear()
    assert world.run(request) == "PAID"
    events = world.document(request).events
    held = journal.values_of((e.event, e.data) for e in events)
    key = f"{request.refund_id}:load_order:2"
    outputs = [e.data["output"] for e in events if e.data.get("key") == key and "output" in e.data]
    looked_at = held.get(outputs[-1].get("$same_as"), outputs[-1])
    assert looked_at["evidence"] == ["The parcel came back empty."]


def test_evidence_after_the_approval_is_not_paid_unasked(world: Rehearsal) -> None:
    request = paths.asked(world)
    world.decide(request, "approve")
    update(world, request, evidence="The parcel came back empty.")
    assert world.run(request) == "suspended"
    assert not [act for act in world.acts(request) if act["kind"] == "create_refund"]


def test_evidence_for_what_is_paid_comes_too_late(world: Rehearsal) -> None:
    request = world.request()
    world.prefect.dies_before = "sync_crm"
    assert world.run(request) == "killed"
    with pytest.raises(Conflict, match="too late"):
        update(world, request, evidence="It was never sent.")


@pytest.mark.parametrize("change", [{}, {"priority": 7}], ids=["nothing", "no such priority"])
def test_what_says_nothing_or_cannot_be_is_refused(world: Rehearsal, change: Any) -> None:
    request = paths.asked(world)
    with pytest.raises(BadInput):
        update(world, request, **change)


def test_without_an_open_question_there_is_no_deadline_to_move(world: Rehearsal) -> None:
    request = world.request()
    world.prefect.dies_before = "load_risk"
    assert world.run(request) == "killed"
    with pytest.raises(NothingToDecide):
        update(world, request, priority=1)


# --- The card for whoever is asked instead ---


def ask_instead(world: Rehearsal, request: RefundRequest, audience: str) -> dict[str, Any]:
    changed = AsyncRefunds().update(request.refund_id, person="ops", audience=audience)
    return dict(world.do(changed))


def cards_to(world: Rehearsal, request: RefundRequest, audience: str) -> list[str]:
    """The keys of the cards that the outside world has for an audience."""
    params = {"refund_id": request.refund_id}
    messages = world.client.get("/notices/v1/messages", params=params).json()["messages"]
    return [m["reference"] for m in messages if m["to"] == audience]


def test_whoever_is_asked_instead_gets_one_card_that_is_an_effect_with_its_key(
    world: Rehearsal,
) -> None:
    request = paths.asked(world)
    assert ask_instead(world, request, "night-shift")["card_sent"]
    assert ask_instead(world, request, "night-shift")["card_sent"]
    [key] = cards_to(world, request, "night-shift")
    [effect] = [e for e in effects.of_refund(world.ledger, request.refund_id) if e["key"] == key]
    assert (effect["step"], effect["state"], effect["sends"]) == ("send_card", "succeeded", 1)
    world.decide(request, "approve")
    assert world.run(request) == "PAID"
    assert replay(world.document(request)).difference is None


@pytest.mark.parametrize("died", ["before it was sent", "after it was sent"])
def test_a_card_whose_sender_died_is_sent_by_the_sweep_once(
    world: Rehearsal, monkeypatch: pytest.MonkeyPatch, died: str
) -> None:
    request = paths.asked(world)
    with monkeypatch.context() as patch:

        async def die(_refund_id: str) -> bool:
            raise SystemExit

        def die_late(*_args: Any, **_named: Any) -> None:
            raise SystemExit

        if died == "before it was sent":
            patch.setattr(further_cards, "send", die)
        else:
            patch.setattr(effects, "record", die_late)
        with pytest.raises(SystemExit):
            ask_instead(world, request, "night-shift")
    assert len(cards_to(world, request, "night-shift")) == (died == "after it was sent")
    assert [world.do(further_cards.send_unsent()) for _ in range(2)] == [1, 0]
    assert len(cards_to(world, request, "night-shift")) == 1


def test_a_card_that_could_not_be_sent_goes_out_later_and_only_to_whoever_is_asked_then(
    world: Rehearsal,
) -> None:
    request = paths.asked(world)
    endpoint = {"endpoint": "POST /notices/v1/messages", "kind": "error_before"}
    world.faults(endpoint | {"match": {"refund_id": request.refund_id}})
    assert not ask_instead(world, request, "night-shift")["card_sent"]
    assert not ask_instead(world, request, "day-shift")["card_sent"]
    world.faults()
    assert [world.do(further_cards.send_unsent()) for _ in range(2)] == [1, 0]
    assert cards_to(world, request, "night-shift") == []
    assert len(cards_to(world, request, "day-shift")) == 1
