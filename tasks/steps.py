"""How a step is named, keyed, retried and written to the journal: the same everywhere."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypedDict, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from refunds.errors import StaleRunner, StepRetryable, SystemAway
from refunds.ledger import Page, journal
from refunds.ledger.effects import key_of
from refunds.models import Case, RefundRequest
from tasks import books

P = ParamSpec("P")
R = TypeVar("R")


def by_refund(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Cache key of a step done once per refund: `{refund_id}:{step}`."""
    return key_of(_refund_id(parameters), context.task.name)


def by_round(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Cache key of a step done once per round: `{refund_id}:{step}:{round}`."""
    case = parameters.get("case")
    number = case.round if isinstance(case, Case) else parameters["round_number"]
    return key_of(_refund_id(parameters), context.task.name, number)


def by_round_and_level(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """Cache key of a step done once per round and escalation level."""
    return f"{by_round(context, parameters)}:{parameters['level']}"


def may_retry(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only what can end otherwise: an unreachable system, an unknown ending, a time-out.

    A system that is known to be away is not tried again at once: the refund waits for it.
    """
    failed_with: Any = state.data
    if isinstance(failed_with, SystemAway):
        return False
    return isinstance(failed_with, StepRetryable | TimeoutError)


class Retries(TypedDict):
    """What `@task` takes to try a step again."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Callable[[Task[..., Any], TaskRun, State[Any]], bool]


# A hiccup or a restart of the other system is over within eighteen seconds, and so long a run may
# hold its process; what lasts longer becomes a wait that holds nothing.
QUICK_RETRIES = Retries(retries=4, retry_delay_seconds=[1, 2, 5, 10], retry_condition_fn=may_retry)


def journaled(
    body: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Leave one event in the refund's history when a step of the flow ends, however it ends.

    Stands between `@task` and the function. A run that was turned away or fenced off has no hand
    in the history, so its steps leave nothing.
    """

    @wraps(body)
    async def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        context = TaskRunContext.get()
        if context is None:
            return await body(*args, **kwargs)
        step = _Running(context, inspect.signature(body).bind(*args, **kwargs).arguments)
        token = _running.set(step)
        try:
            output = await body(*args, **kwargs)
        except StaleRunner:
            raise
        except (Exception, asyncio.CancelledError) as error:
            step.fail(error)
            raise
        finally:
            _running.reset(token)
        step.end(output)
        return output

    _journaled.add(recorded)
    return recorded


def is_journaled(task: Task[..., Any]) -> bool:
    """Whether a task's function leaves an event when it ends."""
    return task.fn in _journaled


def close(page: Page, output: Any) -> None:
    """Write the running step's ending in the step's own last transaction.

    For a step that gives the lease back: afterwards it may not write any more.
    """
    step = _running.get()
    if step is not None:
        step.close(page, output)


@dataclass
class _Running:
    """The step that is running now, and whether its ending is written."""

    context: TaskRunContext
    parameters: dict[str, Any]
    is_closed: bool = False

    def __post_init__(self) -> None:
        task, run = self.context.task, self.context.task_run
        key_fn = task.cache_key_fn
        self.refund_id = _refund_id(self.parameters)
        self.call = journal.Call(
            step=task.name,
            key=key_fn(self.context, self.parameters) if key_fn else None,
            inputs={name: journal.plain(value) for name, value in self.parameters.items()},
            started_at=books.ledger().clock(),
            task_run_id=str(run.id),
        )

    def close(self, page: Page, output: Any) -> None:
        journal.ended(page, self.call, output, books.known_values(page))
        self.is_closed = True

    def end(self, output: Any) -> None:
        if self.is_closed or not books.holds(self.refund_id):
            return
        with books.ledger().page(self.refund_id, books.fence(self.refund_id)) as page:
            known = journal.ended(page, self.call, output, books.known_values(page))
        books.keep_known_values(self.refund_id, known)

    def fail(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            if not self._is_overdue():
                return
            error = TimeoutError(f"no ending within {self.context.task.timeout_seconds} seconds")
        if self.is_closed or not books.holds(self.refund_id):
            return
        attempt = self.context.task_run.run_count
        with books.ledger().page(self.refund_id, books.fence(self.refund_id)) as page:
            if isinstance(error, StepRetryable | TimeoutError) and self._is_tried_again(attempt):
                journal.retried(page, self.call, error, attempt)
            else:
                journal.failed(page, self.call, error, books.known_values(page))

    def _is_tried_again(self, attempt: int) -> bool:
        return attempt <= self.context.task.retries

    def _is_overdue(self) -> bool:
        """Cancelled by the step's own time limit, not by the end of its process."""
        limit = self.context.task.timeout_seconds
        taken = books.ledger().clock() - self.call.started_at
        return limit is not None and taken.total_seconds() >= limit


_journaled: set[Any] = set()

_running: ContextVar[_Running | None] = ContextVar("running_step", default=None)


def _refund_id(parameters: dict[str, Any]) -> str:
    for value in parameters.values():
        if isinstance(value, Case | RefundRequest):
            return value.refund_id
    raise TypeError("a step needs a Case or a RefundRequest among its parameters")
