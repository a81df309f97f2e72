"""The real flow, steps, ledger and sandbox without a Prefect server: a run takes milliseconds.

Prefect's part is played by a fake with memory: it keeps finished results by their key, tries
failed steps again, and ends a run that suspends.
"""

from __future__ import annotations

import inspect
import itertools
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prefect import Task
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from flows import waiting
from flows.refund import refund
from refunds import history_document
from refunds.clock import system_clock
from refunds.errors import StepRetryable
from refunds.history_document import HistoryDocument
from refunds.ledger import Ledger, approvals, effects, requests, waits
from refunds.ledger.approvals import Vote
from refunds.models import RefundRequest
from sandbox.testing import customer_record, order_record
from tasks import books, payments, records, runs
from tests.tasks.tasks_world import Outside

_numbers = itertools.count(1)


class Suspended(BaseException):
    """The run gave its process back; the next one begins at the top."""


class Killed(BaseException):
    """The run's process died."""


@dataclass
class FakePrefect:
    """Results by key, and where the process is to die next."""

    results: dict[str, Any] = field(default_factory=dict)
    dies_before: str | None = None
    dies_after: str | None = None

    async def call(self, task: Task[..., Any], *args: Any, **named: Any) -> Any:
        """Run a task as its engine would; a finished one is found by its key."""
        parameters = self._parameters(task, args, named)
        for attempt in range(1, task.retries + 2):
            context = _context(task, parameters, attempt)
            key = task.cache_key_fn(context, parameters) if task.cache_key_fn else None
            if key in self.results:
                return self.results[key]
            self._die(task.name, "before")
            try:
                with context:
                    result = await task.fn(*args, **named)
            except StepRetryable:
                if attempt > task.retries:
                    raise
                continue
            self._die(task.name, "after")
            if key is not None:
                self.results[key] = result
            return result
        raise AssertionError("the last attempt returns or raises")

    def _die(self, step: str, when: str) -> None:
        if getattr(self, f"dies_{when}") == step:
            setattr(self, f"dies_{when}", None)
            raise Killed

    def _parameters(self, task: Task[..., Any], args: Any, named: Any) -> dict[str, Any]:
        return dict(inspect.signature(task.fn).bind(*args, **named).arguments)


