"""How a step is named, keyed and retried: the same everywhere."""

from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from refunds.errors import StepRetryable, SystemAway
from refunds.ledger.effects import key_of
from refunds.models import Case, RefundRequest


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


def _refund_id(parameters: dict[str, Any]) -> str:
    for value in parameters.values():
        if isinstance(value, Case | RefundRequest):
            return value.refund_id
    raise TypeError("a step needs a Case or a RefundRequest among its parameters")
