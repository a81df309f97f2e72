"""Who is asked by a batch is asked as by the single chain, and a model is heard once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
import sqlalchemy as sa
from prefect._internal.result_records import ResultRecord
from prefect.context import TaskRunContext

from refunds.authority import Person
from refunds.ledger import approvals, effects, people, schema
from refunds.models import Case, RefundRequest
from refunds.policy_file import DEFAULT_POLICY_FILE
from refunds.settings import settings
from tasks import cards, notifier, steps
from tasks.json_systems import receipt
from tests.batch.batch_world import World
from tests.tasks.messenger import Messenger
from tests.tasks.model_server import ModelServer, Said, asked_by_us


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model that approves of everything."""
    with asked_by_us(monkeypatch) as server:
        yield server


def keys_of(world: World, requests: list[RefundRequest]) -> set[str]:
    """What was done for these, without their ids."""
    ids = {request.refund_id for request in requests}
    return {act["key"].partition(":")[2] for act in world.acts() if act["refund_id"] in ids}


def test_approvers_with_a_contact_get_a_link_of_their_own_from_a_batch_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_a_contact(world, monkeypatch)
    together = world.requests(2, "link", goodwill_minor=9_000)
    prefect_runs = world.carry(world.take_together(together))
    assert world.states() == {"awaiting_approval": 2}
    assert len(prefect_runs.created) == 2
    singly = world.requests(1, "lonk", goodwill_minor=9_000)
    world.carry_singly(singly)
    assert keys_of(world, together) == keys_of(world, singly)
    assert len(keys_of(world, together)) == 2
    [letter] = [
        act["request"]
        for act in world.acts()
        if act["refund_id"] == "link_00001" and act["request"]["to"] == "ann@example.com"
    ]
    assert "link=" in letter["link"]
    assert world.broken() == []


def test_a_levels_messenger_gets_a_batchs_question_once_and_the_inbox_where_it_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    messenger = _with_a_messenger(monkeypatch)
    told = world.requests(2, "told", goodwill_minor=9_000)
    batch_id = world.take_together(told)
    world.carry(batch_id)
    assert len(messenger._messages) == 2
    assert keys_of(world, told) == set()

    messenger._fails = ConnectionRefusedError()
    failed = world.requests(1, "fell", goodwill_minor=9_000)
    world.carry(world.take_together(failed))
    assert keys_of(world, failed) == {"send_card:1:team"}
    assert world.states() == {"awaiting_approval": 3}
    assert world.broken() == []


@pytest.mark.parametrize("to", ["the inbox", "a person too", "a messenger"])
def test_a_persons_run_finds_by_the_steps_own_key_the_card_that_its_batch_sent(
    world: World, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    if to == "a person too":
        _with_a_contact(world, monkeypatch)
    if to == "a messenger":
        _with_a_messenger(monkeypatch)
    [request] = world.requests(1, "card", goodwill_minor=9_000)
    world.carry(world.take_together([request]))
    asked = approvals.asked(world.ledger, request.refund_id, 1)
    assert asked is not None
    step = cast("TaskRunContext", SimpleNamespace(task=cards.send_card))
    case = Case(request=request, round=1, order=None)
    key = steps.by_round_and_level(step, {"case": case, "level": asked.levels[0]})
    with world.ledger.reading() as connection:
        query = sa.select(schema.results.c.content).where(schema.results.c.key == key)
        stored = connection.execute(query).scalar_one()
    sent = effects.read(world.ledger, f"{key}:block" if to == "a messenger" else key)
    assert sent is not None
    assert ResultRecord.deserialize(stored).result == receipt(sent)


def test_what_a_model_said_is_heard_though_it_is_switched_off_meanwhile(
    world: World, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behave = lambda _: Said.answer(recommendation="review", reasons=["Odd."])
    wanted = world.requests(2, "said", message="It is too large for my table.")
    batch_id = world.take_together(wanted)
    # The process dies after the answers and before the verdicts.
    with monkeypatch.context() as patch:
        patch.setattr("flows.batch.assess", _die)
        with pytest.raises(ExceptionGroup, match="TaskGroup"):
            world.carry(batch_id)
    assert len(server.asked) == 2

    monkeypatch.delenv("REFUNDS_MODEL_URL")
    settings.cache_clear()
    world.carry(batch_id)
    assert len(server.asked) == 2
    assert world.states() == {"awaiting_approval": 2}
    reasons = [reason["text"] for reason in world.row("said_00001")["reasons"]]
    assert any("Odd." in reason for reason in reasons), reasons
    assert world.broken() == []


def _with_a_contact(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ann is told of each question, with a link of her own."""
    monkeypatch.setenv("REFUNDS_LINK_SECRET", "a secret of at least thirty-two characters")
    settings.cache_clear()
    ann = Person(
        person_id="ann", name="Ann", roles=("refund-approvers",), contact="ann@example.com"
    )
    people.add(world.ledger, ann, by="admin")


def _with_a_messenger(monkeypatch: pytest.MonkeyPatch) -> Messenger:
    """The first level has a messenger."""
    messenger = Messenger()

    async def load(_name: str) -> Messenger:
        return messenger

    monkeypatch.setattr(notifier, "load", load)
    rules = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
    first = 'audience = "refund-approvers"\n'
    assert first in rules
    mine = settings().home_dir / "policy.toml"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text(rules.replace(first, f'{first}block = "messenger/team"\n', 1))
    return messenger


def _die(_: object) -> None:
    raise ConnectionResetError
