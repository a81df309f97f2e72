"""A card says what was asked, wherever and whenever it is sent again."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prefect.blocks.notifications import AppriseNotificationBlock
from pydantic import SecretStr

from refunds import links
from refunds.authority import Person
from refunds.errors import StepRetryable, SystemUnavailable
from refunds.ledger import history, people
from refunds.policy_file import DEFAULT_POLICY_FILE
from refunds.settings import settings
from tasks import cards, notifier
from tasks.effect import perform
from tests.tasks.listener import Listener
from tests.tasks.messenger import Messenger
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


class AppriseOverJson(AppriseNotificationBlock):
    """Apprise's own way to speak JSON over HTTP."""

    _block_type_slug = "apprise-json"


def person(person_id: str, **fields: Any) -> Person:
    return Person.model_validate({"person_id": person_id, "name": person_id.title()} | fields)


@pytest.fixture
def messenger(monkeypatch: pytest.MonkeyPatch) -> Messenger:
    """What Prefect loads under any name."""
    block = Messenger()

    async def load(_name: str) -> Messenger:
        return block

    monkeypatch.setattr(notifier, "load", load)
    return block


def asked_through_a_block(world: World) -> tuple[Any, Any, Any]:
    _, (case, approval, team) = world.ready(CARD)
    level = team.model_copy(update={"block": "messenger/refunds"})
    return case, approval.model_copy(update={"levels": (level,)}), level


def send(world: World, arguments: tuple[Any, Any, Any]) -> None:
    world.perform(CARD, arguments)


def in_inbox(world: World, case: Any) -> list[str]:
    found = world.client.get("/effects", params={"refund_id": case.refund_id, "limit": 100})
    acts = found.raise_for_status().json()["effects"]
    return [act["key"] for act in acts if act["kind"] == "send_message"]


def test_a_card_through_a_messenger_goes_out_once_with_its_reference_and_link(
    world: World, messenger: Messenger
) -> None:
    arguments = asked_through_a_block(world)
    refund_id = arguments[0].refund_id
    for _ in range(2):
        send(world, arguments)
    (message,) = messenger._messages
    assert f"Reference: {refund_id}:send_card:1:team:block" in message
    assert f"/refunds/{refund_id}/review" in message
    assert in_inbox(world, arguments[0]) == []


@pytest.mark.parametrize("hears", [True, False])
def test_a_card_of_which_nobody_knows_whether_it_went_out_is_not_sent_that_way_again(
    world: World, messenger: Messenger, hears: bool
) -> None:
    arguments = asked_through_a_block(world)
    messenger._hears, messenger._fails = hears, RuntimeError("https://hooks.example.com/secret")
    send(world, arguments)
    messenger._fails = None
    send(world, arguments)
    assert len(messenger._messages) == hears
    effect = world.effect(f"{arguments[0].refund_id}:send_card:1:team:block")
    assert effect.response == {"reference": effect.key, "delivery": "unknown"}
    assert in_inbox(world, arguments[0]) == [f"{arguments[0].refund_id}:send_card:1:team"]
    assert "secret" not in str(history.read(world.ledger, arguments[0].refund_id))


def test_a_card_that_certainly_did_not_go_out_is_in_the_inbox(
    world: World, messenger: Messenger
) -> None:
    arguments = asked_through_a_block(world)
    messenger._hears, messenger._fails = False, ConnectionRefusedError()
    send(world, arguments)
    effect = world.effect(f"{arguments[0].refund_id}:send_card:1:team:block")
    assert (effect.response or {})["delivery"] == "failed"
    assert len(in_inbox(world, arguments[0])) == 1


def test_a_block_that_prefect_does_not_have_sends_the_card_to_the_inbox(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(_name: str) -> None:
        return None

    monkeypatch.setattr(notifier, "load", missing)
    arguments = asked_through_a_block(world)
    send(world, arguments)
    assert len(in_inbox(world, arguments[0])) == 1


def test_a_prefect_that_cannot_be_asked_for_the_block_is_asked_again(
    world: World, messenger: Messenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_name: str) -> None:
        raise SystemUnavailable("prefect", "away")

    arguments = asked_through_a_block(world)
    with monkeypatch.context() as patch:
        patch.setattr(notifier, "load", away)
        with pytest.raises(SystemUnavailable):
            send(world, arguments)
    send(world, arguments)
    assert len(messenger._messages) == 1


def test_a_card_goes_through_apprise_to_whatever_it_speaks_to(world: World) -> None:
    with Listener() as listener:
        apprise = AppriseOverJson(url=SecretStr(listener.url.replace("http://", "json://")))
        arguments = asked_through_a_block(world)
        world.run(perform(cards.notification(arguments[1], arguments[2], apprise)))
    (message,) = listener.received
    assert message["title"].startswith("approve $")
    assert "Reference: " in message["message"]


def test_who_may_answer_and_has_a_contact_gets_a_link_of_their_own(world: World) -> None:
    people.add(world.ledger, person("mia", contact="mia@example.com"), by="root")
    people.add(world.ledger, person("noa"), by="root")
    people.add(world.ledger, person("eve", contact="eve@example.com", limits={"USD": 1}), by="root")
    people.add(world.ledger, person("ada_1", contact="ada@example.com"), by="root")
    people.add(world.ledger, person("zoe", contact="z@example.com", roles=["leads"]), by="root")
    _, (case, approval, team) = world.ready(CARD)
    rules = approval.rules.model_copy(update={"limit_minor": 100_000})
    approval = approval.model_copy(update={"rules": rules})
    for _ in range(2):
        world.perform(CARD, (case, approval, team))
    found = world.client.get("/notices/v1/messages", params={"refund_id": case.refund_id})
    sent = {message["to"]: message["link"] for message in found.json()["messages"]}
    assert set(sent) == {"refund-approvers", "mia@example.com"}
    token = parse_qs(urlsplit(sent["mia@example.com"]).query)["link"][0]
    link = links.read(token, approval.deadline - timedelta(seconds=1))
    assert (link.person, link.refund_id, link.digest) == ("mia", case.refund_id, approval.digest)
    assert token not in str(history.read(world.ledger, case.refund_id))
    people.change(world.ledger, "mia", by="root", contact="elsewhere@example.com")
    world.perform(CARD, (case, approval, team))