class Rehearsal:
    """The outside world, the ledger, and refunds that are carried on by the real flow."""

    def __init__(self, outside: Outside, patch: pytest.MonkeyPatch) -> None:
        self.client: httpx.Client = outside.client
        self.prefect = FakePrefect()
        self.ahead = timedelta()
        self._runner = outside.runner
        real = books.ledger()
        self.ledger = Ledger(real.engine, lambda: system_clock() + self.ahead)
        self._patch(patch)

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(books, "ledger", lambda: self.ledger)
        patch.setattr(Task, "__call__", _answered_by(self.prefect))
        patch.setattr(waiting, "apause_flow_run", _suspend)
        patch.setattr(runs, "label", _nothing)
        patch.setattr(runs, "answers", _no_answers)
        patch.setattr(records, "acreate_markdown_artifact", _nothing)

    def request(self, paid_minor: int = 10_000, **fields: Any) -> RefundRequest:
        """A request about a new order; above 100,000 it needs a person."""
        number = next(_numbers)
        self.shop_has(number, paid_minor)
        return RefundRequest.model_validate(
            {
                "refund_id": f"rf_{number}",
                "kind": "return",
                "order_id": f"#W{number}",
                "customer_id": f"ada_{number}",
                "item_ids": ["i1"],
                "amount_minor": paid_minor,
                "currency": "USD",
                "refund_to": f"card_ada_{number}",
                "reason": "no longer needed",
                "requested_by": "sam",
            }
            | fields
        )

    def shop_has(self, number: int, paid_minor: int, **changes: Any) -> None:
        """Tell the shop of order `number`, or of what changed about it."""
        customer = f"ada_{number}"
        paid = {"type": "payment", "amount_minor": paid_minor}
        paid["payment_method_id"] = f"card_{customer}"
        order = order_record(
            f"#W{number}",
            paid_minor=paid_minor,
            customer_id=customer,
            **{"payments": [paid], **changes},
        )
        for kind, record in (("customers", customer_record(customer)), ("orders", order)):
            self.client.post(f"/shop/{kind}", json=[record]).raise_for_status()

    def faults(self, *rules: dict[str, Any]) -> None:
        """Switch these faults on, and all others off."""
        self.client.put("/faults", json={"rules": list(rules)}).raise_for_status()

    def run(self, request: RefundRequest) -> str:
        """Carry a refund as far as it goes: its outcome, or suspended or killed."""
        try:
            return str(self.do(self._carry(request)))
        except Suspended:
            return "suspended"
        except Killed:
            books.let_go(request.refund_id)
            return "killed"

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine under this test's settings."""
        return self._runner.run(work, context=copy_context())

    async def _carry(self, request: RefundRequest) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", run_id_of(request))
            return await refund.fn(request)

    def decide(self, request: RefundRequest, choice: Any, person: str = "lea") -> None:
        """A decision in the ledger; the next run finds it."""
        vote = Vote(choice=choice, person=person, channel="cli", verified=True)
        approvals.decide(self.ledger, request.refund_id, vote)

    def pass_hours(self, hours: float) -> None:
        """Time passes, and what is due is ended as the sweep does."""
        self.ahead += timedelta(hours=hours)
        waits.end_due(self.ledger)

    def settle(self, request: RefundRequest, status: str) -> None:
        """The bank settles the payment, and the gateway is asked as the sweep does."""
        effect = self.payment(request)
        assert effect.response is not None
        body = {"refund": effect.response["id"], "status": status}
        self.client.put("/gateway/settle", json=body).raise_for_status()
        for row in effects.unsettled(self.ledger):
            if row["refund_id"] == request.refund_id:
                self.do(payments.reconcile(row))

    def document(self, request: RefundRequest) -> HistoryDocument:
        """The refund's history as it is taken home."""
        return history_document.of(self.ledger, request.refund_id)

    def payment(self, request: RefundRequest) -> effects.Effect:
        """The payment's effect as the ledger has it."""
        effect = effects.read(self.ledger, f"{request.refund_id}:issue_refund")
        assert effect is not None
        return effect

    def row(self, request: RefundRequest) -> dict[str, Any]:
        return requests.read(self.ledger, request.refund_id)

    def acts(self, request: RefundRequest | None = None) -> list[dict[str, Any]]:
        """What the outside world did, for one refund or for all."""
        params: dict[str, Any] = {"limit": 1_000}
        if request is not None:
            params["refund_id"] = request.refund_id
        listed = self.client.get("/effects", params=params).raise_for_status()
        return list(listed.json()["effects"])

    def calls(self) -> int:
        """How many acts the sandbox has counted."""
        return len(self.acts())


def run_id_of(request: RefundRequest) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, request.refund_id))


def _answered_by(prefect: FakePrefect) -> Any:
    async def call(task: Task[..., Any], *args: Any, **named: Any) -> Any:
        return await prefect.call(task, *args, **named)

    return call


def _context(task: Task[..., Any], parameters: dict[str, Any], attempt: int) -> TaskRunContext:
    run = TaskRun(task_key=task.name, dynamic_key=str(attempt), run_count=attempt)
    given: dict[str, Any] = {"task": task, "task_run": run, "parameters": parameters}
    return TaskRunContext.model_construct(**given)


async def _suspend(**_named: Any) -> None:
    raise Suspended


async def _nothing(*_args: Any, **_named: Any) -> None:
    return None


async def _no_answers(_prefix: str) -> list[dict[str, Any]]:
    return []


@contextmanager
def rehearsal(outside: Outside) -> Iterator[Rehearsal]:
    """A rehearsal whose fakes are gone afterwards."""
    # Port 9 is where nobody answers; without an address Prefect would start a server of its own.
    alone = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_LOGGING_TO_API_ENABLED: False}
    with pytest.MonkeyPatch.context() as patch, temporary_settings(alone):
        yield Rehearsal(outside, patch)
