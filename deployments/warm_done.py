"""Steps that were done before a run lay down, passed over when it goes on.

The engine would find their results by the same keys, and put each step on the run's page once more
after each wait. That is a fifth of the time from a decision to its payment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

from prefect import Task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.settings import get_current_settings
from prefect.utilities.callables import get_call_parameters

# What a call tells the engine and not the step.
_OF_THE_ENGINE = {"return_state", "wait_for"}


def pass_over_done_steps() -> None:
    """Do so in this process, up to the first step that was not done: nobody was beyond it."""
    call: Any = Task.__call__
    is_behind = True

    async def result_or_run(step: Task[..., Any], *arguments: Any, **options: Any) -> Any:
        nonlocal is_behind
        key = _key(step, get_call_parameters(step.fn, arguments, options))
        if is_behind and key is not None:
            if found := await _found(step, key):
                return found.result
            is_behind = False
        return await call(step, *arguments, **options)

    @functools.wraps(call)
    def pass_over_or_call(step: Task[..., Any], *arguments: Any, **options: Any) -> Any:
        take: Callable[..., Any] = result_or_run if is_behind and _is_plain(step, options) else call
        return take(step, *arguments, **options)

    setattr(Task, "__call__", pass_over_or_call)  # noqa: B010 - it is overloaded


def _is_plain(step: Task[..., Any], options: dict[str, Any]) -> bool:
    """Whether a call of it gives its result, and may give one from before, however old."""
    is_made_anew = step.refresh_cache or get_current_settings().tasks.refresh_cache
    may_be_found = not is_made_anew and step.cache_expiration is None
    is_awaited = step.isasync and not step.isgenerator
    return may_be_found and is_awaited and not _OF_THE_ENGINE & options.keys()


def _key(step: Task[..., Any], parameters: dict[str, Any]) -> str | None:
    """The step's key as the engine makes it; None where it has none, or cannot be told."""
    run, policy = FlowRunContext.get(), cast("Any", step.cache_policy)
    # Of the context a key needs no more than whose it is.
    asked_by = cast("TaskRunContext", SimpleNamespace(task=step))
    with suppress(Exception):
        return cast("str | None", policy.compute_key(asked_by, parameters, run and run.parameters))
    return None


async def _found(step: Task[..., Any], key: str) -> Any:
    """The record of a result; None where there is none, or none that can be read."""
    run = FlowRunContext.get()
    with suppress(Exception):
        if run is not None:
            store = await run.result_store.aupdate_for_task(step)
            return await store.aread(key)
    return None
