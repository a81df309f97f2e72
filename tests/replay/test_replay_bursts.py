"""What a burst carries comes to what the refund's own run would have come to, and replays as it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from flows import batch as batch_flow
from refunds.ledger import approvals, batches, bursts, history, leases, updates
from refunds.ledger import requests as taken
from refunds.ledger.votes import Vote
from refunds.models import RefundRequest
from refunds.replay import Stage, replay, reports
from tests.batch.batch_world import PrefectRuns, without_prefect
from tests.replay.paths import FOR_A_PERSON
from tests.replay.rehearsal import Rehearsal, run_id_of

# Longer than the last level of the default policy.
_HOURS_TO_EXPIRE = 24 * 30


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


def asked(world: Rehearsal) -> RefundRequest:
    """A refund whose own run, launched for it, waits for a person."""
    request = launched(world, paid_minor=FOR_A_PERSON)
    assert world.run(request) == "suspended"
    return request


def launched(world: Rehearsal, **fields: Any) -> RefundRequest:
    """A refund with a run of its own, which has not begun."""
    request = world.request(**fields)
    taken.submit(world.ledger, [request])
    with world.ledger.page(request.refund_id) as page:
        leases.assign(page, run_id_of(request), 1)
    return request


def gathered(world: Rehearsal, requests: Sequence[RefundRequest]) -> str:
    """These go on together; returns their burst."""
    claims = [bursts.claim(world.ledger, request.refund_id, 0) for request in requests]
    [burst_id] = {claim.burst_id for claim in claims if claim is not None}
    assert burst_id is not None
    return burst_id


def carried(world: Rehearsal, burst_id: str, run_id: str = "run-of-the-burst") -> PrefectRuns:
    """Carry a burst to its end."""
    with without_prefect(run_id) as prefect_runs:
        world.do(batch_flow.work_off(burst_id))
    return prefect_runs


def is_replayed(world: Rehearsal, request: RefundRequest, stage: Stage) -> None:
    performance = replay(world.document(request), stage)
    assert performance.is_same, "\n".join(reports.lines(performance))


def keys(world: Rehearsal, request: RefundRequest) -> list[str]:
    """What the outside world did for a refund, in order, without its id."""
    return [act["key"].partition(":")[2] for act in world.acts(request)]


def told(world: Rehearsal, request: RefundRequest) -> list[str]:
    """The events of a refund from its decision on, but for those of its runs and its journal."""
    names = [event["event"] for event in history.read(world.ledger, request.refund_id)]
    ours = ("run.", "step.", "refund.gathered")
    return [name for name in names if not name.startswith(ours)]


def order_number(request: RefundRequest) -> int:
    return int(request.order_id.removeprefix("#W"))


def test_approved_and_rejected_come_to_the_same_as_in_runs_of_their_own(
    world: Rehearsal, stage: Stage
) -> None:
    together = [asked(world), asked(world)]
    alone = [asked(world), asked(world)]
    for pair in (together, alone):
        world.decide(pair[0], "approve")
        world.decide(pair[1], "reject")
    carried(world, gathered(world, together))
    assert [world.run(request) for request in alone] == ["PAID", "REJECTED"]
    for one, other in zip(together, alone, strict=True):
        assert world.row(one)["outcome"] == world.row(other)["outcome"]
        assert keys(world, one) == keys(world, other)
        assert told(world, one) == told(world, other)
        is_replayed(world, one, stage)


def test_what_nobody_decided_in_time_expires_in_a_burst_too(world: Rehearsal, stage: Stage) -> None:
    requests = [asked(world) for _ in range(2)]
    world.pass_hours(_HOURS_TO_EXPIRE)
    carried(world, gathered(world, requests))
    for request in requests:
        assert world.row(request)["outcome"] == "EXPIRED"
        assert "issue_refund" not in keys(world, request)
        is_replayed(world, request, stage)


def test_a_question_for_the_next_level_stays_with_the_refunds_own_run(world: Rehearsal) -> None:
    request = asked(world)
    world.pass_hours(30)
    claim = bursts.claim(world.ledger, request.refund_id, 0)
    assert claim is not None
    assert claim.burst_id is None
    assert claim.run_id is not None


def test_facts_that_changed_since_the_approval_are_asked_anew_and_the_others_are_paid(
    world: Rehearsal, stage: Stage
) -> None:
    changed, same = asked(world), asked(world)
    for request in (changed, same):
        world.decide(request, "approve")
    dearer = {"item_id": "i1", "product_id": "p1", "name": "Other lamp", "price_minor": 250_000}
    world.shop_has(order_number(changed), FOR_A_PERSON, items=[{**dearer, "options": {}}])
    prefect_runs = carried(world, gathered(world, [changed, same]))
    assert world.row(same)["outcome"] == "PAID"
    row = world.row(changed)
    assert (row["state"], row["lane"]) == ("awaiting_approval", "now")
    assert keys(world, changed) == ["send_card:1:team", "send_card:2:team"]
    assert list(prefect_runs.created) == [(changed.refund_id, 2)]
    is_replayed(world, changed, stage)

    # Decided in its second round, it may be carried by a burst again.
    world.decide(changed, "approve")
    again = gathered(world, [changed])
    assert again != world.row(same)["burst_id"]
    carried(world, again, "run-of-another-burst")
    assert world.row(changed)["outcome"] == "PAID"
    assert keys(world, changed).count("issue_refund") == 1
    is_replayed(world, changed, stage)


def test_a_smaller_amount_is_asked_anew_by_a_burst_and_is_what_is_paid(
    world: Rehearsal, stage: Stage
) -> None:
    request = asked(world)
    vote = Vote(choice="approve", person="lea", channel="cli", verified=True, amount_minor=150_000)
    approvals.decide(world.ledger, request.refund_id, vote)
    carried(world, gathered(world, [request]))
    standing = approvals.standing(world.ledger, request.refund_id)
    assert standing is not None
    assert (standing.round, standing.facts["amount_minor"]) == (2, 150_000)
    is_replayed(world, request, stage)

    world.decide(request, "approve", "mia")
    carried(world, gathered(world, [request]), "run-of-another-burst")
    assert world.row(request)["outcome"] == "PAID"
    [paid] = [act for act in world.acts(request) if act["key"].endswith(":issue_refund")]
    assert int(paid["request"]["amount"]) == 150_000
    is_replayed(world, request, stage)


def test_evidence_that_was_added_is_among_the_facts_of_a_bursts_question(
    world: Rehearsal, stage: Stage
) -> None:
    request = asked(world)
    change = updates.Update(evidence="The parcel was weighed: it is empty.")
    updates.update(world.ledger, request.refund_id, change, person="lea", reason="seen")
    carried(world, gathered(world, [request]))
    standing = approvals.standing(world.ledger, request.refund_id)
    assert standing is not None
    assert standing.round == 2
    assert "empty" in str(standing.facts)
    world.decide(request, "approve")
    carried(world, gathered(world, [request]), "run-of-another-burst")
    assert world.row(request)["outcome"] == "PAID"
    is_replayed(world, request, stage)


def test_payments_that_settle_together_are_concluded_together(
    world: Rehearsal, stage: Stage
) -> None:
    requests = [launched(world), launched(world)]
    world.faults({"endpoint": "POST /gateway/v1/refunds", "kind": "pending", "times": 2})
    for request in requests:
        assert world.run(request) == "suspended"
        world.settle(request, "succeeded")
    carried(world, gathered(world, requests))
    for request in requests:
        assert world.row(request)["outcome"] == "PAID"
        assert keys(world, request).count("issue_refund") == 1
        is_replayed(world, request, stage)


def test_a_payment_that_is_pending_waits_without_a_run_and_calls_its_burst_back(
    world: Rehearsal, stage: Stage
) -> None:
    request = asked(world)
    world.decide(request, "approve")
    world.faults({"endpoint": "POST /gateway/v1/refunds", "kind": "pending", "times": 1})
    burst_id = gathered(world, [request])
    carried(world, burst_id)
    assert world.row(request)["state"] == "settling"
    assert batches.to_launch(world.ledger) == []
    world.settle(request, "succeeded")
    assert [each.batch_id for each in batches.to_launch(world.ledger)] == [burst_id]
    carried(world, burst_id, "run-that-was-called-back")
    assert world.row(request)["outcome"] == "PAID"
    is_replayed(world, request, stage)


def test_a_disputed_charge_is_not_paid_by_a_burst(world: Rehearsal, stage: Stage) -> None:
    request = asked(world)
    world.decide(request, "approve")
    standing = approvals.standing(world.ledger, request.refund_id)
    assert standing is not None
    body = {"charge": standing.facts["charge_id"], "disputed": True}
    world.client.put("/gateway/dispute", json=body).raise_for_status()
    carried(world, gathered(world, [request]))
    assert world.row(request)["outcome"] is None
    assert "issue_refund" not in keys(world, request)
    is_replayed(world, request, stage)
