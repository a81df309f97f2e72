"""A smaller amount is asked anew under its own digest, and only then paid."""

from typing import Any

import pytest

from refunds.errors import ApproverRefused, DecisionConflict, DigestStale
from refunds.ledger import approvals, history, requests
from refunds.ledger.approvals import Standing, Vote
from refunds.models import RefundRequest
from refunds.verify import rules
from refunds.verify.dossiers import read_all
from tasks import decisions
from tests.replay.rehearsal import Rehearsal

# Above what the rules approve; two people from 1,000,000 on.
ASKED = 200_000
ASKED_OF_TWO = 1_200_000


def vote(world: Rehearsal, request: RefundRequest, person: str = "lea", **more: Any) -> Standing:
    """A vote as it comes from the service."""
    given: dict[str, Any] = {"choice": "approve", "channel": "service", "verified": True} | more
    standing: Standing = world.do(decisions.take(request.refund_id, Vote(person=person, **given)))
    return standing


def standing(world: Rehearsal, request: RefundRequest) -> Standing:
    found = approvals.standing(world.ledger, request.refund_id)
    assert found is not None
    return found


def paid_minor(world: Rehearsal, request: RefundRequest) -> list[int]:
    acts = world.acts(request)
    return [act["request"]["amount"] for act in acts if act["kind"] == "create_refund"]


def problems(world: Rehearsal, request: RefundRequest) -> list[str]:
    found: list[str] = []
    with world.ledger.reading() as connection:
        for dossier in read_all(connection, found):
            if dossier.refund_id == request.refund_id:
                found += rules.broken(dossier)
    return found


def test_a_smaller_amount_is_asked_anew_and_paid_once_it_is_approved(world: Rehearsal) -> None:
    request = world.request(ASKED)
    assert world.run(request) == "suspended"
    first = standing(world, request)
    vote(world, request, amount_minor=50_000, digest=first.digest)
    assert standing(world, request).status == "superseded"
    assert world.run(request) == "suspended"
    second = standing(world, request)
    assert (second.round, second.status, second.facts["amount_minor"]) == (2, "open", 50_000)
    assert second.digest != first.digest
    assert second.facts["proposal"] == {
        "asked_minor": ASKED,
        "amount_minor": 50_000,
        "proposed_by": "lea",
    }
    assert paid_minor(world, request) == []
    with pytest.raises(DigestStale, match="amount_minor: 200000 → 50000"):
        vote(world, request, "bob", digest=first.digest)
    vote(world, request, digest=second.digest)
    assert world.run(request) == "PAID"
    assert paid_minor(world, request) == [50_000]
    assert problems(world, request) == []


def test_an_amount_that_the_rules_would_pay_by_themselves_is_still_asked(
    world: Rehearsal,
) -> None:
    lamp = {"item_id": "i1", "product_id": "p1", "name": "Lamp", "price_minor": 60_000}
    request = world.request(ASKED)
    number = int(request.order_id.removeprefix("#W"))
    world.shop_has(number, ASKED, items=[lamp | {"options": {}}])
    assert world.run(request) == "suspended"
    vote(world, request, amount_minor=60_000)
    assert world.run(request) == "suspended"
    (reason,) = standing(world, request).reasons
    assert (reason.rule, "lea proposed $600.00" in reason.text) == ("proposal", True)


def test_lowering_an_amount_never_lowers_how_many_have_to_approve_it(world: Rehearsal) -> None:
    request = world.request(ASKED_OF_TWO)
    assert world.run(request) == "suspended"
    vote(world, request, amount_minor=150_000)
    assert world.run(request) == "suspended"
    asked = standing(world, request)
    assert (asked.people_needed, asked.verified_needed) == (2, True)
    assert vote(world, request).status == "open"
    assert vote(world, request, "bob").status == "APPROVED"
    assert world.run(request) == "PAID"
    assert paid_minor(world, request) == [150_000]
    assert problems(world, request) == []


def test_a_proposal_sent_twice_is_one_and_may_be_lowered_further(world: Rehearsal) -> None:
    request = world.request(ASKED)
    world.run(request)
    for _ in range(2):
        vote(world, request, amount_minor=90_000)
    assert world.run(request) == "suspended"
    vote(world, request, "bob", amount_minor=80_000)
    assert world.run(request) == "suspended"
    proposed = [
        event["data"]
        for event in history.read(world.ledger, request.refund_id)
        if event["event"] == "amount.proposed"
    ]
    assert [(event["asked_minor"], event["amount_minor"]) for event in proposed] == [
        (ASKED, 90_000),
        (ASKED, 80_000),
    ]
    assert requests.read(world.ledger, request.refund_id)["amount_minor"] == 80_000
    assert problems(world, request) == []


@pytest.mark.parametrize("amount_minor", [ASKED + 1, 10**12])
def test_an_amount_is_never_raised(world: Rehearsal, amount_minor: int) -> None:
    request = world.request(ASKED)
    world.run(request)
    with pytest.raises(ApproverRefused, match="only an amount below"):
        vote(world, request, amount_minor=amount_minor)
    assert standing(world, request).status == "open"


def test_whoever_asked_proposes_nothing(world: Rehearsal) -> None:
    request = world.request(ASKED)
    world.run(request)
    with pytest.raises(ApproverRefused, match="asked for this refund"):
        vote(world, request, "sam", amount_minor=1_000)
    assert requests.read(world.ledger, request.refund_id)["amount_minor"] == ASKED


def test_nothing_is_proposed_once_it_is_decided(world: Rehearsal) -> None:
    request = world.request(ASKED)
    world.run(request)
    vote(world, request)
    with pytest.raises(DecisionConflict, match="already APPROVED"):
        vote(world, request, "bob", amount_minor=1_000)
    assert world.run(request) == "PAID"
    assert paid_minor(world, request) == [ASKED]


def test_a_run_that_forgot_its_results_sends_no_card_again_and_pays_what_was_approved(
    world: Rehearsal,
) -> None:
    request = world.request(ASKED)
    world.run(request)
    vote(world, request, amount_minor=50_000)
    world.run(request)
    vote(world, request)
    world.prefect.results.clear()
    assert world.run(request) == "PAID"
    cards = [act["key"] for act in world.acts(request) if "send_card" in act["key"]]
    assert sorted(cards) == [f"{request.refund_id}:send_card:{number}:team" for number in (1, 2)]
    assert paid_minor(world, request) == [50_000]
    assert problems(world, request) == []
