"""Going back: done before the payment, refused behind it; never a second act under one key."""

from typing import Any

import pytest

from refunds.errors import BadInput, CannotReset
from refunds.ledger import rewinding
from refunds.models import RefundRequest
from refunds.replay import replay
from tests.replay import paths
from tests.replay.rehearsal import Rehearsal


def reset(world: Rehearsal, request: RefundRequest, to: str, **more: Any) -> rewinding.Plan:
    """Reset as a door does: the results that Prefect would find go, too."""
    found = rewinding.apply(
        world.ledger, request.refund_id, to, person="ops", reason="looked wrong", **more
    )
    for key in found.forgotten:
        world.prefect.results.pop(key, None)
    return found


def refused(world: Rehearsal, request: RefundRequest, to: str, **more: Any) -> str:
    before = world.document(request)
    with pytest.raises(CannotReset) as refusal:
        reset(world, request, to, **more)
    assert world.document(request) == before
    return str(refusal.value)


def assert_paid_once(world: Rehearsal, request: RefundRequest) -> None:
    paid = [act["key"] for act in world.acts(request) if act["kind"] == "create_refund"]
    assert paid == [f"{request.refund_id}:issue_refund"]
    keys = [act["key"] for act in world.acts(request)]
    assert sorted(set(keys)) == sorted(keys)
    assert replay(world.document(request)).difference is None


def stopped_before(world: Rehearsal, step: str, paid_minor: int = 10_000) -> RefundRequest:
    """A refund whose process died just before a step."""
    request = world.request(paid_minor)
    world.prefect.dies_before = step
    assert world.run(request) == "killed"
    return request


@pytest.mark.parametrize("to", ["load_order", "load_risk", "record_assessment", "reserve_money"])
def test_a_reset_before_the_payment_runs_again_and_pays_once(world: Rehearsal, to: str) -> None:
    request = stopped_before(world, "create_return_label")
    plan = reset(world, request, to)
    assert plan.done_over[0] == to
    assert plan.frees_money
    assert world.run(request) == "PAID"
    assert_paid_once(world, request)


def test_a_reset_to_the_order_sees_what_has_changed_since(world: Rehearsal) -> None:
    request = stopped_before(world, "reserve_money")
    world.shop_has(int(request.order_id[2:]), request.amount_minor, status="cancelled")
    reset(world, request, "load_order")
    assert world.run(request) == "REJECTED"
    assessed = [e.data for e in world.document(request).events if e.event == "refund.assessed"]
    assert [(a["round"], a["order"]["status"]) for a in assessed] == [
        (1, "delivered"),
        (1, "cancelled"),
    ]
    assert not [act for act in world.acts(request) if act["kind"] == "create_refund"]


def test_what_was_done_is_not_done_again(world: Rehearsal) -> None:
    request = stopped_before(world, "issue_refund")
    plan = reset(world, request, "create_return_label")
    assert plan.kept == (f"{request.refund_id}:create_return_label",)
    assert world.run(request) == "PAID"
    assert_paid_once(world, request)


def test_going_behind_an_approval_asks_a_person_again(world: Rehearsal) -> None:
    request = paths.asked(world)
    world.decide(request, "approve")
    plan = reset(world, request, "load_order")
    assert plan.asks_again
    assert world.run(request) == "suspended"
    asked = [e.data for e in world.document(request).events if e.event == "approval.requested"]
    assert [a["round"] for a in asked] == [1, 2]
    decided = [e for e in world.document(request).events if e.event == "decision.recorded"]
    assert len(decided) == 1
    world.decide(request, "approve", person="mia")
    assert world.run(request) == "PAID"
    assert_paid_once(world, request)


def test_going_back_behind_the_reservation_alone_keeps_the_approval(world: Rehearsal) -> None:
    request = paths.asked(world)
    world.decide(request, "approve")
    world.prefect.dies_before = "create_return_label"
    assert world.run(request) == "killed"
    assert not reset(world, request, "reserve_money").asks_again
    assert world.run(request) == "PAID"
    assert_paid_once(world, request)


def test_behind_a_paid_step_it_is_refused(world: Rehearsal) -> None:
    request = stopped_before(world, "sync_crm")
    for to in ("load_order", "reserve_money", "issue_refund"):
        assert "it is paid" in refused(world, request, to)
    assert world.run(request) == "PAID"
    assert_paid_once(world, request)


def test_behind_a_payment_whose_ending_nobody_knows_it_is_refused(world: Rehearsal) -> None:
    request = world.request()
    match = {"refund_id": request.refund_id}
    lost = {"endpoint": "POST /gateway/v1/refunds", "kind": "error_after", "times": 1}
    away = {"endpoint": "GET /gateway/v1/refunds", "kind": "error_before", "times": 9}
    world.faults({**lost, "match": match}, away)
    assert world.run(request) == "suspended"
    for to in ("load_order", "issue_refund"):
        assert "may have been made" in refused(world, request, to)
    world.faults()
    world.pass_hours(1)
    assert world.run(request) == "PAID"
    assert_paid_once(world, request)


def test_what_only_the_gateway_knows_of_counts_too(world: Rehearsal) -> None:
    request = stopped_before(world, "create_return_label")
    said = refused(world, request, "load_order", at_gateway="re_1 (succeeded)")
    assert "re_1 (succeeded)" in said


def test_while_a_label_stands_it_is_not_decided_anew(world: Rehearsal) -> None:
    request = stopped_before(world, "issue_refund")
    assert "refunds abandon" in refused(world, request, "load_order")


def test_a_refund_that_is_over_stays_over(world: Rehearsal) -> None:
    request = paths.reject(world)
    assert "it is over (REJECTED)" in refused(world, request, "load_order")


def test_a_rejection_is_not_overturned_by_a_reset(world: Rehearsal) -> None:
    request = paths.asked(world)
    world.decide(request, "reject")
    assert "its question is REJECTED" in refused(world, request, "load_order")


def test_a_step_that_it_never_came_to_is_bad_input(world: Rehearsal) -> None:
    request = paths.asked(world)
    with pytest.raises(BadInput, match="never came to 'issue_refund'; its steps are: load_order"):
        rewinding.plan(world.ledger, request.refund_id, "issue_refund")


def test_a_plan_changes_nothing(world: Rehearsal) -> None:
    request = stopped_before(world, "create_return_label")
    before = (world.document(request), world.row(request))
    rewinding.plan(world.ledger, request.refund_id, "load_order")
    assert (world.document(request), world.row(request)) == before


def test_the_runner_of_before_is_fenced_off(world: Rehearsal) -> None:
    request = stopped_before(world, "create_return_label")
    before = world.row(request)["fence"]
    reset(world, request, "load_order")
    assert world.row(request)["fence"] > before
    assert world.row(request)["lease_holder"] is None
