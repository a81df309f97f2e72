"""A Prefect server, a sandbox and the service; refunds that run in the test's own process."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow

from flows.refund import refund
from refunds.api import AsyncRefunds
from refunds.clock import system_clock
from refunds.ledger import Ledger, history, requests, schema, waits
from refunds.models import Level, RefundRequest
from refunds.policy_file import DEFAULT_POLICY_FILE
from refunds.settings import settings
from refunds.verify import rules
from refunds.verify.dossiers import read_all
from sandbox.testing import customer_record, order_record
from tasks import books, runs
from tests.house.patience import PATIENCE_SECONDS

_numbers = itertools.count(1)

# One run of the chain in a process of its own, as a laptop or a notebook has it.
_ELSEWHERE = (
    "import asyncio, sys; from flows.refund import refund; "
    "from refunds.models import Level, RefundRequest; "
    "asyncio.run(refund(RefundRequest.model_validate_json(sys.stdin.read())))"
)


_SWEEP = (
    "import asyncio, json; from flows.sweep import sweep; print(json.dumps(asyncio.run(sweep())))"
)


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition to hold and return its value; fail after the patience."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"still not so: {what}")


def fault(endpoint: str, kind: str, times: int | None = 1, **fields: Any) -> dict[str, Any]:
    """A rule for `World.faults`."""
    return {"endpoint": endpoint, "kind": kind, "times": times, **fields}


@dataclass
class World:
    """One test's view of everything around a refund."""

    sandbox: httpx.Client
    environment: dict[str, str]
    refunds: AsyncRefunds = field(default_factory=AsyncRefunds)
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return books.ledger()

    # --- Making ---

    def request(self, paid_minor: int = 10_000, **fields: Any) -> RefundRequest:
        """A request about a new order of a new customer; above 100,000 it needs a person."""
        number = next(_numbers)
        customer_id = f"ada_{number}"
        self.shop_has(number, paid_minor)
        return RefundRequest.model_validate(
            {
                "refund_id": f"rf_{number}",
                "kind": "return",
                "order_id": f"#W{number}",
                "customer_id": customer_id,
                "item_ids": ["i1"],
                "amount_minor": paid_minor,
                "currency": "USD",
                "refund_to": f"card_{customer_id}",
                "reason": "no longer needed",
                "requested_by": "sam",
            }
            | fields
        )

    def shop_has(self, number: int, paid_minor: int, **changes: Any) -> None:
        """Tell the shop of order `number` and its customer, or of what changed about it."""
        customer = f"ada_{number}"
        paid = {
            "type": "payment",
            "amount_minor": paid_minor,
            "payment_method_id": f"card_{customer}",
        }
        order = order_record(
            f"#W{number}",
            paid_minor=paid_minor,
            customer_id=customer,
            **{"payments": [paid], **changes},
        )
        for kind, record in (("customers", customer_record(customer)), ("orders", order)):
            self.sandbox.post(f"/shop/{kind}", json=[record]).raise_for_status()

    def change_order(self, request: RefundRequest, **changes: Any) -> None:
        """The shop's order is another one now."""
        number = int(request.order_id.removeprefix("#W"))
        self.shop_has(number, request.amount_minor, **changes)

    def dispute(self, request: RefundRequest, *, is_open: bool = True) -> None:
        """The customer asks the bank for the money, or stops asking."""
        body = {"charge": request.order_id.replace("#", "ch_"), "disputed": is_open}
        self.sandbox.put("/gateway/dispute", json=body).raise_for_status()

    def faults(self, *rules: dict[str, Any]) -> None:
        """Switch these faults on, and all others off."""
        self.sandbox.put("/faults", json={"rules": list(rules)}).raise_for_status()

    # --- Running ---

    async def run(self, request: RefundRequest) -> State[Any]:
        """Carry a refund as far as it goes without anybody; returns the run's last state."""
        state: State[Any] = await asyncio.wait_for(
            refund(request, return_state=True), PATIENCE_SECONDS
        )
        return state

    def start(self, request: RefundRequest) -> asyncio.Task[State[Any]]:
        """Begin to carry a refund that will wait."""
        task: asyncio.Task[State[Any]] = asyncio.ensure_future(refund(request, return_state=True))
        self._tasks.append(task)
        return task

    async def start_waiting(
        self, request: RefundRequest, name: str = "approval"
    ) -> asyncio.Task[State[Any]]:
        """Begin to carry a refund, and return when it waits."""
        task = self.start(request)
        await self.until_waiting(request, name)
        return task

    async def until_waiting(
        self, request: RefundRequest, name: str = "approval", begun: int = 1
    ) -> dict[str, Any]:
        """Wait until the refund's run is asleep in a wait whose name starts so."""

        async def asleep() -> dict[str, Any] | None:
            for wait in waits.open_waits(self.ledger, request.refund_id):
                if wait["name"].startswith(name) and wait["openings"] >= begun:
                    run = await self.prefect_run(wait["run_id"])
                    key = (run.state.state_details.pause_key if run.state else None) or ""
                    if (
                        run.state
                        and run.state.is_paused()
                        and key.endswith(f"{wait['name']}-{wait['openings']}")
                    ):
                        return wait
            return None

        def known() -> Any:
            try:
                requests.read(self.ledger, request.refund_id)
            except Exception:  # noqa: BLE001 - not there yet, whatever the reason
                return None
            return asleep()

        found: dict[str, Any] = await until(known, f"{request.refund_id} waits for {name}")
        return found

    async def end_of(self, task: asyncio.Task[State[Any]]) -> State[Any]:
        """The last state of a run that was started."""
        return await asyncio.wait_for(asyncio.shield(task), PATIENCE_SECONDS)

    def start_elsewhere(self, request: RefundRequest) -> subprocess.Popen[str]:
        """Carry a refund in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-c", _ELSEWHERE],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._processes.append(process)
        assert process.stdin is not None
        process.stdin.write(request.model_dump_json())
        process.stdin.close()
        return process

    async def sweep(self) -> dict[str, int]:
        """Run the sweep's flow in a process of its own, as its schedule does."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _SWEEP),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        found: dict[str, int] = json.loads(out.splitlines()[-1])
        return found

    async def work(self, request: RefundRequest) -> State[Any]:
        """Do what a worker does with the refund's own, deployed run; returns its last state."""
        run_id = requests.read(self.ledger, request.refund_id)["run_id"]
        with suppress(Pause):
            run: Any = run_flow(refund, flow_run=await self.prefect_run(run_id))
            await run
        state = (await self.prefect_run(run_id)).state
        assert state is not None
        return state

    async def prefect_run(self, run_id: str) -> FlowRun:
        async with get_client() as client:
            return await client.read_flow_run(UUID(run_id))

    async def force(self, request: RefundRequest, state: State[Any]) -> None:
        """Force a state on the refund's run, as anybody with Prefect's address can."""
        run_id = requests.read(self.ledger, request.refund_id)["run_id"]
        async with get_client() as client:
            await client.set_flow_run_state(UUID(run_id), state, force=True)

    async def resume(self, request: RefundRequest, answer: dict[str, Any] | None) -> str:
        """Press Resume in Prefect's UI; returns ACCEPT, REJECT or ABORT."""
        run_id = requests.read(self.ledger, request.refund_id)["run_id"]
        async with get_client() as client:
            return str((await client.resume_flow_run(UUID(run_id), answer)).status.value)

    async def form_text(self, request: RefundRequest) -> str:
        """What stands above the Resume form."""
        run = await self.prefect_run(self.row(request)["run_id"])
        assert run.state is not None
        keyset = run.state.state_details.run_input_keyset
        assert keyset is not None
        async with get_client() as client:
            return str(await client.read_flow_run_input(run.id, keyset["description"]))

    # --- Time ---

    async def pass_time(self, request: RefundRequest, hours: float) -> None:
        """Let the refund's own deadlines come `hours` nearer, and wake what is due."""
        step = timedelta(hours=hours)
        with self.ledger.writing() as connection:
            for table, names in (
                (schema.waits, ("due_at",)),
                (schema.approvals, ("escalate_at", "deadline")),
            ):
                for row in connection.execute(
                    table.select().where(table.c.refund_id == request.refund_id)
                ).mappings():
                    moved = {name: row[name] - step for name in names if row[name] is not None}
                    if row.get("levels"):
                        moved["levels"] = [
                            level.model_copy(update={"until": level.until - step}).plain()
                            for level in map(Level.model_validate, row["levels"])
                        ]
                    key = list(table.primary_key.columns)
                    if moved:
                        connection.execute(
                            table.update()
                            .where(*(column == row[column.name] for column in key))
                            .values(**moved)
                        )
        waits.end_due(self.ledger)
        await runs.wake(request.refund_id)

    def outage_is_due(self, system: str) -> None:
        """A system that is away may be tried now, and who waits for it may be woken."""
        now = self.ledger.clock()
        with self.ledger.writing() as connection:
            connection.execute(
                schema.outages.update().where(schema.outages.c.system == system).values(until=now)
            )
            connection.execute(
                schema.waits.update()
                .where(schema.waits.c.name.startswith(f"outage-{system}-"))
                .values(due_at=now)
            )

    async def wake_due(self) -> None:
        """Do what the sweep does for waits whose time has come."""
        for refund_id in waits.end_due(self.ledger):
            await runs.wake(refund_id)

    @contextmanager
    def later(self, seconds: float) -> Iterator[None]:
        """The ledger's clock is ahead for a while."""
        ledger, ahead = self.ledger, timedelta(seconds=seconds)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                books, "ledger", lambda: Ledger(ledger.engine, lambda: system_clock() + ahead)
            )
            yield

    # --- Looking ---

    def row(self, request: RefundRequest) -> dict[str, Any]:
        return requests.read(self.ledger, request.refund_id)

    def outcome(self, request: RefundRequest) -> str | None:
        found: str | None = self.row(request)["outcome"]
        return found

    def events(self, request: RefundRequest, name: str) -> list[dict[str, Any]]:
        """What the history says under one name."""
        events = history.read(self.ledger, request.refund_id)
        return [event["data"] for event in events if event["event"] == name]

    def acts(self, request: RefundRequest, *kinds: str) -> list[str]:
        """The keys under which the outside world acted, in order, of these kinds or all."""
        params: dict[str, Any] = {"refund_id": request.refund_id, "limit": 1_000}
        listed = self.sandbox.get("/effects", params=params).raise_for_status().json()["effects"]
        return sorted(act["key"] for act in listed if not kinds or act["kind"] in kinds)

    def steps(self, request: RefundRequest) -> list[str]:
        """The steps that the outside world has seen, each as often as it acted."""
        return [key.partition(":")[2] for key in self.acts(request)]

    def at_gateway(self, request: RefundRequest) -> list[dict[str, Any]]:
        """The gateway's own refunds of the order's charge."""
        params = {"charge": request.order_id.replace("#", "ch_"), "limit": "100"}
        bearer = {"Authorization": "Bearer sk_test_sandbox"}
        page = self.sandbox.get("/gateway/v1/refunds", params=params, headers=bearer)
        return list(page.raise_for_status().json()["data"])

    def assert_sound(self, request: RefundRequest) -> None:
        """No act was doubled, the chain holds, and the ledger agrees with itself."""
        acts = self.acts(request)
        assert sorted(set(acts)) == acts
        problems: list[str] = []
        with self.ledger.reading() as connection:
            for dossier in read_all(connection, problems):
                if dossier.refund_id == request.refund_id:
                    problems += rules.broken(dossier)
        assert problems == []

    def assert_nothing_paid(self, request: RefundRequest) -> None:
        self.assert_sound(request)
        assert self.at_gateway(request) == []

    def assert_paid_once(self, request: RefundRequest) -> None:
        self.assert_sound(request)
        assert self.outcome(request) == "PAID"
        assert [found["amount"] for found in self.at_gateway(request)] == [request.amount_minor]
        assert self.acts(request, "create_refund") == [f"{request.refund_id}:issue_refund"]

    async def close(self) -> None:
        """End what the test left running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self._processes:
            process.kill()
            process.wait()


def policy_file() -> Any:
    """Where this world's own policy file is read from, when there is one."""
    return settings().home_dir / "policy.toml"


def edit_policy(before: str, after: str) -> None:
    """Put this world under the default policy with one text replaced, as another version."""
    text = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
    assert before in text
    policy_file().write_text(text.replace(before, after).replace("2026-11-1", "edited"))
