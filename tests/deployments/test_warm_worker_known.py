"""What a worker reads for all of its runs, and what of it a run is told."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Task, flow_engine
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument, Flow, FlowRun, WorkPool, WorkQueue
from prefect.events import related
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from deployments import warm_run, warm_spared, warm_worker_known
from deployments.warm_worker_job import WarmJobConfiguration
from deployments.warm_worker_known import Known
from deployments.warm_worker_launch import Launcher
from refunds.ledger import LedgerStorage, connector
from tasks import books

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


def _worker(server: Server) -> Any:
    template = {"variables": {"env": {"PASSWORD": "xyzzy"}}}
    pool = WorkPool(
        name="refunds", type="warm", base_job_template=template, default_queue_id=uuid4()
    )
    return SimpleNamespace(client=server, work_pool=pool)


@pytest.fixture
def known(server: Server) -> Known:
    return Known(_worker(server))


def _run() -> FlowRun:
    return FlowRun(flow_id=uuid4(), work_queue_id=uuid4())


def test_runs_are_told_what_was_read_once_for_all_of_them(known: Known, server: Server) -> None:
    run = _run()

    async def tell() -> list[dict[str, Any]]:
        await known.read(["secret/missing", BLOCK])
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
        await known.read([BLOCK])
        return await known.handed_to(_run(), [])

    told = str(asyncio.run(tell()))
    assert "plover" not in told
    assert "xyzzy" not in told


def test_what_changed_is_told_when_it_was_read_again(known: Known, server: Server) -> None:
    async def tell() -> dict[str, Any]:
        await known.read([BLOCK])
        server.word = "plugh"
        known.forget()
        await known.read([BLOCK])
        return await known.handed_to(_run(), [BLOCK])

    assert asyncio.run(tell())["blocks"][BLOCK]["data"] == {"value": "plugh"}


def test_blocks_that_cannot_be_read_again_are_not_told(known: Known, server: Server) -> None:
    run = _run()

    async def tell() -> dict[str, Any]:
        await known.read([BLOCK])
        known.forget()
        server.is_away = True
        with pytest.raises(ConnectionError):
            await known.read([BLOCK])
        server.is_away = False
        return await known.handed_to(run, [BLOCK])

    assert asyncio.run(tell())["blocks"] == {}


def test_blocks_of_long_ago_are_not_told(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_worker_known, "_FRESH_SECONDS", 0.0)

    async def tell() -> dict[str, Any]:
        await known.read([BLOCK])
        return await known.handed_to(_run(), [BLOCK])

    assert asyncio.run(tell())["blocks"] == {}


def _started(
    server: Server, monkeypatch: pytest.MonkeyPatch, run: FlowRun, *blocks: str
) -> dict[str, Any]:
    """The payload with which a worker, that has read the blocks, starts a run that wants them."""
    jobs: list[dict[str, Any]] = []
    control: Any = SimpleNamespace(register=lambda _run_id: (1, "token"))

    async def fork(_order: Any, job: dict[str, Any]) -> None:
        jobs.append(job)

    async def start() -> None:
        launcher = Launcher(_worker(server), control)
        monkeypatch.setattr(launcher._templates, "fork", fork)
        await launcher._known.read(blocks)
        await launcher.start(run, None, WarmJobConfiguration(blocks=[*blocks]))

    asyncio.run(start())
    payload: dict[str, Any] = json.loads(json.dumps(jobs[0]["payload"]))
    return payload


def test_what_a_worker_knows_reaches_its_run(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the worker through the job, in which all is JSON, to what Prefect's engine asks for."""
    run = _run()
    payload = _started(server, monkeypatch, run, BLOCK)

    cache = _in_a_process_of_its_own(monkeypatch)
    _spare(payload)
    client: Any = None
    found = SyncPrefectClient.read_block_document_by_name(
        client, name="word", block_type_slug="secret"
    )
    assert found.data == {"value": "plover"}
    assert {key: entry["object"].name for key, (entry, _) in cache.items()} == {
        f"flow.{run.flow_id}": "refund",
        f"work-queue.{run.work_queue_id}": "upkeep",
        "work-pool.refunds": "refunds",
    }


@pytest.mark.parametrize("is_resuming", [True, False])
def test_only_a_run_that_lay_down_passes_over_what_was_done(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, is_resuming: bool
) -> None:
    run = _run()
    run.empirical_policy.resuming = is_resuming
    payload = _started(server, monkeypatch, run)
    _in_a_process_of_its_own(monkeypatch)
    before = Task.__call__
    storage = LedgerStorage(connector=connector("sqlite:///:memory:"))
    monkeypatch.setattr(books, "connect", lambda _: None)
    _spare(payload, result_storage=storage)
    assert (Task.__call__ is not before) == is_resuming


@pytest.mark.parametrize("is_async", [True, False])
def test_only_the_client_of_a_flow_that_is_async_tells_its_news_later(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, is_async: bool
) -> None:
    payload = _started(server, monkeypatch, _run())
    _in_a_process_of_its_own(monkeypatch)
    before = PrefectClient.set_flow_run_name
    _spare(payload, isasync=is_async)
    assert (PrefectClient.set_flow_run_name is not before) == is_async


@pytest.mark.parametrize("error", [ObjectNotFound(ValueError("queue")), ValueError("no JSON")])
def test_a_run_that_cannot_be_told_starts_all_the_same(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(_queue_id: UUID) -> WorkQueue:
        raise error

    monkeypatch.setattr(server, "read_work_queue", fail)
    assert "known" not in _started(server, monkeypatch, _run())


def _spare(
    payload: dict[str, Any], *, result_storage: LedgerStorage | None = None, isasync: bool = True
) -> None:
    """Begin a run of a flow as its process does."""
    flow: Any = SimpleNamespace(result_storage=result_storage, flow_run_name=None, isasync=isasync)
    warm_run._spare_requests(flow, FlowRun.model_validate(payload["flow_run"]), payload)


def _in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a run changes of Prefect ends with its process, here with the test.

    Returns what Prefect's events take for known.
    """
    read_block = "read_block_document_by_name"
    tell = ("update_flow_run", "set_flow_run_name", "set_flow_run_state")
    changed: dict[Any, tuple[str, ...]] = {
        PrefectClient: (read_block, *tell),
        SyncPrefectClient: (read_block,),
        Task: ("__call__",),
        flow_engine: ("observe_flow_run_suspension",),
    }
    for owner, names in changed.items():
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))
    cache: dict[str, Any] = {}
    monkeypatch.setattr(related, "RESOURCE_CACHE", cache)
    monkeypatch.setattr(warm_spared, "RESOURCE_CACHE", cache)
    return cache
