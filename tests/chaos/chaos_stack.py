"""The embedded stack on a PostgreSQL ledger, to be killed in parts or as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psutil
import psycopg

from refunds.api import AsyncRefunds
from refunds.errors import DigestStale
from refunds.ledger import Ledger, batches, requests, schema, waits
from refunds.ledger.engine import dispose_engines
from refunds.settings import settings
from refunds.verify import verify
from sandbox.testing import customer_record, order_record
from tasks import books, runs
from tests.browser.stack import Stack
from tests.house.patience import PATIENCE_SECONDS

# Watching costs the stack something: ten looks a second find a process within its hold.
_LOOK_SECONDS = 0.1


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for a condition to hold and return its value; fail after the patience."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError, psycopg.OperationalError):
            if found := condition():
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so: {what}")
        time.sleep(_LOOK_SECONDS)


class ChaosStack(Stack):
    """A stack, this process as one of its front doors, and the ways to kill it."""

    def __init__(self, home: Path, port: int, ledger_url: str) -> None:
        super().__init__(home, port)
        self.ledger_url = ledger_url
        self.environment["REFUNDS_LEDGER_URL"] = ledger_url
        # A wave decides many at once, and each cell is about its refund's own run.
        self.environment["REFUNDS_BURST_FROM"] = "1000"
        self.sandbox = httpx.Client(base_url=self.sandbox_url, timeout=20)

    @contextlib.contextmanager
    def running(self) -> Iterator[ChaosStack]:
        """Up, and down afterwards."""
        try:
            self.up()
            yield self
        finally:
            self.sandbox.close()
            self.down()

    @contextlib.contextmanager
    def entered(self) -> Iterator[ChaosStack]:
        """This process is one of the stack's front doors."""
        ours = {
            name: value for name, value in self.environment.items() if name.startswith("REFUNDS_")
        }
        with mock.patch.dict(os.environ, ours):
            settings.cache_clear()
            books._engine.cache_clear()
            yield self
            dispose_engines()
            books._engine.cache_clear()
        settings.cache_clear()

    @property
    def ledger(self) -> Ledger:
        return books.ledger()

    def do(self, call: Callable[[AsyncRefunds], Coroutine[Any, Any, Any]]) -> Any:
        """Do something as a front door does."""
        return asyncio.run(call(AsyncRefunds()))

    # --- Refunds ---

    def take(self, refund_id: str, *, paid_minor: int = 10_000) -> None:
        """Submit a refund of a new order; above 100,000 a person has to approve."""
        self.take_together({refund_id: paid_minor})

    def take_together(self, paid_minor: dict[str, int]) -> None:
        """Submit refunds with one call, each of a new order; ten and more are one batch."""
        wanted = [_request(*each) for each in paid_minor.items()]
        self._sell(wanted)
        self.do(lambda refunds: refunds.submit(wanted))

    def take_one_by_one(self, refund_ids: list[str]) -> None:
        """Submit many refunds with a call each: each has a run of its own."""
        wanted = [_request(refund_id, 10_000) for refund_id in refund_ids]
        self._sell(wanted)

        async def submit(refunds: AsyncRefunds) -> None:
            for request in wanted:
                await refunds.submit([request])

        self.do(submit)

    def _sell(self, wanted: list[dict[str, Any]]) -> None:
        orders = [_order(request) for request in wanted]
        customers = [customer_record(order["customer_id"]) for order in orders]
        for kind, records in (("customers", customers), ("orders", orders)):
            self.sandbox.post(f"/shop/{kind}", json=records).raise_for_status()

    def approve(self, refund_id: str) -> None:
        """A person approves; facts that changed meanwhile are put to them anew."""
        with contextlib.suppress(DigestStale):
            self.do(lambda refunds: refunds.decide(refund_id, "approve", person="mia"))

    def row(self, refund_id: str) -> dict[str, Any]:
        """The refund's row."""
        return requests.read(self.ledger, refund_id)

    def waits_for(self, refund_id: str, name: str) -> bool:
        """Whether the refund is in an open wait of that kind."""
        found = waits.open_waits(self.ledger, refund_id)
        return any(w["name"].startswith(name) and w["ended_at"] is None for w in found)

    def acts(self, refund_id: str) -> list[str]:
        """The keys under which the outside world acted, each as often as it did."""
        params: dict[str, Any] = {"refund_id": refund_id, "limit": 1_000}
        # It may be the one that was killed, and all was done before.
        answer = until(lambda: self.sandbox.get("/effects", params=params), "the world answers")
        listed = answer.raise_for_status().json()["effects"]
        return [act["key"] for act in listed]

    def faults(self, rules: list[dict[str, Any]]) -> None:
        """Switch these faults on, and all others off."""
        self.sandbox.put("/faults", json={"rules": rules}).raise_for_status()

    def problems(self) -> list[str]:
        """What `refunds verify` finds."""
        return asyncio.run(verify()).problems

    # --- Processes ---

    def pid(self, role: str) -> int:
        """The process of a role."""
        found: int = json.loads((self.home / "up.json").read_text())["pids"][role]
        return found

    def pid_of_run(self, refund_id: str) -> int | None:
        """The process that holds the refund's lease."""
        return _pid_of(self.row(refund_id)["lease_holder"])

    def pid_of_batch(self, batch_id: str) -> int | None:
        """The process that holds a batch's lease; None where there is no such batch."""
        try:
            return _pid_of(batches.read(self.ledger, batch_id).lease_holder)
        except LookupError:
            return None

    def own_runs(self, refund_ids: list[str]) -> int:
        """How many of these refunds have a run of their own, by Prefect's books."""
        keys = [runs.idempotency_key(refund_id, 1) for refund_id in refund_ids]
        return len(self._prefects_runs("idempotency_key", keys))

    def states_of(self, run_ids: list[str]) -> list[str]:
        """The types of the states of these runs, by Prefect's books."""
        return self._prefects_runs("id", run_ids)

    def _prefects_runs(self, column: str, values: list[str]) -> list[str]:
        marks = ", ".join("?" for _ in values)
        books_of_prefect = f"file:{self.home / 'prefect' / 'prefect.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(books_of_prefect, uri=True)) as database:
            found = database.execute(
                f"SELECT state_type FROM flow_run WHERE {column} IN ({marks})", values
            )
            return [state_type for (state_type,) in found]

    def kill_role(self, role: str) -> float:
        """kill -9 to a role's process and all that it started, and when; it is started again."""
        old = self.pid(role)
        killed_at = kill_tree(old)
        until(lambda: self.pid(role) != old, f"{role} is started again")
        return killed_at

    def kill_host(self) -> None:
        """Everything at once, as when the power goes; then the host comes back."""
        up = json.loads((self.home / "up.json").read_text())
        kill_tree(up["pid"], *up["pids"].values())
        self.up()

    def kill_connections(self) -> None:
        """Every connection to the ledger but those of this process ends."""
        dispose_engines()
        books._engine.cache_clear()
        with self.database() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND application_name <> 'chaos'"
            )

    @contextlib.contextmanager
    def frozen(self, role: str) -> Iterator[None]:
        """A role hangs for a while: it takes calls and answers none."""
        with stopped(self.pid(role)):
            yield

    def database(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the test's own to the ledger's database."""
        url = self.ledger_url.replace("+psycopg", "")
        return psycopg.connect(url, autocommit=True, application_name="chaos")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process and its children do nothing for a while."""
    process = psutil.Process(pid)
    processes = [process, *process.children(recursive=True)]
    for each in processes:
        each.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)


