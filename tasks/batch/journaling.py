"""A chunk's steps in the histories of its refunds: the events that the single chain would leave.

A refund that was carried by a batch replays through the code of the single chain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect.context import TaskRunContext

from refunds.ledger import Page, journal
from refunds.ledger.effects import key_of
from refunds.models import PaymentStatus, RefundRequest
from tasks import books


@dataclass(frozen=True)
class Step:
    """One call of a step of the single chain: its name, its key, and what it was given."""

    name: str
    key: str | None
    inputs: Mapping[str, Any]


def once(refund_id: str, name: str, **inputs: Any) -> Step:
    """A step that is done once a refund."""
    return Step(name, key_of(refund_id, name), inputs)


def in_round(refund_id: str, name: str, number: int, **inputs: Any) -> Step:
    """A step that is done once a round."""
    return Step(name, key_of(refund_id, name, number), inputs)


def every_time(name: str, **inputs: Any) -> Step:
    """A step that is asked anew by every run."""
    return Step(name, None, inputs)


class Journal:
    """One refund's journal while its chunk is carried."""

    def __init__(self, request: RefundRequest) -> None:
        """The refund's history holds its request already."""
        self._told = journal.Told(request)
        # The steps that are finished, by key, with what they left in an earlier run.
        self._ended: dict[str, Any] = {}

    def go_on(self, outputs: Mapping[str, Any]) -> None:
        """An earlier run finished these steps, and its journal says so."""
        self._ended.update(outputs)

    def was_pending(self, key: str) -> bool:
        """Whether an earlier run finished a step with what was not settled yet."""
        output = self._ended.get(key)
        return isinstance(output, dict) and output.get("status") == PaymentStatus.PENDING

    def ended(self, page: Page, step: Step, output: Any) -> None:
        """The step ended; a finished step that was only found by its key leaves nothing."""
        if step.key is not None and step.key in self._ended:
            return
        called = self._called(step)
        page.append(journal.ENDED, {**called, "output": self._told.value(output)})
        if step.key is not None:
            self._ended[step.key] = None

    def failed(self, page: Page, step: Step, error: BaseException) -> None:
        """The step ended with an error."""
        page.append(journal.FAILED, {**self._called(step), "error": journal.described(error)})

    def retried(self, page: Page, step: Step, error: BaseException, attempt: int) -> None:
        """An attempt failed and another one follows; the first attempt is number 1."""
        call = journal.Call(step.name, step.key, {}, *_started())
        journal.retried(page, call, error, attempt)

    def _called(self, step: Step) -> dict[str, Any]:
        started_at, task_run_id = _started()
        return {
            "step": step.name,
            "key": step.key,
            "inputs": {name: self._told.value(value) for name, value in step.inputs.items()},
            "task_run_id": task_run_id,
            "started_at": started_at.isoformat(),
        }


def _started() -> tuple[datetime, str | None]:
    context = TaskRunContext.get()
    if context is None or context.task_run.start_time is None:
        return books.ledger().clock(), None
    return context.task_run.start_time, str(context.task_run.id)
