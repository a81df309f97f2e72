"""Both lanes without Prefect: the same flows and steps, called as plain functions.

`python -m tests.batch.batch_world HOME DIES_AT` carries the batch of a home as a process of its
own, which is gone at its n-th transaction or call.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from prefect import Task

import tasks.batch.writer
from flows import batch as batch_flow
from flows import refund as refund_flow
from flows import waiting
from refunds.clock import system_clock
from refunds.errors import SystemUnavailable
from refunds.ledger import Ledger, batches, requests
from refunds.models import RefundRequest
from refunds.settings import settings
from refunds.verify import rules
from refunds.verify.dossiers import read_all
from sandbox.testing import customer_record, order_record
from tasks import books, http, model, records, runs, sleepers
from tasks.batch import own_runs, performing, reporting, reserving, sharding
from tasks.batch.chunk import Road

_RUN_ID = "PREFECT__RUNTIME__FLOW_RUN__ID"


_nights = itertools.count()


class AsleepError(Exception):
    """The run of a refund lay down to sleep."""


@dataclass
class PrefectRuns:
    """Prefect's runs as far as a batch knows them: the n-th run of a refund is one run."""

    created: dict[tuple[str, int], own_runs.Sleeper] = field(default_factory=dict)
    artifacts: list[tuple[str, Any]] = field(default_factory=list)
    launched: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    is_away: bool = False

    async def keep_artifact(self, *progress: Any, **fields: Any) -> str:
        if self.is_away:
            raise httpx.ConnectError("away")
        content = progress[-1] if progress else fields.get("table", fields.get("markdown"))
        self.artifacts.append((str(fields.get("key")), content))
        return str(fields.get("key"))

    async def launch_batch(self, batch_id: str) -> str:
        if self.is_away:
            raise SystemUnavailable("prefect", "away")
        self.launched.append(batch_id)
        return batch_id

    async def end(self, run_ids: list[str]) -> set[str]:
        if self.is_away:
            raise httpx.ConnectError("away")
        self.ended += run_ids
        return set()

    async def create(self, roads: list[Road], sleeper: Callable[[Road], own_runs.Sleeper]) -> None:
        for road in roads:
            if not self.is_away:
                self.created.setdefault((road.refund_id, road.next_run_number), sleeper(road))
                road.own_run_id = self.run_id(road.refund_id, road.next_run_number)

    @staticmethod
    def run_id(refund_id: str, number: int) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{refund_id}:{number}"))


@contextmanager
def without_prefect(run_id: str = "run-of-the-batch") -> Iterator[PrefectRuns]:
    """Steps are plain functions, artifacts go nowhere, runs are remembered here."""
    prefect_runs = PrefectRuns()

    async def nowhere(**_: Any) -> None:
        return None

    async def no_answers(_prefix: str) -> list[dict[str, Any]]:
        return []

    async def no_label(_name: str, _tags: Any) -> None:
        return None

    async def sleep(key: str, _form: Any) -> None:
        raise AsleepError(key)

    with pytest.MonkeyPatch.context() as patch:
        for module in _modules_of_steps():
            for name, value in vars(module).items():
                if isinstance(value, Task):
                    patch.setattr(module, name, value.fn)
        patch.setenv(_RUN_ID, run_id)
        patch.setattr(own_runs, "create", prefect_runs.create)
        patch.setattr(records, "acreate_markdown_artifact", nowhere)
        patch.setattr(reporting, "acreate_progress_artifact", prefect_runs.keep_artifact)
        patch.setattr(reporting, "aupdate_progress_artifact", prefect_runs.keep_artifact)
        patch.setattr(reporting, "acreate_table_artifact", prefect_runs.keep_artifact)
        patch.setattr(reporting, "acreate_markdown_artifact", prefect_runs.keep_artifact)
        patch.setattr(runs, "launch_batch", prefect_runs.launch_batch)
        patch.setattr(sleepers, "_end", prefect_runs.end)
        patch.setattr(runs, "answers", no_answers)
        patch.setattr(runs, "label", no_label)
        patch.setattr(waiting, "hold", sleep)
        for module in (performing, reporting, sharding, sleepers):
            patch.setattr(module, "get_run_logger", lambda: logging.getLogger("batch"))
        patch.setattr(performing, "PAUSES_SECONDS", (0.01,) * 4)
        yield prefect_runs


