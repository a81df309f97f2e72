"""A payment that stays unknown and that no books tell of is ended by the word of people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from refunds.api import AsyncRefunds
from refunds.authority import Person
from refunds.errors import BadInput, CannotSettle
from refunds.ledger import charges, people, schema
from refunds.models import RefundRequest, State
from refunds.replay import replay
from refunds.verify import verify
from tests.replay.rehearsal import Rehearsal
from tests.replay.unknown_payments import at_gateway, charge_of, unanswered, unknown

FOR_TWO_PEOPLE = 1_200_000
SAYS = {"person": "lea", "reason": "asked them", "evidence": "their letter of today"}


def settle(world: Rehearsal, request: RefundRequest, paid_as: str | None, **said: Any) -> Any:
    told = {**SAYS, "channel": "cli", "apply": True, **said}
    return world.do(AsyncRefunds().settle(request.refund_id, paid_as=paid_as, **told))


def problems(world: Rehearsal, request: RefundRequest) -> list[str]:
    """What `refunds verify` says of this refund and its charge."""
    found = world.do(verify()).problems
    names = (f"{request.refund_id}:", f"charge {charge_of(request)}:")
    return [problem for problem in found if problem.startswith(names)]


def wire_keys(world: Rehearsal, request: RefundRequest) -> list[str]:
    acts = [act for act in world.acts(request) if act["system"] == "gateway"]
    return [act["key"] for act in acts]


def test_paid_some_other_way_it_is_booked_and_everybody_is_told(world: Rehearsal) -> None:
    request = unknown(world)
    done = settle(world, request, "wire transfer 4711")
    assert (done["applied"], done["said_by"], done["needed"]) == (True, ["lea"], 1)
    assert world.run(request) == "PAID"
    assert charges.left_on(world.ledger, charge_of(request)) == 0
    assert wire_keys(world, request) == []
    [told] = [e.data for e in world.document(request).events if e.event == "refund.concluded"]
    assert told["why"] == "Paid as wire transfer 4711."
    assert problems(world, request) == []
    assert "of them by the word of people" in world.do(verify()).summary()
    assert replay(world.document(request)).difference is None


def test_made_by_hand_at_the_gateway_it_is_held_against_its_books(world: Rehearsal) -> None:
    request = unknown(world)
    reference = at_gateway(world, request, "by-hand")
    assert settle(world, request, reference)["applied"]
    assert world.run(request) == "PAID"
    assert problems(world, request) == []


def test_not_paid_it_is_paid_anew_when_it_is_resumed(world: Rehearsal) -> None:
    request = unknown(world)
    assert settle(world, request, None)["applied"]
    assert world.payment(request).state == "blocked"
    assert world.row(request)["state"] == "needs_attention"
    assert "`refunds resume` pays it anew" in world.row(request)["attention"]
    assert charges.holds_money(world.ledger, request.refund_id)
    world.do(AsyncRefunds().resume(request.refund_id, person="lea"))
    assert world.run(request) == "PAID"
    # Under the old key a gateway may repeat an old answer.
    assert wire_keys(world, request) == [f"{request.refund_id}:issue_refund:2"]
    assert problems(world, request) == []
    assert replay(world.document(request)).difference is None


def test_not_paid_no_run_pays_it_that_began_without_a_person(world: Rehearsal) -> None:
    request = unknown(world)
    settle(world, request, None)
    # As one that is forced in Prefect, or takes the place of one that was lost there.
    for _ in range(2):
        assert world.run(request) == "suspended"
    assert wire_keys(world, request) == []
    assert world.payment(request).state == "blocked"
    assert charges.holds_money(world.ledger, request.refund_id)
    row = world.row(request)
    assert row["state"] == "needs_attention"
    assert "not paid, by the word of lea: asked them" in row["attention"]
    assert "`refunds resume`" in row["attention"]
    world.do(AsyncRefunds().resume(request.refund_id, person="lea"))
    assert world.run(request) == "PAID"
    assert wire_keys(world, request) == [f"{request.refund_id}:issue_refund:2"]
    assert problems(world, request) == []
    assert replay(world.document(request)).difference is None


def test_not_paid_it_can_be_given_up(world: Rehearsal) -> None:
    request = unknown(world)
    settle(world, request, None)
    world.do(AsyncRefunds().abandon(request.refund_id, person="lea", reason="no longer wanted"))
    assert not charges.holds_money(world.ledger, request.refund_id)
    assert world.run(request) == "FAILED"
    assert wire_keys(world, request) == []
    assert problems(world, request) == []
    assert replay(world.document(request)).difference is None


def test_a_look_changes_nothing(world: Rehearsal) -> None:
    request = unknown(world)
    before = world.document(request)
    shown = settle(world, request, "wire 1", apply=False)
    assert (shown["refusal"], shown["kept"], shown["applied"]) == (None, False, False)
    assert world.document(request) == before


@pytest.mark.parametrize("missing", ["reason", "evidence"])
def test_nothing_is_settled_without_a_reason_and_evidence(world: Rehearsal, missing: str) -> None:
    request = unknown(world)
    with pytest.raises(BadInput, match="a reason and evidence"):
        settle(world, request, None, **{missing: " "})


@pytest.mark.parametrize("paid_as", [None, "wire 1"])
def test_what_the_gateway_knows_after_all_is_not_settled_by_anybodys_word(
    world: Rehearsal, paid_as: str | None
) -> None:
    request = unknown(world)
    ours = {"metadata[refund_id]": request.refund_id}
    ours["metadata[key]"] = f"{request.refund_id}:issue_refund"
    at_gateway(world, request, "late", **ours)
    with pytest.raises(CannotSettle, match="`refunds resume` takes its word"):
        settle(world, request, paid_as)
    world.do(AsyncRefunds().resume(request.refund_id, person="lea"))
    assert world.run(request) == "PAID"


def test_not_paid_is_not_believed_while_the_charge_has_a_refund_of_the_same_amount_by_hand(
    world: Rehearsal,
) -> None:
    request = unknown(world)
    reference = at_gateway(world, request, "by-hand")
    with pytest.raises(CannotSettle, match=f"it is paid as {reference}"):
        settle(world, request, None)


def test_a_refund_by_hand_of_another_amount_is_not_this_payment(world: Rehearsal) -> None:
    request = unknown(world)
    reference = at_gateway(world, request, "by-hand", amount="9000")
    with pytest.raises(CannotSettle, match=r"is of \$90\.00"):
        settle(world, request, reference)
    assert settle(world, request, None)["applied"]


def test_a_refund_of_another_charge_is_not_this_payment(world: Rehearsal) -> None:
    request, other = unknown(world), world.request()
    reference = at_gateway(world, other, "by-hand")
    with pytest.raises(CannotSettle, match="is of another charge"):
        settle(world, request, reference)


def test_one_payment_does_not_settle_two_refunds(world: Rehearsal) -> None:
    first, second = unknown(world), unknown(world)
    settle(world, first, "wire 7")
    with pytest.raises(CannotSettle, match=f"wire 7 is the payment of {first.refund_id}"):
        settle(world, second, "wire 7")


def test_while_the_gateway_knows_the_key_nobodys_word_is_needed(world: Rehearsal) -> None:
    request = unanswered(world)
    with world.ledger.page(request.refund_id) as page:
        page.enter(State.NEEDS_ATTENTION)
    with pytest.raises(CannotSettle, match="still knows its key"):
        settle(world, request, None)


def test_what_still_ends_by_itself_is_not_settled(world: Rehearsal) -> None:
    request = unanswered(world)
    with pytest.raises(CannotSettle, match="needs nobody, and still ends by itself"):
        settle(world, request, None)


def test_what_is_over_paid_or_never_sent_cannot_be_settled(world: Rehearsal) -> None:
    request = unknown(world)
    settle(world, request, "wire 8")
    with pytest.raises(CannotSettle, match="has succeeded, and that stands"):
        settle(world, request, None)
    assert world.run(request) == "PAID"
    with pytest.raises(CannotSettle, match="it is over: PAID"):
        settle(world, request, None)
    waiting = world.request(200_000)
    assert world.run(waiting) == "suspended"
    with pytest.raises(CannotSettle, match="nothing was ever sent"):
        settle(world, waiting, None)


@pytest.mark.parametrize("person", ["sam", "SAM"])
def test_whoever_asked_for_it_does_not_settle_it(world: Rehearsal, person: str) -> None:
    request = unknown(world)
    with pytest.raises(CannotSettle, match="asked for this refund"):
        settle(world, request, None, person=person)


def test_where_two_approve_two_different_people_say_the_same(world: Rehearsal) -> None:
    request = unknown(world, FOR_TWO_PEOPLE)
    first = settle(world, request, "wire 9")
    assert (first["kept"], first["applied"], first["needed"]) == (True, False, 2)
    assert world.payment(request).state == "unknown"
    with pytest.raises(CannotSettle, match="lea has said so already"):
        settle(world, request, "wire 9", person=" Lea ")
    # Who says otherwise begins anew.
    assert not settle(world, request, None, person="tom")["applied"]
    assert not settle(world, request, "wire 9")["applied"]
    done = settle(world, request, "wire 9", person="mia")
    assert (done["applied"], done["said_by"]) == (True, ["lea", "mia"])
    assert world.run(request) == "PAID"
    assert problems(world, request) == []


@pytest.fixture
def registered(world: Rehearsal) -> Iterator[None]:
    """Lea may approve up to 50 dollars, mia what she likes; nobody is left afterwards."""
    for name, limit in (("lea", 5_000), ("mia", 500_000)):
        person = Person(person_id=name, name=name, limits={"USD": limit})
        people.add(world.ledger, person, by="test")
    yield
    with world.ledger.writing() as connection:
        connection.execute(schema.people.delete())


def test_a_word_counts_where_an_approval_would(world: Rehearsal, registered: None) -> None:
    request = unknown(world)
    with pytest.raises(CannotSettle, match=r"above the \$50\.00"):
        settle(world, request, None)
    assert settle(world, request, None, person="mia")["applied"]


def test_verify_finds_a_payment_that_the_gateway_made_after_people_said_it_was_paid(
    world: Rehearsal,
) -> None:
    request = unknown(world)
    settle(world, request, "wire 10")
    at_gateway(world, request, "late", **{"metadata[refund_id]": request.refund_id})
    [problem] = problems(world, request)
    assert "the ledger has it paid as wire 10, the gateway as re_" in problem


def test_verify_finds_a_payment_that_people_named_and_that_failed_since(world: Rehearsal) -> None:
    request = unknown(world)
    reference = at_gateway(world, request, "by-hand")
    settle(world, request, reference)
    body = {"refund": reference, "status": "failed", "failure_reason": "unknown"}
    world.client.put("/gateway/settle", json=body).raise_for_status()
    [problem] = problems(world, request)
    assert f"people named {reference} as its payment, which failed at the gateway" in problem


def test_verify_finds_a_settlement_that_nobody_said(world: Rehearsal) -> None:
    request = unknown(world)
    with world.ledger.page(request.refund_id) as page:
        said = {"is_paid": True, "reference": "wire 11", "said_by": ["lea"], "needed": 1}
        page.append("payment.settled", {"key": f"{request.refund_id}:issue_refund", **said})
    found = problems(world, request)
    assert f"{request.refund_id}: 0 people ended its payment, and 1 had to" in found
    assert any("people named wire 11, and the ledger has None" in problem for problem in found)
