"""What a run on a warm worker is spared: a watch it does not live to need, blocks it is given."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow_engine
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument

from deployments import warm_spared
from tests.house.patience import PATIENCE_SECONDS


class Watch:
    """Prefect's watch for a suspension, which connects when it is let."""

    def __init__(self) -> None:
        self.may_connect, self.connected, self.ended = (threading.Event() for _ in range(3))
        self.watched: tuple[Any, ...] = ()

    @contextmanager
    def __call__(self, *arguments: Any) -> Iterator[None]:
        self.watched = arguments
        assert self.may_connect.wait(PATIENCE_SECONDS)
        self.connected.set()
        yield
        self.ended.set()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch()
    monkeypatch.setattr(flow_engine, "observe_flow_run_suspension", made)
    warm_spared.watch_for_suspension_beside()
    return made


def engine() -> Any:
    """Prefect's module, in which its watch is a name of its own."""
    return flow_engine


def test_a_run_does_not_wait_for_its_watch_and_is_watched_to_its_end(watch: Watch) -> None:
    run_id = uuid4()
    with engine().observe_flow_run_suspension(run_id, Any):
        assert not watch.connected.is_set()
        watch.may_connect.set()
        assert watch.connected.wait(PATIENCE_SECONDS)
        assert not watch.ended.is_set()
    assert watch.ended.is_set()
    assert watch.watched == (run_id, Any)


def test_a_watch_that_comes_too_late_ends_at_once(watch: Watch) -> None:
    with engine().observe_flow_run_suspension(uuid4(), Any):
        watch.may_connect.set()
    assert watch.ended.is_set()
    assert "watch" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The blocks that the server was asked for."""
    blocks: list[str] = []

    def read(client: Any, name: str, block_type_slug: str, **options: Any) -> BlockDocument:
        blocks.append(f"{block_type_slug}/{name}")
        return _block("theirs")

    async def read_async(*arguments: Any, **options: Any) -> BlockDocument:
        return read(*arguments, **options)

    monkeypatch.setattr(SyncPrefectClient, "read_block_document_by_name", read)
    monkeypatch.setattr(PrefectClient, "read_block_document_by_name", read_async)
    return blocks


def _block(value: str) -> BlockDocument:
    return BlockDocument(
        name="word", data={"value": value}, block_schema_id=uuid4(), block_type_id=uuid4()
    )


def _load(slug: str) -> Any:
    client: Any = None
    return SyncPrefectClient.read_block_document_by_name(client, name="word", block_type_slug=slug)


async def _load_async(slug: str) -> Any:
    client: Any = None
    read: Any = PrefectClient.read_block_document_by_name
    return await read(client, name="word", block_type_slug=slug, include_secrets=True)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_block_is_loaded_once_as_the_worker_has_read_it(
    asked: list[str], *, is_async: bool
) -> None:
    warm_spared.take_blocks({"secret/word": _block("ours").model_dump(mode="json")})

    def load(slug: str) -> str:
        found = asyncio.run(_load_async(slug)) if is_async else _load(slug)
        return str(found.data["value"])

    assert [load("json"), load("secret"), load("secret")] == ["theirs", "ours", "theirs"]
    assert asked == ["json/word", "secret/word"]
