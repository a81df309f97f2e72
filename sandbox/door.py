"""The way of every request: read it, meet its fault, act once per key, answer."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.answers import Answer, Ask, Refused
from sandbox.dialects import Dialect
from sandbox.fault_answers import answer_after_act, answer_without_act
from sandbox.fault_rules import Phase, Rule, Slow, StoredError
from sandbox.faults import Faults
from sandbox.idempotency import KeyReused, Keys, digest_of
from sandbox.store import Store
from sandbox.wire import read_body


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A POST endpoint of one system.

    `act` runs in a transaction and refuses before it writes. `refund_of` says which refund of ours
    an ask is about; it may read, since a void names only what it voids.
    """

    system: str
    dialect: Dialect
    path: str
    parse: Callable[[Request, bytes], object]
    act: Callable[[sqlite3.Connection, Ask, Rule | None], Answer]
    refund_of: Callable[[sqlite3.Connection, Ask], str | None]

    @property
    def name(self) -> str:
        """The endpoint as fault rules name it."""
        return f"POST {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A GET endpoint of one system; `read` sees committed data only."""

    system: str
    dialect: Dialect
    path: str
    read: Callable[[sqlite3.Connection, Ask], Answer]

    @property
    def name(self) -> str:
        """The endpoint as fault rules name it."""
        return f"GET {self.path}"


class Door:
    """Turns endpoints into routes."""

    def __init__(self, store: Store, faults: Faults, keys: Keys) -> None:
        self._store = store
        self._faults = faults
        self._keys = keys
        self._in_use: set[tuple[str, str | None]] = set()

    def effect(self, endpoint: Effect) -> Route:
        """Return the route that acts at most once per key."""

        async def serve(request: Request) -> Response:
            try:
                ask = await _asked(endpoint, request)
                return await self._serve(endpoint, ask)
            except Refused as refusal:
                return refusal.answer.response()

        return Route(endpoint.path, serve, methods=["POST"])

    def reading(self, endpoint: Reading) -> Route:
        """Return the route that only reads."""

        async def serve(request: Request) -> Response:
            try:
                endpoint.dialect.authenticate(request.headers)
                query = dict(request.query_params)
                ask = Ask(
                    endpoint=endpoint.name,
                    system=endpoint.system,
                    path=request.path_params,
                    query=query,
                    body=None,
                    key=None,
                    digest=digest_of(request.url.path.encode(), request.url.query.encode()),
                )
                return await self._read(endpoint, ask)
            except Refused as refusal:
                return refusal.answer.response()

        return Route(endpoint.path, serve, methods=["GET"])

    async def _read(self, endpoint: Reading, ask: Ask) -> Response:
        fault: Rule | None = None
        if self._faults.armed:
            fault = await self._store.write(
                lambda tx: self._faults.take(
                    tx,
                    "arrival",
                    endpoint=ask.endpoint,
                    subject=ask.digest,
                    refund_id=ask.query.get("refund_id"),
                )
            )
        if isinstance(fault, Slow):
            await asyncio.sleep(fault.seconds)
        elif fault is not None and not fault.acts:
            return answer_without_act(endpoint.dialect, fault)
        answer = self._store.read(lambda reader: endpoint.read(reader, ask))
        return answer_after_act(endpoint.dialect, fault, answer)

    async def _serve(self, endpoint: Effect, ask: Ask) -> Response:
        key = ask.key if endpoint.dialect.one_at_a_time else None
        claim = (ask.system, key)
        if key is not None and claim in self._in_use:
            await self._store.write(lambda tx: self._keys.count_arrival(tx, ask.system, key))
            return endpoint.dialect.key_in_use(key).response()
        self._in_use.add(claim)
        try:
            fault, answer = await self._acted(endpoint, ask)
        finally:
            self._in_use.discard(claim)
        if answer is None and fault is not None:
            return answer_without_act(endpoint.dialect, fault)
        assert answer is not None  # noqa: S101  only a fault keeps an ask from being answered
        return answer_after_act(endpoint.dialect, fault, answer)

    async def _acted(self, endpoint: Effect, ask: Ask) -> tuple[Rule | None, Answer | None]:
        fault, answer = await self._store.write(lambda tx: self._arrive(tx, endpoint, ask))
        if isinstance(fault, Slow):
            await asyncio.sleep(fault.seconds)
            answer = await self._store.write(lambda tx: self._act(tx, endpoint, ask))
        return fault, answer

    def _arrive(
        self, tx: sqlite3.Connection, endpoint: Effect, ask: Ask
    ) -> tuple[Rule | None, Answer | None]:
        if ask.key is not None:
            self._keys.count_arrival(tx, ask.system, ask.key)
        fault = self._fault(tx, "arrival", endpoint, ask)
        if fault is not None and not fault.acts:
            return fault, None
        return fault, self._act(tx, endpoint, ask)

    def _act(self, tx: sqlite3.Connection, endpoint: Effect, ask: Ask) -> Answer:
        if ask.key is not None:
            try:
                stored = self._keys.replay(tx, ask.system, ask.key, ask.digest)
            except KeyReused:
                return endpoint.dialect.key_reused(ask.key)
            if stored is not None:
                return stored
        fault = self._fault(tx, "act", endpoint, ask)
        try:
            if isinstance(fault, StoredError):
                raise Refused(endpoint.dialect.trouble(fault.status), final=True)  # noqa: TRY301  one place answers all refusals
            answer = endpoint.act(tx, ask, fault)
        except Refused as refusal:
            if not refusal.final:
                return refusal.answer
            answer = refusal.answer
        if ask.key is not None:
            self._keys.remember(tx, ask.system, ask.key, ask.digest, answer)
        return answer

    def _fault(
        self, tx: sqlite3.Connection, phase: Phase, endpoint: Effect, ask: Ask
    ) -> Rule | None:
        if not self._faults.armed:
            return None
        return self._faults.take(
            tx,
            phase,
            endpoint=ask.endpoint,
            subject=ask.key or ask.digest,
            refund_id=endpoint.refund_of(tx, ask),
        )


async def _asked(endpoint: Effect, request: Request) -> Ask:
    endpoint.dialect.authenticate(request.headers)
    key = endpoint.dialect.key_of(request.headers)
    raw = await read_body(request)
    body = endpoint.parse(request, raw)
    return Ask(
        endpoint=endpoint.name,
        system=endpoint.system,
        path=request.path_params,
        query=dict(request.query_params),
        body=body,
        key=key,
        digest=digest_of(request.url.path.encode(), repr(body).encode()),
    )
