"""The real flow, tasks and ledger on the simulation's clock, network, Prefect and processes."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from prefect import Task

import tasks.http
from flows import waiting
from refunds import ledger as ledger_package
from refunds import policy_file
from refunds.ledger import Ledger, engine, leases, policies
from tasks import (
    books,
    cards,
    coupons,
    crm,
    logistics,
    model,
    notices,
    orders,
    payments,
    records,
    risk,
    runs,
    sleepers,
    upkeep,
)
from tasks.batch import (
    assessing,
    batches,
    hearing,
    own_runs,
    paying,
    performing,
    questions,
    reporting,
    reserving,
    sharding,
    telling,
)
from tests.simulation import sim_loop
from tests.simulation.sim_actors import Actor, Process, pause
from tests.simulation.sim_outside import Outside
from tests.simulation.sim_prefect import FakePrefect

_TASK_MODULES = (
    *(cards, coupons, crm, logistics, model, notices),
    *(orders, payments, records, risk, sleepers, upkeep),
    *(assessing, batches, hearing, paying, questions, reporting, reserving, sharding, telling),
)
_WITH_A_LOG = (own_runs, performing, reporting, sharding, sleepers, upkeep)
_POLICY_TEXT = policy_file.DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
_POLICY = policy_file.parse(_POLICY_TEXT, "the default policy")
_SHOP_TABLES = (
    "CREATE TABLE orders (order_id, customer_id, status, currency)",
    "CREATE TABLE order_items (order_id, item_id, name, price_minor, line_no)",
    "CREATE TABLE payments (order_id, type, amount_minor, payment_method_id, charge_id, line_no)",
    "CREATE TABLE payment_methods (payment_method_id, source, customer_id)",
    "CREATE TABLE after_sales (record_id, order_id, kind, status, amount_minor, note)",
    """CREATE TABLE risk_features (
        customer_id, currency, orders_total, orders_cancelled, spent_minor, refunded_minor
    )""",
)


def _memory_engine() -> sa.Engine:
    made = sa.create_engine(
        "sqlite://",
        poolclass=sa.StaticPool,
        connect_args={"check_same_thread": False, "cached_statements": 512},
    )
    return engine._prepared(made)


class Wiring:
    """Databases in memory, and every way out of the engine bent towards the simulation.

    One for all stories: `begin` makes the world new.
    """

    def __init__(self) -> None:
        self.engine, self.shop = _memory_engine(), _memory_engine()
        with self.engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(ledger_package._MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        with self.shop.begin() as connection:
            for table in _SHOP_TABLES:
                connection.exec_driver_sql(table)
        self.driver = _raw(self.engine)
        now = Ledger(self.engine, lambda: datetime.now(UTC))
        policies.remember.__wrapped__(now, _POLICY.full_version, _POLICY_TEXT)
        self._empty = [(each, _copy(each)) for each in (self.engine, self.shop)]
        self.skew: dict[str, timedelta] = {}
        self.processes: dict[str, Process] = {}
        self.actor: Actor | None = None
        self.is_over = False
        self.burst_from = 1_000
        self.unforeseen: list[BaseException] = []
        self.now: datetime
        self.outside: Outside
        self.prefect: FakePrefect

    def begin(self, now: datetime, outside: Outside, prefect: FakePrefect) -> None:
        """An empty ledger, an empty shop, and this outside."""
        for each, empty in self._empty:
            empty.backup(_raw(each))
        self.now, self.outside, self.prefect = now, outside, prefect
        self.skew, self.processes, self.actor, self.is_over = {}, {}, None, False
        self.unforeseen = []

    def step(self, actor: Actor) -> None:
        """Let an actor go on to its next await, as its own process."""
        self.actor = actor
        self.processes[actor.process.place] = actor.process
        books._fences = actor.process.fences
        try:
            actor.step()
        finally:
            self.actor = None

    def clock(self) -> datetime:
        """The time on the host that is asked."""
        if self.actor is None:
            return self.now
        return self.now + self.skew.get(self.actor.process.host, timedelta(0))

    def bury(self, dead: list[Actor]) -> None:
        """Let Python forget killed coroutines; what they do on the way has no effect."""
        self.is_over = True
        for actor in dead:
            with suppress(BaseException):
                actor.work.close()

    # --- What the engine is given ---

    def ledger(self) -> Ledger:
        if self.is_over:
            raise RuntimeError("this process is dead")
        return Ledger(self.engine, self.clock)

    async def call(self, system: str, method: str, path: str, **given: Any) -> Any:
        """As `tasks.http.call`. Whoever is killed while it is on the wire does not stop it."""
        names = ("key", "json", "form", "params")
        request: dict[str, Any] = {"system": system, "method": method, "path": path}
        request |= {name: given.get(name) for name in names}
        fault = self.outside.fault()
        await pause(f"{system}: on its way")
        try:
            answer = self.outside.serve(request, fault)
        finally:
            if method != "GET":
                await pause(f"{system}: answers")
        return answer

    async def to_thread(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        await pause(f"after {getattr(call, '__name__', call)}")
        return result

    def _run_id(self) -> str:
        assert self.actor is not None
        return self.actor.process.run_id

    def _holder(self, run_id: str) -> str:
        assert self.actor is not None
        return f"{run_id}@{self.actor.process.place}"

    def _is_local(self, holder: str) -> bool:
        host = holder.partition("@")[2].split(":")[0]
        return self.actor is not None and host == self.actor.process.host

    def _is_alive(self, holder: str) -> bool:
        return self.processes[holder.partition("@")[2]].is_alive

    def _client(self) -> AbstractAsyncContextManager[Any]:
        return self.prefect.client()

    def _not_foreseen(self, *_: Any) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        self.unforeseen.append(error)

    def turn_by_turn(self, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """What needs an event loop."""
        return sim_loop.turn_by_turn(begin, lambda: self.now, self._later)

    def _later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def _suspend(self, wait_for_input: Any = None, key: str = "") -> None:
        del wait_for_input
        await self.prefect.suspend(self._run_id(), key)

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        """Bend every way out."""
        run = _RunId(self._run_id)
        log = SimpleNamespace(warning=_no_word, exception=self._not_foreseen)
        deployed = SimpleNamespace(flow_run=SimpleNamespace(deployment_id="refund"))
        for owner, name, value in (
            (books, "ledger", self.ledger),
            (books, "shop", lambda: self.shop),
            (books, "policy", lambda: _POLICY),
            (books, "_fences", {}),
            (tasks.http, "call", self.call),
            (asyncio, "to_thread", self.to_thread),
            # There is no event loop, and nothing takes time.
            (asyncio, "timeout", lambda _seconds: nullcontext()),
            (records, "flow_run", run),
            (records, "acreate_markdown_artifact", _nothing),
            (runs, "prefect", self._client),
            (runs, "flow_run", run),
            (
                runs,
                "settings",
                lambda: SimpleNamespace(burst_from=self.burst_from, prefect_api_url=""),
            ),
            # Each process asks for a deployment anew.
            (runs, "_deployments", _Forgetful()),
            (batches, "flow_run", run),
            (own_runs, "_save", _no_form),
            *((module, "get_run_logger", lambda: log) for module in _WITH_A_LOG),
            (waiting, "FlowRunContext", SimpleNamespace(get=lambda: deployed)),
            (waiting, "asuspend_flow_run", self._suspend),
            (leases, "holder_of_this_process", self._holder),
            (leases, "_is_local", self._is_local),
            (leases, "_is_alive", self._is_alive),
        ):
            patch.setattr(owner, name, value)
        for module in _TASK_MODULES:
            for name, found in list(vars(module).items()):
                if isinstance(found, Task):
                    patch.setattr(module, name, Step(found, self))


class _Forgetful(dict[Any, Any]):
    """Holds nothing."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Forget it."""