@contextmanager
def at_home(ledger_url: str, sandbox_url: str, shop_database: Path | str) -> Iterator[None]:
    """This process works with this ledger and this world."""
    with pytest.MonkeyPatch.context() as patch:
        for system in ("gateway", "crm", "coupons", "logistics", "notices"):
            patch.setenv(f"REFUNDS_{system.upper()}_URL", f"{sandbox_url}/{system}")
        patch.setenv("REFUNDS_LEDGER_URL", ledger_url)
        patch.setenv("REFUNDS_SHOP_URL", f"sqlite:///{shop_database}")
        settings.cache_clear()
        books._engine.cache_clear()
        yield
    settings.cache_clear()
    books._engine.cache_clear()


class World:
    """A ledger, a sandbox, and the two lanes."""

    night: date

    def __init__(self, sandbox_url: str) -> None:
        self.sandbox = httpx.Client(base_url=sandbox_url, timeout=30)

    @property
    def ledger(self) -> Ledger:
        return books.ledger()

    def shop_has(self, customers: list[Any], orders: list[Any]) -> None:
        for kind, rows in (("customers", customers), ("orders", orders)):
            self.sandbox.post(f"/shop/{kind}", json=rows).raise_for_status()

    def requests(self, count: int, name: str = "rf", **fields: Any) -> list[RefundRequest]:
        """Requests about new orders, each of a customer of its own."""
        wanted = []
        for number in range(1, count + 1):
            customer = f"{name}_ada_{number:05}"
            order_id = f"#{name}{number:05}"
            paid = {
                "type": "payment",
                "amount_minor": 10_000,
                "payment_method_id": f"card_{customer}",
            }
            order = order_record(order_id, paid_minor=10_000, customer_id=customer, payments=[paid])
            self.shop_has([customer_record(customer)], [order])
            wanted.append(
                RefundRequest.model_validate(
                    {
                        "refund_id": f"{name}_{number:05}",
                        "kind": "return",
                        "order_id": order_id,
                        "customer_id": customer,
                        "item_ids": ["i1"],
                        "amount_minor": 10_000,
                        "currency": "USD",
                        "refund_to": f"card_{customer}",
                        "reason": "no longer needed",
                        "requested_by": "sam",
                    }
                    | fields
                )
            )
        return wanted

    def in_the_shop(self, statement: str, *values: object) -> None:
        """Change the shop's own tables behind everybody's back."""
        with closing(
            sqlite3.connect(settings().shop_database_url.removeprefix("sqlite:///"))
        ) as shop:
            shop.execute(statement, values)
            shop.commit()

    def dispute(self, request: RefundRequest) -> None:
        """The customer asks the bank for the order's money."""
        with books.shop().connect() as shop:
            query = sa.text("SELECT charge_id FROM payments WHERE order_id = :order_id")
            charge_id = shop.execute(query, {"order_id": request.order_id}).scalar_one()
        body = {"charge": charge_id, "disputed": True}
        self.sandbox.put("/gateway/dispute", json=body).raise_for_status()

    def at_hours(self, hours: float) -> Ledger:
        """The ledger, so many hours from now."""
        return Ledger(books.ledger().engine, lambda: system_clock() + timedelta(hours=hours))

    def faults(self, *found: dict[str, Any]) -> None:
        self.sandbox.put("/faults", json={"rules": list(found)}).raise_for_status()

    def take_together(self, wanted: list[RefundRequest]) -> str:
        """Submit these as one batch; returns its id."""
        rows = requests.submit(self.ledger, wanted, together_from=1)
        return str(rows[0]["batch_id"])

    def leave_to_the_night(self, wanted: list[RefundRequest]) -> None:
        """Submit these for tonight's batch."""
        if wanted:
            requests.submit(self.ledger, wanted, "nightly")

    def opened_night(self, wanted: Sequence[RefundRequest] = (), hours: int = 1) -> str:
        """Leave these to a night and open it; returns its batch's id.

        The sandbox is the module's and hears of each night once, so that each has its own date.
        """
        self.leave_to_the_night(list(wanted))
        self.night = date(2027, 1, 1) + timedelta(days=next(_nights))
        return batches.open_night(self.ledger, self.night, hours).batch_id

    def opened_again(self, wanted: Sequence[RefundRequest] = ()) -> str:
        """Leave these to the same night; returns its batch's id."""
        self.leave_to_the_night(list(wanted))
        return batches.open_night(self.ledger, self.night, 1).batch_id

    def carry(
        self,
        batch_id: str,
        *,
        prefect_is_away: bool = False,
        at: Ledger | None = None,
        before_paying: Callable[[], None] = lambda: None,
    ) -> PrefectRuns:
        """Run a batch to its end, by the clock of another ledger if need be.

        `before_paying` is what happens in the world between each verdict and its payment.
        """
        with without_prefect() as prefect_runs, pytest.MonkeyPatch.context() as patch:
            prefect_runs.is_away = prefect_is_away
            reserve = reserving.reserve_money

            async def reserve_later(chunk: Any) -> Any:
                before_paying()
                return await reserve(chunk)

            patch.setattr(reserving, "reserve_money", reserve_later)
            if at is not None:
                patch.setattr(books, "ledger", lambda: at)
            asyncio.run(_and_hang_up(batch_flow.work_off(batch_id)))
        return prefect_runs

    def carry_singly(self, wanted: list[RefundRequest]) -> dict[str, str]:
        """Carry each by the single chain, in step; returns the waits of those that wait."""
        requests.submit(self.ledger, wanted)
        with without_prefect():
            return asyncio.run(_and_hang_up(_in_step(wanted)))

    def states(self) -> dict[str, int]:
        return requests.counts(self.ledger)

    def row(self, refund_id: str) -> dict[str, Any]:
        return requests.read(self.ledger, refund_id)

    def acts(self) -> list[dict[str, Any]]:
        """Every effect that the outside world has seen."""
        acts: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = self.sandbox.get("/effects", params={"limit": "1000", **after})
            found = page.raise_for_status().json()
            acts += found["effects"]
            if not found["has_more"]:
                return acts
            after = {"after": found["next_after"]}

    def broken(self) -> list[str]:
        """What `refunds verify` says against the ledger."""
        problems: list[str] = []
        with self.ledger.reading() as connection:
            for dossier in read_all(connection, problems):
                problems += [f"{dossier.refund_id}: {text}" for text in rules.broken(dossier)]
        return problems


