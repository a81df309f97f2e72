"""Whatever arrives from Prefect's side of the house, the ledger decides."""

from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flow_engine import run_flow
from prefect.states import Completed, Pending, Running, Scheduled

from flows.refund import refund
from refunds.ledger import requests
from tests.flows.flows_world import World

pytestmark = pytest.mark.anyio

FOR_A_PERSON = 200_000
# From here an approver's identity must have been checked.
FOR_A_CHECKED_PERSON = 500_000
APPROVE = {"decision": "approve", "approver": "lea", "reason": "seen the lamp"}


async def test_an_approval_typed_into_the_resume_form_pays(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    assert await world.resume(request, APPROVE) == "ACCEPT"
    await world.end_of(task)
    world.assert_paid_once(request)
    (decision,) = world.events(request, "decision.recorded")
    assert (decision["person"], decision["channel"], decision["verified"]) == (
        "lea",
        "prefect-ui",
        False,
    )


async def test_a_rejection_typed_into_the_resume_form_ends_it(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    await world.resume(request, APPROVE | {"decision": "reject"})
    await world.end_of(task)
    assert world.outcome(request) == "REJECTED"
    world.assert_nothing_paid(request)


async def test_a_reason_may_be_left_empty_as_on_the_command_line(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    # The Prefect UI leaves an empty field out, and shows nothing where a required one is missing.
    assert await world.resume(request, {"decision": "approve", "approver": "lea"}) == "ACCEPT"
    await world.end_of(task)
    world.assert_paid_once(request)
    (decision,) = world.events(request, "decision.recorded")
    assert decision["reason"] == ""


UNFIT: dict[str, dict[str, Any] | None] = {
    "none": None,
    "empty": {},
    "no decision": {"approver": "lea", "reason": ""},
    "another word": {"decision": "APPROVED", "approver": "lea", "reason": ""},
    "true": {"decision": True, "approver": "lea", "reason": ""},
    "no approver": {"decision": "approve", "reason": ""},
    "nobody": {"decision": "approve", "approver": "", "reason": ""},
    "too long": {"decision": "approve", "approver": "a" * 129, "reason": ""},
    "objects": {"decision": ["approve"], "approver": {"$ne": None}, "reason": "x" * 3_000},
}


async def test_an_answer_that_does_not_fit_the_form_is_not_taken(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    statuses = {name: await world.resume(request, answer) for name, answer in UNFIT.items()}
    assert statuses == dict.fromkeys(UNFIT, "REJECT")
    assert world.events(request, "decision.recorded") == []
    world.assert_nothing_paid(request)
    assert await world.resume(request, APPROVE) == "ACCEPT"
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_an_answer_that_the_ledger_does_not_take_is_asked_again(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    for begun, approver in enumerate((" ", "SAM", "\u200bsam"), start=2):
        await world.resume(request, APPROVE | {"approver": approver})
        await world.until_waiting(request, begun=begun)
        world.assert_nothing_paid(request)
    # Each once, though every answer is read again whenever the run is woken.
    refused = [(e["person"], e["why"]) for e in world.events(request, "decision.refused")]
    assert [person for person, _ in refused] == ["SAM", "\u200bsam"]
    assert all("asked for this refund" in why for _, why in refused)
    form = await world.form_text(request)
    assert "SAM asked for this refund" in form
    assert f"/inbox/{request.refund_id}/timeline) shows what happened" in form
    await world.resume(request, APPROVE)
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_an_answer_that_was_refused_is_not_taken_later_when_nobody_is_looking(
    world: World,
) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    world.dispute(request)
    await world.resume(request, APPROVE)
    await world.until_waiting(request, "approval-2")
    await world.resume(request, APPROVE | {"approver": "bob"})
    await world.until_waiting(request, "approval-2", begun=2)
    assert [e["person"] for e in world.events(request, "decision.refused")] == ["lea", "bob"]
    world.assert_nothing_paid(request)
    await world.refunds.decide(request.refund_id, "reject", person="lea")
    await world.end_of(task)


# What Prefect sees by the parameters' schema, and what only the run sees.
WRONG: dict[str, tuple[bool, dict[str, Any], str]] = {
    "lower case": (True, {"currency": "usd"}, "'usd' is not an ISO 4217 currency code"),
    "another currency": (False, {"currency": "EUR"}, "is in USD, the request in EUR"),
    "a control character": (True, {"reason": "a\x07b"}, "control character U+0007 at position 1"),
    "a line break": (False, {"reason": "broken\n"}, "must be one line with no space"),
    "NUL": (True, {"message": "a\x00b"}, "control character U+0000 at position 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_parameters_that_are_no_refund_are_refused_by_prefect_or_the_run_and_not_stored(
    world: World, wrong: str
) -> None:
    is_seen_by_prefect, changes, said = WRONG[wrong]
    request = world.request(FOR_A_PERSON)
    parameters = {"request": request.plain() | changes}
    async with get_client() as client:
        deployment = await client.read_deployment_by_name("refund/refund")

        async def start(*, enforce: bool) -> str:
            given = {"parameters": parameters, "enforce_parameter_schema": enforce}
            path = f"/deployments/{deployment.id}/create_flow_run"
            return str((await client._client.post(path, json=given)).json()["id"])

        if is_seen_by_prefect:
            with pytest.raises(PrefectHTTPStatusError, match="Validation failed for field"):
                await start(enforce=True)
        # Whoever holds Prefect's password can ask it not to look.
        run = await client.read_flow_run(UUID(await start(enforce=not is_seen_by_prefect)))
    going: Any = run_flow(refund, flow_run=run, return_type="state")
    state = await going
    assert state.is_failed()
    assert said in str(state.message)
    assert not requests.is_known(world.ledger, request.refund_id)
    assert world.acts(request) == []


async def test_a_typed_name_is_not_enough_for_a_large_amount_and_is_told_so(world: World) -> None:
    request = world.request(FOR_A_CHECKED_PERSON)
    task = await world.start_waiting(request)
    await world.resume(request, APPROVE)
    await world.until_waiting(request, begun=2)
    world.assert_nothing_paid(request)
    assert "needs an approver whose identity is checked" in await world.form_text(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.end_of(task)
    world.assert_paid_once(request)


async def test_a_run_that_is_forced_to_go_on_moves_no_money_and_asks_again(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    for begun in (2, 3):
        await world.force(request, Running())
        await world.until_waiting(request, begun=begun)
        world.assert_nothing_paid(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.end_of(task)
    world.assert_paid_once(request)


@pytest.mark.parametrize("state", [Completed(), Scheduled(name="Resuming")], ids=str)
async def test_a_forced_state_of_a_deployed_run_moves_no_money(world: World, state: Any) -> None:
    request = world.request(FOR_A_PERSON)
    await world.refunds.submit([request])
    assert (await world.work(request)).name == "Suspended"
    await world.force(request, state)
    if not state.is_final():
        assert (await world.work(request)).name == "Suspended"
    world.assert_nothing_paid(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    assert (await world.work(request)).is_completed()
    world.assert_paid_once(request)


async def test_a_suspended_run_goes_on_after_its_decision_and_pays_once(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    (submitted,) = await world.refunds.submit([request])
    assert (await world.work(request)).name == "Suspended"
    for _ in range(2):
        await world.refunds.decide(request.refund_id, "approve", person="lea")
    assert (await world.work(request)).is_completed()
    assert world.row(request)["run_id"] == submitted.run_id
    world.assert_paid_once(request)


async def test_a_second_run_of_a_waiting_refund_changes_nothing(world: World) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    state = await world.run(request)
    assert state.name == "AlreadyRunning"
    assert world.row(request)["run_id"] in str(state.message)
    assert not task.done()
    world.assert_nothing_paid(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.end_of(task)
    assert (await world.run(request)).name == "AlreadyConcluded"
    world.assert_paid_once(request)


async def test_a_paused_run_that_was_forced_to_an_end_is_replaced_after_the_decision(
    world: World,
) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    await world.force(request, Completed())
    world.assert_nothing_paid(request)
    before = world.row(request)["run_id"]
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    assert world.row(request)["run_id"] != before
    assert (await world.work(request)).is_completed()
    world.assert_paid_once(request)
    task.cancel()


@pytest.mark.parametrize("state", [Scheduled(), Pending()], ids=str)
async def test_a_paused_run_that_was_forced_into_a_queue_goes_on_after_its_decision(
    world: World, state: Any
) -> None:
    request = world.request(FOR_A_PERSON)
    task = await world.start_waiting(request)
    await world.force(request, state)
    await world.sweep()
    world.assert_nothing_paid(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.end_of(task)
    world.assert_paid_once(request)
