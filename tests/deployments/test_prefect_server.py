"""The server of the embedded stack: checks a schema once, and keeps what it has loaded."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import jsonschema
import pytest
from prefect.utilities.schema_tools import validation

from deployments.prefect_server import KeepsWhatItLoaded, check_schemas_once


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
