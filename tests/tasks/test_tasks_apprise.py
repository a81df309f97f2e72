"""Notices by Apprise: said once where nothing goes wrong, and never silently lost."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apprise import NotificationManager
from apprise.decorators import notify

from refunds.errors import NeedsAttention, StepUnknown
from refunds.settings import settings
from tests.tasks.tasks_world import MAKING, World


class Channel:
    """What a chat room has heard, and how often it will not answer."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self.deaf = 0

    def take(self, title: str, body: str, address: str) -> bool:
        self.heard.append((title, body, address))
        self.deaf -= 1
        return self.deaf < 0


@pytest.fixture
def channel(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    channel = Channel()

    def take(body: str, title: str, notify_type: str, meta: dict[str, Any], **_: Any) -> bool:
        return channel.take(title, body, meta["url"])

    notify(on="memory")(take)
    addresses = dict.fromkeys(("customer", "service"), "memory://secret@room?to={to}")
    monkeypatch.setenv("REFUNDS_NOTICES_CHANNELS", json.dumps(addresses))
    monkeypatch.setenv("REFUNDS_NOTICES_ADAPTER", "apprise")
    settings.cache_clear()
    yield channel
    NotificationManager().remove("memory")


def test_a_notice_goes_out_once_with_the_refund_named(world: World, channel: Channel) -> None:
    step = MAKING["notify_customer"]
    case, arguments = world.ready(step)
    first = world.perform(step, arguments)
    assert world.perform(step, arguments) == first
    ((title, body, address),) = channel.heard
    assert title
    assert body.endswith(step.key(case))
    assert "ada_1" in address


def test_a_notice_that_may_not_have_gone_out_is_said_again(world: World, channel: Channel) -> None:
    step = MAKING["notify_service"]
    case, arguments = world.ready(step)
    channel.deaf = 1
    world.perform(step, arguments)
    assert len(channel.heard) == 2
    assert world.effect(step.key(case)).state == "succeeded"


def test_a_channel_that_stays_away_is_waited_for(world: World, channel: Channel) -> None:
    step = MAKING["notify_customer"]
    case, arguments = world.ready(step)
    channel.deaf = 9
    with pytest.raises(StepUnknown) as failed:
        world.perform(step, arguments)
    assert "secret" not in str(failed.value)
    assert world.effect(step.key(case)).state == "unknown"


@pytest.mark.parametrize("address", ["nonsense", "bogus://secret@x"])
def test_an_address_that_is_none_is_for_a_person_and_is_not_shown(
    world: World, channel: Channel, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("REFUNDS_NOTICES_CHANNELS", json.dumps({"customer": address}))
    settings.cache_clear()
    _, arguments = world.ready(MAKING["notify_customer"])
    with pytest.raises(NeedsAttention) as failed:
        world.perform(MAKING["notify_customer"], arguments)
    assert "secret" not in str(failed.value)


def test_an_audience_without_an_address_is_for_a_person(
    world: World, channel: Channel, reach: Callable[..., None]
) -> None:
    step = MAKING["send_card"]
    _, arguments = world.ready(step)
    with pytest.raises(NeedsAttention, match="'approver'"):
        world.perform(step, arguments)
    assert channel.heard == []
