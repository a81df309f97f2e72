"""The server of the embedded stack: checks a schema once, and keeps what it has loaded."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.database import Timestamp
from prefect.utilities.schema_tools import validation
from sqlalchemy import Dialect, make_url

from deployments.prefect_server import (
    KeepsWhatItLoaded,
    check_schemas_once,
    give_databases_plain_times,
    read_events_once,
)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The schemas that were really checked."""
    validator: Any = validation._VALIDATOR
    check, seen = validator.check_schema, list[Any]()

    def check_and_note(schema: Any, *arguments: Any, **options: Any) -> None:
        seen.append(schema)
        check(schema, *arguments, **options)

    monkeypatch.setattr(validator, "check_schema", check_and_note)
    check_schemas_once()
    return seen


def test_a_schema_is_checked_once_and_what_it_is_for_each_time(checked: list[Any]) -> None:
    schema: Any = {"type": "object", "properties": {"amount": {"type": "integer"}}}
    for amount in (1, 2):
        assert validation.validate({"amount": amount}, schema, raise_on_error=True) == []
    with pytest.raises(validation.ValidationError, match="amount"):
        validation.validate({"amount": "much"}, {**schema}, raise_on_error=True)
    assert len(checked) == 1


def test_another_schema_is_checked_too(checked: list[Any]) -> None:
    for kind in ("integer", "string"):
        validation.is_valid_schema({"type": "object", "properties": {"amount": {"type": kind}}})
    assert len(checked) == 2


def test_what_is_no_schema_is_none_however_often_it_is_shown(checked: list[Any]) -> None:
    wrong: Any = {"type": "object", "properties": {"amount": {"type": "money"}}}
    for _ in range(2):
        with pytest.raises((ValueError, jsonschema.SchemaError)):
            validation.is_valid_schema(wrong)
    assert len(checked) == 2


def test_what_a_server_loads_for_its_start_is_not_looked_through_again() -> None:
    sent = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": f"{scope['type']}.startup.complete"})

    async def receive() -> Any:
        return {}

    async def send(message: Any) -> None:
        sent.append((message["type"], gc.get_freeze_count() > 0))

    async def serve(kind: str) -> None:
        await KeepsWhatItLoaded(application)({"type": kind}, receive, send)

    assert gc.get_freeze_count() == 0
    try:
        asyncio.run(serve("http"))
        asyncio.run(serve("lifespan"))
    finally:
        gc.unfreeze()
    assert sent == [("http.startup.complete", False), ("lifespan.startup.complete", True)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The texts that events were really read from."""
    read: Any = ReceivedEvent.model_validate_json
    seen: list[Any] = []

    def read_and_note(kind: Any, /, json_data: Any, **options: Any) -> Any:
        seen.append(json_data)
        return read.__func__(kind, json_data, **options)

    monkeypatch.setattr(ReceivedEvent, "model_validate_json", classmethod(read_and_note))
    read_events_once()
    return seen


def _event(name: str) -> bytes:
    resource = {"prefect.resource.id": "refund.1"}
    event = ReceivedEvent(occurred=datetime.now(UTC), event=name, resource=resource, id=uuid4())
    return event.model_dump_json().encode()


def test_an_event_is_read_once_and_each_reader_may_change_theirs(read: list[Any]) -> None:
    text = _event("paid")
    one, other = (ReceivedEvent.model_validate_json(text) for _ in range(2))
    one.event = "changed"
    assert (other.event, other.resource.id) == ("paid", "refund.1")
    assert ReceivedEvent.model_validate_json(_event("paid")).id != other.id
    assert len(read) == 2


def test_what_is_read_in_another_way_is_read_each_time(read: list[Any]) -> None:
    class Special(ReceivedEvent):
        pass

    text = _event("paid")
    for _ in range(2):
        assert type(Special.model_validate_json(text)) is Special
        assert ReceivedEvent.model_validate_json(bytearray(text)).event == "paid"
        assert ReceivedEvent.model_validate_json(text, strict=False).event == "paid"
        assert ReceivedEvent.model_validate_json(json_data=text.decode()).event == "paid"
    assert len(read) == 7


def test_what_is_no_event_is_none_however_often_it_is_read(read: list[Any]) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="occurred"):
            ReceivedEvent.model_validate_json(b"{}")
    assert len(read) == 2


class Elaborate(datetime):
    """A time as Prefect's library has it: what Python's does, in a class of its own."""


def _dialect(url: str) -> Dialect:
    return make_url(url).get_dialect()()


@pytest.fixture
def _plain_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timestamp, "process_bind_param", Timestamp.process_bind_param)
    give_databases_plain_times()


@pytest.mark.usefixtures("_plain_times")
@pytest.mark.parametrize(
    "dialect", [_dialect("postgresql+asyncpg://"), _dialect("sqlite+aiosqlite://")]
)
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-9, minutes=-30))])
@pytest.mark.parametrize("kind", [datetime, Elaborate])
def test_a_database_is_given_a_plain_time_of_the_same_moment(
    dialect: Dialect, zone: timezone, kind: type[datetime]
) -> None:
    moment = kind(2026, 3, 29, 2, 30, 1, 999_999, zone)
    bound = Timestamp().process_bind_param(moment, dialect)
    assert type(bound) is datetime
    assert bound == moment


@pytest.mark.usefixtures("_plain_times")
def test_a_time_without_a_zone_is_still_refused_and_none_is_still_none() -> None:
    dialect = _dialect("postgresql+asyncpg://")
    assert Timestamp().process_bind_param(None, dialect) is None
    with pytest.raises(ValueError, match="timezone"):
        Timestamp().process_bind_param(Elaborate(2026, 3, 29), dialect)
