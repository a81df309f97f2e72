"""Each step of a run leaves one event that says what it was given and what it gave."""

import pytest

from refunds.digests import digest
from refunds.ledger import history, journal
from tests.flows.flows_world import World, fault

pytestmark = pytest.mark.anyio

PAID_BY_THE_RULES = [
    "open_refund",
    "load_order",
    "load_after_sale",
    "load_risk",
    "load_policy",
    "ask_opinion",
    "record_assessment",
    "reserve_money",
    "create_return_label",
    "issue_refund",
    "sync_crm",
    "notify_customer",
    "notify_service",
    "write_audit",
]


async def test_each_step_leaves_one_event_in_the_order_of_the_flow(world: World) -> None:
    request = world.request()
    await world.run(request)
    ended = world.events(request, "step.ended")
    assert [event["step"] for event in ended] == PAID_BY_THE_RULES
    by_step = {event["step"]: event for event in ended}
    assert by_step["open_refund"]["key"] is None
    assert by_step["load_risk"]["key"] == f"{request.refund_id}:load_risk:1"
    assert by_step["issue_refund"]["output"]["status"] == "succeeded"
    assert by_step["sync_crm"]["inputs"]["outcome"] == "PAID"
    world.assert_paid_once(request)


async def test_a_value_stands_in_a_history_once(world: World) -> None:
    request = world.request()
    await world.run(request)
    by_step = {event["step"]: event for event in world.events(request, "step.ended")}
    asked = digest(request.plain())
    assert by_step["load_order"]["inputs"]["request"] == {"$same_as": asked}
    # Without earlier after-sale records it is the very case that was loaded with the order.
    case = digest(by_step["load_order"]["output"])
    assert by_step["load_after_sale"]["output"] == {"$same_as": case}
    for step in ("load_risk", "reserve_money", "issue_refund", "write_audit"):
        assert by_step[step]["inputs"]["case"] == {"$same_as": case}


async def test_a_step_that_is_tried_again_says_so_and_ends_once(world: World) -> None:
    request = world.request()
    match = {"refund_id": request.refund_id}
    world.faults(fault("POST /crm/v1/cases", "error_before", times=2, match=match))
    await world.run(request)
    tries = [
        event for event in world.events(request, "step.retried") if event["step"] == "sync_crm"
    ]
    assert [(t["attempt"], t["error"]["kind"]) for t in tries] == [
        (1, "StepUnknown"),
        (2, "StepUnknown"),
    ]
    steps = [event["step"] for event in world.events(request, "step.ended")]
    assert steps.count("sync_crm") == 1


async def test_a_wait_is_the_last_event_of_its_run_and_the_answer_the_first_news_of_the_next(
    world: World,
) -> None:
    request = world.request(200_000)
    task = await world.start_waiting(request)
    await world.refunds.decide(request.refund_id, "approve", person="lea")
    await world.end_of(task)
    events = history.read(world.ledger, request.refund_id)
    runs = _runs([(e["event"], e["data"]) for e in events])
    assert runs[0][-1] == ("record_approval", {"decision": None, "begun": 1})
    assert runs[1][:2] == [
        ("open_refund", {"is_mine": True}),
        ("record_approval", {"decision": "APPROVED", "begun": 0}),
    ]


def _runs(events: list[tuple[str, dict[str, object]]]) -> list[list[tuple[str, object]]]:
    """The steps of each run with what matters of their outputs."""
    runs: list[list[tuple[str, object]]] = []
    for name, data in events:
        if name == "run.took_over":
            runs.append([])
        elif name == journal.ENDED:
            output = data["output"]
            if isinstance(output, dict):
                output = {k: output[k] for k in ("decision", "begun", "is_mine") if k in output}
            runs[-1].append((str(data["step"]), output))
    return runs
