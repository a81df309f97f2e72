"""A run that goes on after it lay down passes over the steps that were done."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.settings import PREFECT_TASKS_REFRESH_CACHE, temporary_settings

from deployments import warm_done

pytestmark = pytest.mark.anyio


def by_word(context: Any, parameters: dict[str, Any]) -> str:
    return f"{context.task.name}:{parameters['word']}"


def step(name: str, **options: Any) -> Any:
    async def say(word: str) -> str:
        return word

    return task(name=name, **{"cache_key_fn": by_word, **options})(say)


class Run:
    """A run with results of an earlier attempt, and a note of what comes to Prefect's engine."""

    def __init__(self, place: Path) -> None:
        self.parameters = {"refund": 1}
        self.storage = LocalFileSystem(basepath=str(place))
        self.result_store = ResultStore(result_storage=self.storage)
        self.came: list[str] = []

    async def did(self, key: str, result: Any) -> None:
        await self.result_store.awrite(result, key=key)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run(tmp_path)

    async def call(step: Any, *arguments: Any, **options: Any) -> str:
        made.came.append(step.name)
        return f"new {step.name}"

    monkeypatch.setattr(Task, "__call__", call)
    monkeypatch.setattr(warm_done, "FlowRunContext", SimpleNamespace(get=lambda: made))
    warm_done.pass_over_done_steps()
    return made


async def test_what_was_done_is_taken_and_what_was_not_comes_to_the_engine(run: Run) -> None:
    await run.did("load:a", {"amount": 7})
    await run.did("judge:a", None)
    assert await step("load")("a") == {"amount": 7}
    assert await step("judge")(word="a") is None
    assert await step("pay")("a") == "new pay"
    assert run.came == ["pay"]


async def test_behind_the_first_step_that_was_not_done_the_engine_looks_itself(run: Run) -> None:
    await run.did("load:a", "old")
    assert await step("load")("b") == "new load"
    assert await step("load")("a") == "new load"


async def test_a_step_that_is_asked_anew_each_time_comes_to_the_engine_and_stops_nothing(
    run: Run,
) -> None:
    await run.did("load:a", "old")
    asked = step("open", cache_key_fn=None, cache_policy=NO_CACHE)
    assert await asked("a") == "new open"
    assert await step("load")("a") == "old"


@pytest.mark.parametrize("options", [{"return_state": True}, {"wait_for": []}])
async def test_a_call_that_wants_more_than_a_result_comes_to_the_engine(
    run: Run, options: dict[str, Any]
) -> None:
    await run.did("load:a", "old")
    assert await step("load")("a", **options) == "new load"


async def test_results_that_are_to_be_made_anew_are_made_by_the_engine(run: Run) -> None:
    await run.did("load:a", "old")
    assert await step("load", refresh_cache=True)("a") == "new load"
    with temporary_settings({PREFECT_TASKS_REFRESH_CACHE: True}):
        assert await step("load")("a") == "new load"


async def test_a_result_that_may_be_too_old_is_left_to_the_engine(run: Run) -> None:
    await run.did("load:a", "old")
    assert await step("load", cache_expiration=timedelta(days=1))("a") == "new load"


async def test_a_result_that_cannot_be_read_is_left_to_the_engine(run: Run) -> None:
    await run.storage.awrite_path("load:a", b"half a res")
    assert await step("load")("a") == "new load"


async def test_a_step_whose_key_cannot_be_made_is_left_to_the_engine(run: Run) -> None:
    def broken(context: Any, parameters: dict[str, Any]) -> str:
        raise LookupError(parameters["missing"])

    assert await step("load", cache_key_fn=broken)("a") == "new load"


async def test_a_wrong_call_is_wrong_before_anything_is_looked_up(run: Run) -> None:
    with pytest.raises(TypeError):
        await step("load")("a", "too many")
    assert run.came == []
