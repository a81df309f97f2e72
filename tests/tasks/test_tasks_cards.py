"""A card says what was asked, wherever and whenever it is sent again."""

from pathlib import Path

import pytest

from refunds.errors import StepRetryable
from refunds.policy_file import DEFAULT_POLICY_FILE
from refunds.settings import settings
from tasks import cards
from tests.tasks.tasks_world import MAKING, World, fault

CARD = MAKING["send_card"]


def lost(world: World) -> None:
    """The next card goes out, and its answer is lost."""
    world.faults(fault(CARD.endpoint, "timeout_after", seconds=1))


def test_a_card_of_a_refund_whose_run_was_replaced_is_the_same_card(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, arguments = world.ready(CARD)
    lost(world)
    for run_id in ("run-1", "run-2"):
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run_id)
        if run_id == "run-1":
            with pytest.raises(StepRetryable):
                world.run(CARD.task.fn(*arguments))
        else:
            world.perform(CARD, arguments)
    (act,) = world.acts(CARD.key(case))
    assert act["request"]["link"] == f"{settings().service_url}/refunds/{case.refund_id}/review"


def test_a_policy_edited_between_two_sends_does_not_change_who_is_asked(world: World) -> None:
    case, arguments = world.ready(CARD)
    lost(world)
    with pytest.raises(StepRetryable):
        world.run(CARD.task.fn(*arguments))
    edited = DEFAULT_POLICY_FILE.read_text().replace('"refund-approvers"', '"somebody-else"')
    mine: Path = settings().home_dir / "policy.toml"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text(edited)
    world.perform(CARD, arguments)
    assert len(world.acts(CARD.key(case))) == 1


def test_a_service_that_moved_between_two_sends_does_not_change_the_card(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, arguments = world.ready(CARD)
    world.faults(fault(CARD.endpoint, "error_before", status=503))
    with pytest.raises(StepRetryable):
        world.run(CARD.task.fn(*arguments))
    monkeypatch.setenv("REFUNDS_PUBLIC_URL", "https://refunds.example.com")
    settings.cache_clear()
    world.perform(CARD, arguments)
    (act,) = world.acts(CARD.key(case))
    assert act["request"]["link"].startswith("https://refunds.example.com/refunds/")


def test_a_card_goes_to_the_level_that_is_asked(world: World) -> None:
    _, (case, approval, team) = world.ready(CARD)
    leads = team.model_copy(update={"name": "leads", "audience": "finance-leads"})
    for level in (team, leads):
        world.run(cards.send_card.fn(case, approval, level))
    sent = [world.acts(f"{case.refund_id}:send_card:1:{level}")[0] for level in (team, leads)]
    assert [act["request"]["to"] for act in sent] == ["refund-approvers", "finance-leads"]