async def _and_hang_up(work: Any) -> Any:
    try:
        return await work
    finally:
        await http.close()


async def _in_step(wanted: list[RefundRequest]) -> dict[str, str]:
    """All refunds look at the world before any of them acts, as the refunds of a chunk do."""
    all_seated, all_loaded, all_judged = (asyncio.Barrier(len(wanted)) for _ in range(3))
    asleep: dict[str, str] = {}
    original_opinion = model.ask_opinion
    rounds: dict[str, int] = {}

    async def opinion(case: Any, features: Any) -> Any:
        if case.round == 1:
            await all_loaded.wait()
        return await original_opinion(case, features)

    async def artifact(*, description: str, **_: Any) -> None:
        refund_id = description.partition(":")[0]
        rounds[refund_id] = rounds.get(refund_id, 0) + 1
        if rounds[refund_id] == 1:
            await all_judged.wait()

    async def one(request: RefundRequest) -> None:
        os.environ[_RUN_ID] = f"run-of-{request.refund_id}"
        seat = await records.open_refund(request)
        await all_seated.wait()
        try:
            await refund_flow.patiently(request, seat)
        except AsleepError as wait:
            asleep[request.refund_id] = str(wait)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "ask_opinion", opinion)
        patch.setattr(records, "acreate_markdown_artifact", artifact)
        ordered = sorted(wanted, key=lambda request: request.refund_id)
        await asyncio.gather(*(one(request) for request in ordered))
    return asleep


def _modules_of_steps() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("tasks.") and module is not None
    ]


def _die_at(moment: int) -> None:
    """Be gone at the n-th transaction or call, with nothing written and nothing said."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == moment:
            os._exit(9)

    call, write = http.call, tasks.batch.writer.write

    async def dying_call(*args: Any, **kwargs: Any) -> Any:
        answer = await call(*args, **kwargs)
        step()
        return answer

    async def dying_write(*args: Any, **kwargs: Any) -> Any:
        step()
        return await write(*args, **kwargs)

    http.call = dying_call
    for module in _modules_of_steps():
        if getattr(module, "write", None) is write:
            module.write = dying_write  # type: ignore[attr-defined]


def main() -> None:
    """Carry every batch that is not finished; see the module."""
    _die_at(int(sys.argv[1]))
    with without_prefect(f"run-{os.getpid()}"):
        for batch in batches.to_launch(books.ledger()):
            asyncio.run(batch_flow.work_off(batch.batch_id))


if __name__ == "__main__":
    main()
