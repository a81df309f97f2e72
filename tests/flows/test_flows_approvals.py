"""A person decides: once, not for themselves, in time, and on what they saw."""

import asyncio

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from refunds.doctor import prefect_api
from refunds.doctor.findings import Unwell
from refunds.errors import ApproverRefused, ChargeDisputed, Conflict, DecisionLate, DigestStale
from refunds.models import RefundRequest
from tasks import upkeep
from tests.flows.flows_world import World, edit_policy, until
from tests.tasks.listener import Listener

pytestmark = pytest.mark.anyio

# Above what the rules approve, below what needs a checked identity.
FOR_A_PERSON = 200_000
# From here two different people have to approve.
FOR_TWO = 1_000_000


async def test_an_approved_review_is_paid(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    world.assert_nothing_paid(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    state = await world.end_of(task)
    assert await state.aresult() == "PAID"
    world.assert_paid_once(request)


async def test_a_rejected_review_is_not_paid(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    await world.refunds.decide(request.refund_id, "reject", person="lea", reason="no receipt")
    state = await world.end_of(task)
    assert await state.aresult() == "REJECTED"
    world.assert_nothing_paid(request)


async def test_a_waiting_refund_holds_no_lease(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    assert world.row(request)["lease_holder"] is None
    await _reject(world, request, task)


async def test_the_same_approval_from_two_doors_at_once_pays_once(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    form = {"decision": "approve", "approver": "bob", "reason": "seen"}
    await asyncio.gather(
        world.refunds.decide(request.refund_id, "approve", person="lea"),
        world.refunds.decide(request.refund_id, "approve", person="lea", channel="cli"),
        world.resume(request, form),
    )
    await world.end_of(task)
    world.assert_paid_once(request)
    assert len(world.events(request, "approval.closed")) == 1


async def test_of_two_opposite_decisions_at_once_one_is_taken(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    found = await asyncio.gather(
        world.refunds.decide(request.refund_id, "approve", person="lea"),
        world.refunds.decide(request.refund_id, "reject", person="bob"),
        return_exceptions=True,
    )
    await world.end_of(task)
    assert sum(isinstance(one, Conflict) for one in found) == 1
    is_approved = isinstance(found[1], Conflict)
    assert world.outcome(request) == ("PAID" if is_approved else "REJECTED")
    assert len(world.at_gateway(request)) == is_approved
    world.assert_sound(request)


@pytest.mark.parametrize("asked", ["requested_by", "customer_id"])
async def test_nobody_approves_their_own_request(world: World, asked: str) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    person = f" {getattr(request, asked).upper()} "
    with pytest.raises(ApproverRefused, match="asked for this refund"):
        await world.refunds.decide(request.refund_id, "approve", person=person)
    world.assert_nothing_paid(request)
    assert world.events(request, "decision.refused")
    await _reject(world, request, task)


async def test_a_large_refund_needs_two_different_people(world: World) -> None:
    request = world.request(FOR_TWO)
    task = await world.start_waiting(request)
    for _ in range(2):
        status = await world.refunds.decide(request.refund_id, "approve", person="lea")
        assert status["approval"]["status"] == "open"
    world.assert_nothing_paid(request)
    await world.refunds.decide(request.refund_id, "approve", person="bob")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_an_undecided_review_escalates_once_then_expires_and_is_never_paid(
    world: World,
) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request, "approval-1-team")
    await world.pass_time(request, hours=25)
    await world.until_waiting(request, "approval-1-leads")
    assert _cards(world, request) == ["send_card:1:leads", "send_card:1:team"]
    await world.pass_time(request, hours=73)
    state = await world.end_of(task)
    assert await state.aresult() == "EXPIRED"
    assert _cards(world, request) == ["send_card:1:leads", "send_card:1:team"]
    world.assert_nothing_paid(request)
    with pytest.raises(DecisionLate):
        await world.refunds.decide(request.refund_id, "approve", person="lea")
    world.assert_nothing_paid(request)


async def test_a_lead_may_approve_what_was_escalated(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request, "approval-1-team")
    await world.pass_time(request, hours=25)
    await world.until_waiting(request, "approval-1-leads")
    await world.refunds.decide(request.refund_id, "approve", person="cfo")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_card_goes_through_the_notification_block_that_the_policy_names(
    world: World,
) -> None:
    with Listener() as listener:
        block = CustomWebhookNotificationBlock(
            name="refunds", url=listener.url, json_data={"text": "{{subject}}: {{body}}"}
        )
        await block.asave("refund-cards", overwrite=True)
        team = 'audience = "refund-approvers"'
        edit_policy(team, f'{team}\nblock = "custom-webhook/refund-cards"')
        request = world.request(FOR_A_PERSON)
        task = await world.start_waiting(request)
        (message,) = listener.received
    assert f"Reference: {request.refund_id}:send_card:1:team:block" in message["text"]
    assert f"/refunds/{request.refund_id}/review" in message["text"]
    assert _cards(world, request) == []
    await _reject(world, request, task)


async def test_the_doctor_names_a_card_block_that_the_policy_names_and_prefect_does_not_have(
    world: World,
) -> None:
    await CustomWebhookNotificationBlock(name="refunds", url="http://127.0.0.1:9").asave(
        "refund-cards", overwrite=True
    )
    leads = 'audience = "finance-leads"'
    edit_policy(leads, f'{leads}\nblock = "slack-webhook/nowhere"')
    with pytest.raises(Unwell) as found:
        await prefect_api.card_blocks()
    assert "slack-webhook/nowhere (level leads)" in found.value.seen
    edit_policy(leads, f'{leads}\nblock = "custom-webhook/refund-cards"')
    assert await prefect_api.card_blocks() == "custom-webhook/refund-cards"


async def test_an_order_that_changed_meanwhile_is_asked_about_anew(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request, "approval-1")
    dearer = [{"item_id": "i1", "product_id": "p1", "name": "Other lamp", "price_minor": 250_000}]
    world.change_order(request, items=[item | {"options": {}} for item in dearer])
    with pytest.raises(DigestStale, match="changed since it was assessed: items"):
        await world.refunds.decide(request.refund_id, "approve", person="lea")
    world.assert_nothing_paid(request)
    await world.until_waiting(request, "approval-2")
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_policy_edited_meanwhile_is_applied_and_asked_about_anew(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request, "approval-1")
    edit_policy("USD = 1_000_000", "USD = 150_000")
    with pytest.raises(DigestStale, match="changed since it was assessed: policy_version"):
        await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.until_waiting(request, "approval-2")
    for person in ("lea", "bob"):
        world.assert_nothing_paid(request)
        await world.refunds.decide(request.refund_id, "approve", person=person)
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_an_order_that_changed_after_the_approval_is_not_paid_under_it(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request, "approval-1")
    world.change_order(request, status="cancelled", fulfillments=[])
    # Typed into Prefect's form, nobody compares it until the run does.
    form = {"decision": "approve", "approver": "lea", "reason": ""}
    assert await world.resume(request, form) == "ACCEPT"
    state = await world.end_of(task)
    assert await state.aresult() == "REJECTED"
    assert world.events(request, "approval.superseded")
    world.assert_nothing_paid(request)


async def test_a_charge_that_is_disputed_meanwhile_is_asked_about_anew_and_not_paid(
    world: World,
) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request, "approval-1")
    world.dispute(request)
    with pytest.raises(DigestStale, match="is_disputed: false → true") as stale:
        await world.refunds.decide(request.refund_id, "approve", person="lea")
    assert stale.value.changes == ({"field": "is_disputed", "then": False, "now": True},)
    await world.until_waiting(request, "approval-2")
    with pytest.raises(ChargeDisputed, match="while the bank has not decided"):
        await world.refunds.decide(request.refund_id, "approve", person="lea")
    world.assert_nothing_paid(request)
    world.dispute(request, is_open=False)
    with pytest.raises(DigestStale, match="is_disputed: true → false"):
        await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.until_waiting(request, "approval-3")
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_disputed_charge_goes_to_a_person_though_the_rules_would_pay(world: World) -> None:
    request = world.request()
    world.dispute(request)
    task = await world.start_waiting(request, "approval-2")
    assert any("asks the bank" in reason["text"] for reason in world.row(request)["reasons"])
    # Typed into Prefect's form it is refused as at any other door.
    await world.resume(request, {"decision": "approve", "approver": "lea", "reason": ""})
    await world.until_waiting(request, "approval-2", begun=2)
    world.assert_nothing_paid(request)
    assert "disputed" in await world.form_text(request)
    await _reject(world, request, task)


async def test_what_was_seen_is_what_is_decided(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    with pytest.raises(DigestStale, match="look again"):
        await world.refunds.decide(request.refund_id, "approve", person="lea", digest="0" * 64)
    world.assert_nothing_paid(request)
    await _reject(world, request, task)


@pytest.mark.parametrize("finder", ["the sweep", "a worker"])
async def test_a_decision_whose_wake_up_was_lost_is_found(world: World, finder: str) -> None:
    from refunds.ledger import approvals
    from refunds.ledger.approvals import Vote

    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    vote = Vote(choice="approve", person="lea", channel="cli", verified=True)
    approvals.decide(world.ledger, request.refund_id, vote)
    await (upkeep.recover() if finder == "a worker" else world.sweep())
    await world.end_of(task)
    world.assert_paid_once(request)


def _cards(world: World, request: RefundRequest) -> list[str]:
    return [step for step in world.steps(request) if step.startswith("send_card")]


async def _reject(world: World, request: RefundRequest, task: "asyncio.Task[object]") -> None:
    """A refund that is not waited for any more is out of the other tests' way."""
    await world.refunds.decide(request.refund_id, "reject", person="cleaner")
    await until(task.done, "the run is over")