def has_ended(pid: int | None) -> bool:
    """Whether a process is gone, or waits only for its parent to notice."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def let_the_lease_run_out(stack: ChaosStack, refund_id: str) -> None:
    """As three quarters of a minute of silence would."""
    row = schema.refunds.c
    with stack.ledger.writing() as connection:
        connection.execute(
            schema.refunds.update()
            .where(row.refund_id == refund_id)
            .values(lease_expires_at=stack.ledger.clock() - timedelta(seconds=1))
        )


def _pid_of(holder: str | None) -> int | None:
    return int(holder.rsplit(":", 2)[1]) if holder else None


def _request(refund_id: str, paid_minor: int) -> dict[str, Any]:
    customer = f"ada_{refund_id}"
    return {
        "refund_id": refund_id,
        "kind": "return",
        "order_id": f"#{refund_id}",
        "customer_id": customer,
        "item_ids": ["i1"],
        "amount_minor": paid_minor,
        "currency": "USD",
        "refund_to": f"card_{customer}",
        "reason": "no longer needed",
        "requested_by": "sam",
    }


def _order(request: dict[str, Any]) -> dict[str, Any]:
    """The order that a request is about, paid in full."""
    paid = {
        "type": "payment",
        "amount_minor": request["amount_minor"],
        "payment_method_id": request["refund_to"],
    }
    return order_record(
        request["order_id"],
        paid_minor=request["amount_minor"],
        customer_id=request["customer_id"],
        payments=[paid],
    )


def kill_tree(*pids: int) -> float:
    """kill -9 to processes and all that they started; when it was done, as `time.time()` has it."""
    doomed: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            doomed += [process, *process.children(recursive=True)]
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    killed_at = time.time()
    psutil.wait_procs(doomed, timeout=30)
    return killed_at