class _RunId:
    """`prefect.runtime.flow_run`."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    @property
    def id(self) -> str:
        return self._read()


class Step:
    """A task as Prefect runs it: its result is looked up, its failures are tried again."""

    def __init__(self, task: Task[..., Any], wiring: Wiring) -> None:
        self.fn = task.fn
        self._task, self._wiring = task, wiring
        self._parameters = inspect.signature(task.fn)

    async def __call__(self, *given: Any, **named: Any) -> Any:
        task, results = self._task, self._wiring.prefect.results
        key = None
        if task.cache_key_fn is not None:
            context: Any = SimpleNamespace(task=task)
            parameters = self._parameters.bind(*given, **named).arguments
            key = task.cache_key_fn(context, parameters)
            if key in results:
                return results[key]
        result = await self._tried(*given, **named)
        if key is not None:
            # Completed is reported first, then the result is written.
            await pause(f"{task.name}: done, not yet kept")
            results[key] = result
        return result

    async def _tried(self, *given: Any, **named: Any) -> Any:
        for _ in range(self._task.retries):
            try:
                return await self._task.fn(*given, **named)
            except Exception as error:
                may_retry: Any = self._task.retry_condition_fn
                if not may_retry(None, None, SimpleNamespace(data=error)):
                    raise
                self._wiring.now += timedelta(seconds=5)
                await pause(f"{self._task.name}: tries again")
        return await self._task.fn(*given, **named)


def _no_word(*_: Any) -> None:
    """A log nobody reads."""


async def _no_form(*_: Any) -> None:
    """A form nobody sees."""
    await pause("prefect: keeps a form")


async def _nothing(**_: Any) -> None:
    """An artifact nobody reads."""


def _raw(of: sa.Engine) -> sqlite3.Connection:
    with of.connect() as connection:
        found: Any = connection.connection.driver_connection
    return found  # type: ignore[no-any-return]  # the driver's own connection


def _copy(of: sa.Engine) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    _raw(of).backup(copy)
    return copy
