"""What a worker reads for all of its runs, and what of it a run is told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import BlockDocument, Flow, FlowRun, WorkPool, WorkQueue
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from deployments import warm_worker_known
from deployments.warm_worker_known import Known

BLOCK = "secret/word"


class Server:
    """A Prefect client that counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.word = "plover"
        self.is_away = False

    async def read_flow(self, flow_id: UUID) -> Flow:
        self._ask("flow")
        return Flow(id=flow_id, name="refund", labels={})

    async def read_work_queue(self, queue_id: UUID) -> WorkQueue:
        self._ask("queue")
        return WorkQueue(id=queue_id, name="upkeep", work_pool_id=uuid4())

    async def read_block_document_by_name(self, name: str, slug: str) -> BlockDocument:
        self._ask(f"{slug}/{name}")
        if name == "missing":
            raise ObjectNotFound(ValueError(name))
        return BlockDocument(
            name=name,
            data={"value": SecretStr(self.word)},
            block_schema_id=uuid4(),
            block_type_id=uuid4(),
            block_type_name=slug,
        )

    def _ask(self, what: str) -> None:
        if self.is_away:
            raise ConnectionError("away")
        self.asked.append(what)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def known(server: Server) -> Known:
    template = {"variables": {"env": {"PASSWORD": "xyzzy"}}}
    pool = WorkPool(
        name="refunds", type="warm", base_job_template=template, default_queue_id=uuid4()
    )
    worker: Any = SimpleNamespace(client=server, work_pool=pool)
    return Known(worker)


def _run() -> FlowRun:
    return FlowRun(flow_id=uuid4(), work_queue_id=uuid4())


def test_runs_are_told_what_was_read_once_for_all_of_them(known: Known, server: Server) -> None:
    run = _run()

    async def tell() -> list[dict[str, Any]]:
        await known.read_again(["secret/missing", BLOCK])
        return [await known.handed_to(run, [BLOCK]) for _ in range(2)]

    first, second = asyncio.run(tell())
    assert first == second
    assert first["flow"]["name"] == "refund"
    assert first["work_queue"]["name"] == "upkeep"
    assert first["work_pool"]["name"] == "refunds"
    assert [*first["blocks"]] == [BLOCK]
    assert first["blocks"][BLOCK]["data"] == {"value": "plover"}
    assert sorted(server.asked) == ["flow", "queue", "secret/missing", BLOCK]


def test_a_run_is_told_no_password_but_that_of_its_blocks(known: Known) -> None:
    async def tell() -> dict[str, Any]:
        await known.read_again([BLOCK])
        return await known.handed_to(_run(), [])

    told = str(asyncio.run(tell()))
    assert "plover" not in told
    assert "xyzzy" not in told


def test_what_changed_is_told_when_it_was_read_again(known: Known, server: Server) -> None:
    async def tell() -> dict[str, Any]:
        await known.read_again([BLOCK])
        server.word = "plugh"
        await known.read_again([BLOCK])
        return await known.handed_to(_run(), [BLOCK])

    assert asyncio.run(tell())["blocks"][BLOCK]["data"] == {"value": "plugh"}


def test_blocks_that_cannot_be_read_again_are_not_told(known: Known, server: Server) -> None:
    run = _run()

    async def tell() -> dict[str, Any]:
        await known.read_again([BLOCK])
        server.is_away = True
        with pytest.raises(ConnectionError):
            await known.read_again([BLOCK])
        server.is_away = False
        return await known.handed_to(run, [BLOCK])

    assert asyncio.run(tell())["blocks"] == {}


def test_blocks_of_long_ago_are_not_told(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_worker_known, "_FRESH_SECONDS", 0.0)

    async def tell() -> dict[str, Any]:
        await known.read_again([BLOCK])
        return await known.handed_to(_run(), [BLOCK])

    assert asyncio.run(tell())["blocks"] == {}
