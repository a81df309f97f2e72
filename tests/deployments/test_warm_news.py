"""What a run on a warm worker tells Prefect's server of itself, and when."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Running, Suspended

from deployments import warm_news
from tests.house.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio


class Server:
    """What the server was told of runs, in order; it answers when it is let."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_away = False
        self.answered = threading.Event()

    # Of the run's own client

    async def update_flow_run(self, flow_run_id: UUID, **told: Any) -> None:
        self.told.append({"of": flow_run_id, **told})

    async def set_flow_run_name(self, flow_run_id: UUID, name: str) -> None:
        self.told.append({"of": flow_run_id, "name": name})

    async def set_flow_run_state(self, flow_run_id: UUID, state: Any, *, force: bool) -> str:
        self.told.append(state.name)
        return f"entered {state.name}, {force=}"

    # Of a thread's client

    @contextlib.contextmanager
    def client(self, *, sync_client: bool) -> Iterator[Any]:
        assert sync_client
        yield Sync(self)
        self.answered.set()


class Sync:
    """A client without an event loop."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def update_flow_run(self, flow_run_id: UUID, **told: Any) -> None:
        assert self.server.may_answer.wait(PATIENCE_SECONDS)
        if self.server.is_away:
            self.server.answered.set()
            raise ConnectionError("the server is away")
        self.server.told.append({"of": flow_run_id, **told})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    for name in ("update_flow_run", "set_flow_run_name", "set_flow_run_state"):
        monkeypatch.setattr(PrefectClient, name, _as_method(getattr(made, name)))
    monkeypatch.setattr(warm_news, "get_client", made.client)
    return made


def _as_method(answer: Any) -> Any:
    async def method(client: Any, *arguments: Any, **options: Any) -> Any:
        return await answer(*arguments, **options)

    return method


def _run(version: str | None, retries: int | None) -> FlowRun:
    run = FlowRun(id=uuid4(), flow_id=uuid4(), flow_version=version, name="brisk-heron")
    run.empirical_policy.retries = retries
    return run


class Engine:
    """What Prefect's engine does with a run, in its own words."""

    def __init__(self, run: FlowRun) -> None:
        self.run, self.client = run, object.__new__(PrefectClient)
        warm_news.tell_only_news(run)

    async def begin(self, version: str | None, retries: int, name: str | None = None) -> Any:
        self.run.empirical_policy.retries = retries
        await self.client.update_flow_run(
            flow_run_id=self.run.id,
            flow_version=version,
            empirical_policy=self.run.empirical_policy,
        )
        if name is not None:
            await self.client.set_flow_run_name(flow_run_id=self.run.id, name=name)
        return await self.client.set_flow_run_state(self.run.id, Running(), force=False)


@pytest.mark.parametrize("retries", [0, None])
async def test_what_the_server_knows_of_a_run_is_not_told_again(
    server: Server, retries: int | None
) -> None:
    await Engine(_run("7", retries)).begin("7", 0, "brisk-heron")
    assert server.told == ["Running"]
    assert "news" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("version", ["6", None])
async def test_a_name_and_a_version_are_told_together_beside_the_running_flow(
    server: Server, version: str | None
) -> None:
    engine = Engine(_run(version, 0))
    server.may_answer.clear()
    assert await engine.begin("7", 0, "refund-1") == "entered Running, force=False"
    assert server.told == ["Running"]
    server.may_answer.set()
    assert server.answered.wait(PATIENCE_SECONDS)
    news = {"of": engine.run.id, "flow_version": "7", "name": "refund-1"}
    assert server.told == ["Running", news]


async def test_retries_that_are_news_are_told_before_they_could_be_needed(server: Server) -> None:
    await Engine(_run("7", 0)).begin("7", 2)
    news, running = server.told
    assert (news["flow_version"], news["empirical_policy"].retries) == ("7", 2)
    assert running == "Running"


@pytest.mark.parametrize("method", ["update_flow_run", "set_flow_run_name"])
async def test_another_word_of_the_run_does_not_overtake_its_news(
    server: Server, method: str
) -> None:
    engine = Engine(_run("7", 0))
    server.may_answer.clear()
    await engine.begin("7", 0, "refund-1")
    tell = getattr(engine.client, method)
    waiting = asyncio.create_task(tell(engine.run.id, name="approve?"))
    await asyncio.wait([waiting], timeout=0)
    server.may_answer.set()
    await waiting
    assert [told["name"] for told in server.told[1:]] == ["refund-1", "approve?"]


async def test_a_run_does_not_lie_down_before_its_news_are_told(server: Server) -> None:
    engine = Engine(_run("7", 0))
    server.may_answer.clear()
    await engine.begin("7", 0, "refund-1")
    suspending: Any = engine.client.set_flow_run_state(engine.run.id, Suspended(), force=False)
    waiting = asyncio.create_task(suspending)
    await asyncio.wait([waiting], timeout=0)
    server.may_answer.set()
    await waiting
    assert server.told == ["Running", {"of": engine.run.id, "name": "refund-1"}, "Suspended"]


async def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_news, "_END_SECONDS", 0.01)
    engine = Engine(_run("7", 0))
    server.may_answer.clear()
    await engine.begin("7", 0, "refund-1")
    await engine.client.update_flow_run(engine.run.id, name="approve?")
    assert server.told == ["Running", {"of": engine.run.id, "name": "approve?"}]
    server.may_answer.set()
    assert server.answered.wait(PATIENCE_SECONDS)


async def test_a_run_that_has_begun_is_named_at_once(server: Server) -> None:
    engine = Engine(_run("7", 0))
    await engine.begin("7", 0)
    for name in ("approve?", "brisk-heron"):
        await engine.client.set_flow_run_name(engine.run.id, name)
    assert [told["name"] for told in server.told[1:]] == ["approve?", "brisk-heron"]


async def test_of_another_run_everything_is_told_at_once(server: Server) -> None:
    client, other = Engine(_run("7", 0)).client, _run(None, 0)
    policy = other.empirical_policy
    await client.update_flow_run(other.id, flow_version="7", empirical_policy=policy)
    await client.set_flow_run_name(other.id, "a-part-of-it")
    assert [told["of"] for told in server.told] == [other.id, other.id]


async def test_a_run_goes_on_when_its_news_cannot_be_told(server: Server) -> None:
    engine = Engine(_run("7", 0))
    server.is_away = True
    await engine.begin("7", 0, "refund-1")
    assert server.answered.wait(PATIENCE_SECONDS)
    await engine.client.update_flow_run(engine.run.id, name="approve?")
    assert server.told == ["Running", {"of": engine.run.id, "name": "approve?"}]
