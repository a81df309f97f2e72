"""A server whose database was busy tries again itself, as often as is worth it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments import busy_database
from deployments.busy_database import TriesAgain

pytestmark = pytest.mark.anyio


def busy() -> OperationalError:
    """SQLite's refusal, as the server meets it."""
    refusal = sqlite3.OperationalError("database is locked")
    refusal.sqlite_errorname = "SQLITE_BUSY_SNAPSHOT"
    return OperationalError("INSERT", {}, refusal)


class World:
    """A server that is busy so many times, as Prefect's says it: answered, and raised."""

    def __init__(self, busy_times: int, error: Exception | None = None) -> None:
        self.left = busy_times
        self.error = error or busy()
        self.seen: list[bytes] = []

    async def serve(self, request: Request) -> Response:
        self.seen.append(await request.body())
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return Response(self.seen[-1], status_code=201, headers={"x-tries": str(len(self.seen))})

    async def post(self, body: bytes | AsyncIterator[bytes]) -> httpx.Response:
        application = Starlette(
            routes=[Route("/", self.serve, methods=["POST"])],
            exception_handlers={Exception: _unavailable},
        )
        transport = httpx.ASGITransport(TriesAgain(application), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post("/", content=body)


async def _unavailable(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"exception_message": "Service Unavailable"}, status_code=503)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_database, "_PAUSES_SECONDS", (0.0, 0.0))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("busy_times", [0, 1, 2])
async def test_the_whole_request_is_told_again(busy_times: int) -> None:
    world = World(busy_times)
    answer = await world.post(b"a body")
    assert (answer.status_code, answer.content) == (201, b"a body")
    assert answer.headers["x-tries"] == str(busy_times + 1)


async def test_in_the_end_the_client_is_told() -> None:
    world = World(busy_times=9)
    answer = await world.post(b"")
    assert answer.status_code == 503
    assert answer.json() == {"exception_message": "Service Unavailable"}
    assert len(world.seen) == 3


async def test_what_else_makes_the_server_unavailable_is_the_clients_to_try_again() -> None:
    world = World(9, OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error")))
    assert (await world.post(b"")).status_code == 503
    assert len(world.seen) == 1


async def test_a_client_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_database, "_MOST_SECONDS", -1.0)
    world = World(9)
    assert (await world.post(b"")).status_code == 503
    assert len(world.seen) == 1


async def test_a_large_request_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_database, "_MOST_BYTES", 1)

    async def body() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two", b"three"):
            yield piece

    world = World(9)
    assert (await world.post(body())).status_code == 503
    assert world.seen == [b"onetwothree"]


async def test_another_error_is_told_and_raised_at_once() -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise ZeroDivisionError

    transport = httpx.ASGITransport(TriesAgain(broken))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/")


async def test_a_websocket_is_left_alone() -> None:
    seen: list[str] = []

    async def application(scope: busy_database.Message, _receive: object, _send: object) -> None:
        seen.append(scope["type"])

    async def none() -> busy_database.Message:
        raise AssertionError

    async def nowhere(_message: busy_database.Message) -> None:
        raise AssertionError

    await TriesAgain(application)({"type": "websocket"}, none, nowhere)
    assert seen == ["websocket"]
