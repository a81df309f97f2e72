"""The whole sandbox as one ASGI application."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox import coupons, crm, logistics, model, notices
from sandbox.answers import Answer, Refused
from sandbox.clock import Clock, system_clock
from sandbox.door import Door, Effect
from sandbox.effects import EFFECTS, Effects
from sandbox.fault_rules import RuleSet
from sandbox.faults import Faults
from sandbox.gateway.books import Books
from sandbox.gateway.disputes import Disputes
from sandbox.gateway.endpoints import endpoints as gateway_endpoints
from sandbox.gateway.events import Events
from sandbox.gateway.settlement import Bank
from sandbox.gateway.webhooks import Deliverer
from sandbox.idempotency import Keys
from sandbox.inbox import inbox_page, index_page
from sandbox.records import error, reader_of
from sandbox.shop.loading import Shop
from sandbox.shop.stats import stats
from sandbox.store import Store
from sandbox.systems import Systems
from sandbox.wire import BODY_LIMIT_BYTES, SHOP_BODY_LIMIT_BYTES, exposing_transport, read_body

# Stripe keeps its keys for a day.
KEY_RETENTION_SECONDS = 86_400
# The embedded world's own, printed here for everybody.
WEBHOOK_SECRET = "whsec_sandbox"  # noqa: S105 - it guards nothing

_parse_rules = reader_of(RuleSet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a sandbox is started with; without `webhook_url` nothing is delivered."""

    home: Path
    webhook_url: str | None = None
    webhook_secret: str = WEBHOOK_SECRET
    key_retention_seconds: int = KEY_RETENTION_SECONDS


class Sandbox:
    """One world: its state on disk, its background work and the application that serves it.

    `bank` is there so that a test with its own clock can settle what is due.
    """

    def __init__(self, settings: Settings, clock: Clock = system_clock) -> None:
        self._store = Store(settings.home)
        self._faults = Faults()
        self._shop = Shop(self._store, clock)
        events = Events(clock, self._faults, deliver=settings.webhook_url is not None)
        books = Books(clock, events)
        effects = Effects(clock)
        self.bank = Bank(self._store, books, clock)
        self._disputes = Disputes(self._store, events, clock)
        self._deliverer = (
            Deliverer(self._store, clock, settings.webhook_url, settings.webhook_secret)
            if settings.webhook_url
            else None
        )
        systems = Systems(clock, effects)
        endpoints = [
            *gateway_endpoints(books, effects),
            *crm.endpoints(systems),
            *coupons.endpoints(systems),
            *logistics.endpoints(systems),
            *notices.endpoints(systems),
            *model.endpoints(clock),
        ]
        self._faults.serve({endpoint.name for endpoint in endpoints})
        self._store.read(self._faults.load)
        door = Door(self._store, self._faults, Keys(clock, settings.key_retention_seconds))
        routes = [
            door.effect(endpoint) if isinstance(endpoint, Effect) else door.reading(endpoint)
            for endpoint in endpoints
        ]
        self.app: ASGIApp = exposing_transport(
            Starlette(
                routes=[*routes, *self._control_routes()],
                lifespan=self._lifespan,
                exception_handlers={HTTPException: _unrouted},
            )
        )

    async def close(self) -> None:
        """Finish what is being written and close the databases."""
        await self._store.close()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        del app
        tasks = [asyncio.create_task(self.bank.run())]
        if self._deliverer is not None:
            tasks.append(asyncio.create_task(self._deliverer.run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()

    def _control_routes(self) -> list[Route]:
        read = self._store.read

        async def load_customers(request: Request) -> Answer:
            body = await read_body(request, SHOP_BODY_LIMIT_BYTES)
            return await self._shop.load_customers(body)

        async def load_orders(request: Request) -> Answer:
            body = await read_body(request, SHOP_BODY_LIMIT_BYTES)
            return await self._shop.load_orders(body)

        async def settle(request: Request) -> Answer:
            return await self.bank.settle(await read_body(request, BODY_LIMIT_BYTES))

        async def dispute(request: Request) -> Answer:
            return await self._disputes.put(await read_body(request, BODY_LIMIT_BYTES))

        async def put_faults(request: Request) -> Answer:
            rules = _parse_rules(await read_body(request, BODY_LIMIT_BYTES))
            return await self._replace_faults(rules)

        async def delete_faults(request: Request) -> Answer:
            del request
            return await self._replace_faults(RuleSet(rules=[]))

        async def effects(request: Request) -> Answer:
            return read(lambda reader: EFFECTS.page(reader, request.query_params))

        async def inbox(request: Request) -> Response:
            return read(lambda reader: inbox_page(reader, request.query_params))

        return [
            _control("GET", "/", _steady(index_page)),
            _control("GET", "/health", _steady(lambda: Answer.of(200, {"status": "ok"}))),
            _control("GET", "/inbox", inbox),
            _control("GET", "/effects", effects),
            _control("GET", "/faults", _steady(lambda: read(self._faults.shown))),
            _control("PUT", "/faults", put_faults),
            _control("DELETE", "/faults", delete_faults),
            _control("PUT", "/gateway/settle", settle),
            _control("PUT", "/gateway/dispute", dispute),
            _control("POST", "/shop/customers", load_customers),
            _control("POST", "/shop/orders", load_orders),
            _control("GET", "/shop/stats", _steady(lambda: read(stats))),
        ]

    async def _replace_faults(self, rules: RuleSet) -> Answer:
        def job(tx: sqlite3.Connection) -> Answer:
            self._faults.replace(tx, rules)
            return self._faults.shown(tx)

        return await self._store.write(job)


Handler = Callable[[Request], Awaitable[Answer | Response]]


def _control(method: str, path: str, handler: Handler) -> Route:
    async def serve(request: Request) -> Response:
        try:
            answer = await handler(request)
        except Refused as refusal:
            answer = refusal.answer
        return answer.response() if isinstance(answer, Answer) else answer

    return Route(path, serve, methods=[method])


def _steady(make: Callable[[], Answer | Response]) -> Handler:
    async def handler(request: Request) -> Answer | Response:
        del request
        return make()

    return handler


async def _unrouted(request: Request, problem: Exception) -> Response:
    del request
    assert isinstance(problem, HTTPException)  # noqa: S101  registered for nothing else
    text = f"{problem.detail}: GET / links what there is."
    code = "method_not_allowed" if problem.status_code == 405 else "not_found"  # noqa: PLR2004  HTTP's own
    answer = error(problem.status_code, code, text)
    return Answer(answer.status, answer.body, problem.headers or {}).response()
