"""Whatever goes wrong on the way, each step acts once and the ledger knows how it ended."""

import contextlib
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from refunds.errors import StepRefused, StepUnknown, SystemUnavailable
from refunds.ledger import effects
from sandbox.testing import until
from tests.tasks.tasks_world import MAKING, PAY, STEPS, UNDOING, Step, World, fault

PASSING: dict[str, dict[str, Any]] = {
    "error_before": {},
    "error_after": {},
    "timeout_after": {"seconds": 5},
    "reset_after": {},
    "reset_before": {},
    "rate_limited": {"retry_after_seconds": 0},
    "malformed": {},
    "slow": {"seconds": 0.05},
    "unauthorized": {},
}
# After these the other system has acted, and only our own call does not know it.
ACTED = ("error_after", "timeout_after", "reset_after", "malformed")

every_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
# One of each way that a step is written: the gateway's, a thing that is made, one that is undone.
each_way = pytest.mark.parametrize(
    "step", [PAY, MAKING["sync_crm"], UNDOING["void_coupon"]], ids=["pay", "make", "undo"]
)
each_asking_way = pytest.mark.parametrize("step", [PAY, MAKING["sync_crm"]], ids=["pay", "make"])


@every_step
@pytest.mark.parametrize("kind", PASSING)
def test_a_step_acts_once_through_a_passing_fault(world: World, step: Step, kind: str) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, kind, **PASSING[kind]))
    first = world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "succeeded"
    assert len(world.acts(step.key(case))) == 1
    assert world.perform(step, arguments) == first
    assert len(world.acts(step.key(case))) == 1


@each_asking_way
@pytest.mark.parametrize("kind", ACTED)
def test_an_unknown_ending_is_asked_for_and_not_sent_again(
    world: World, step: Step, kind: str
) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, kind, **PASSING[kind]))
    world.perform(step, arguments)
    (act,) = world.acts(step.key(case))
    assert (act["sends"], world.effect(step.key(case)).sends) == (1, 1)


@each_asking_way
@pytest.mark.parametrize(
    ("kind", "fields"), [("malformed", {}), ("error_before", {}), ("error_before", {"status": 404})]
)
def test_nothing_is_sent_again_while_the_system_cannot_be_asked(
    world: World, step: Step, kind: str, fields: dict[str, Any]
) -> None:
    case, arguments = world.ready(step)
    world.faults(
        fault(step.endpoint, "error_after"), fault(step.listing, kind, times=None, **fields)
    )
    with pytest.raises(StepUnknown):
        world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "unknown"
    assert [act["sends"] for act in world.acts(step.key(case))] == [1]
    world.faults()
    world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "succeeded"
    assert [act["sends"] for act in world.acts(step.key(case))] == [1]


@each_way
def test_an_error_that_is_replayed_stays_unknown_and_nothing_is_done(
    world: World, step: Step
) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, "stored_error"))
    with pytest.raises(StepUnknown):
        world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "unknown"
    assert world.acts(step.key(case)) == []


@each_way
def test_a_system_that_stays_away_is_asked_under_one_key_until_it_is_back(
    world: World, step: Step
) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, "error_before", times=None, status=503))
    with pytest.raises(StepUnknown):
        world.perform(step, arguments)
    assert world.effect(step.key(case)).sends == 1 + step.task.retries
    world.faults()
    world.perform(step, arguments)
    assert len(world.acts(step.key(case))) == 1


@each_way
@pytest.mark.parametrize("kind", ["unauthorized", "rate_limited"])
def test_a_system_that_did_nothing_is_unavailable_and_not_unknown(
    world: World, step: Step, kind: str
) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, kind, times=None, **PASSING[kind]))
    with pytest.raises(SystemUnavailable):
        world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "intended"
    assert world.acts(step.key(case)) == []


@each_way
def test_a_step_that_may_have_acted_stays_unknown_when_it_is_not_let_in_later(
    world: World, step: Step
) -> None:
    case, arguments = world.ready(step)
    world.faults(
        fault(step.endpoint, "error_before"), fault(step.endpoint, "unauthorized", times=None)
    )
    with pytest.raises(SystemUnavailable):
        world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "unknown"


@pytest.mark.parametrize(
    "step", [*MAKING.values(), *UNDOING.values()], ids=[*map(str, MAKING), *map(str, UNDOING)]
)
def test_a_refusal_is_final_and_is_not_sent_again(world: World, step: Step) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, "error_before", status=422))
    for _ in range(2):
        with pytest.raises(StepRefused, match="422"):
            world.perform(step, arguments)
    effect = world.effect(step.key(case))
    assert (effect.state, effect.sends) == ("refused", 1)
    assert world.acts(step.key(case)) == []


@pytest.mark.parametrize("step", UNDOING.values(), ids=UNDOING)
def test_undoing_what_was_undone_is_a_success(world: World, step: Step) -> None:
    case, arguments = world.ready(step)
    receipt = world.perform(step, arguments)
    assert receipt.key == step.key(case)
    assert world.perform(step, arguments) == receipt
    assert len(world.acts(step.key(case))) == 1


@pytest.mark.parametrize("step", MAKING.values(), ids=MAKING)
def test_a_pause_longer_than_a_step_may_take_ends_the_attempt(world: World, step: Step) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, "rate_limited", times=None, retry_after_seconds=600))
    with pytest.raises(SystemUnavailable, match="429"):
        world.perform(step, arguments)
    assert world.acts(step.key(case)) == []


@each_asking_way
def test_a_send_that_acts_after_we_gave_up_is_found_and_not_doubled(
    world: World, step: Step
) -> None:
    case, arguments = world.ready(step)
    world.faults(fault(step.endpoint, "slow", seconds=1))

    def is_done() -> bool:
        with contextlib.suppress(StepUnknown):
            world.perform(step, arguments)
        return world.effect(step.key(case)).state == "succeeded"

    until(is_done)
    assert len(world.acts(step.key(case))) == 1


@each_asking_way
def test_what_the_ledger_could_not_write_down_is_not_done_and_is_found_not_doubled(
    world: World, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("UPDATE effects", {}, ConnectionError("the ledger is away"))

    case, arguments = world.ready(step)
    with monkeypatch.context() as patch:
        patch.setattr(effects, "record", away)
        with pytest.raises(OperationalError):
            world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "intended"
    assert len(world.acts(step.key(case))) == 1
    world.perform(step, arguments)
    assert world.effect(step.key(case)).state == "succeeded"
    assert [act["sends"] for act in world.acts(step.key(case))] == [1]
