"""What we rest on in Prefect, kept as tests: an upgrade that changes one of these is noticed.

One server in this process answers the API; a fact that would take minutes to see is read off the
signature or the setting that makes it so.
"""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from packaging.requirements import Requirement
from prefect.cache_policies import DEFAULT, RUN_ID, TASK_SOURCE, CompoundCachePolicy
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.flow_runs import apause_flow_run, asuspend_flow_run
from prefect.flows import flow
from prefect.input import run_input
from prefect.input.run_input import RunInput, keyset_from_paused_state
from prefect.settings.models.server.concurrency import ServerConcurrencySettings
from prefect.states import Completed, Paused, Pending, Running, Scheduled, Suspended
from prefect.workers.base import BaseWorker
from pydantic import ValidationError

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@flow(name="a-refund")
def a_refund() -> None:
    """Never runs: its runs are moved from state to state by hand."""


class Question(RunInput):
    decision: str


class QuestionWithDefault(RunInput):
    decision: str = "approve"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrefectClient]:
    """A client of a server in this process, without the services that work in the background."""
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings

    database = tmp_path_factory.mktemp("facts") / "prefect.db"
    url = f"sqlite+aiosqlite:///{database}"
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url}):
        async with PrefectClient(create_app(ephemeral=True, ignore_cache=True)) as client:
            yield client


NewRun = Callable[..., Awaitable[FlowRun]]


@pytest.fixture
def new_run(client: PrefectClient) -> NewRun:
    """Makes a run that is running, under a deployment unless told otherwise."""

    async def build(*, deployed: bool = True) -> FlowRun:
        if deployed:
            flow_id = await client.create_flow(a_refund)
            deployment = await client.create_deployment(flow_id, name=f"d-{uuid4()}")
            run = await client.create_flow_run_from_deployment(deployment)
        else:
            run = await client.create_flow_run(a_refund, state=Pending())
        await move(client, run.id, Pending())
        assert await move(client, run.id, Running()) is SetStateStatus.ACCEPT
        return run

    return build


async def move(client: PrefectClient, run_id: UUID, state: State[Any]) -> SetStateStatus:
    return (await client.set_flow_run_state(run_id, state)).status


async def ask(client: PrefectClient, run_id: UUID, key: str) -> State[Any]:
    """Suspend the run as `asuspend_flow_run` does, with the schema of the question."""
    state: State[Any] = Suspended(pause_key=key)
    keyset = keyset_from_paused_state(state)
    state.state_details.run_input_keyset = {str(part): key for part, key in keyset.items()}
    assert await move(client, run_id, state) is SetStateStatus.ACCEPT
    schema = json.dumps(Question.model_json_schema())
    await client.create_flow_run_input(run_id, key=keyset["schema"], value=schema)
    return state


def test_the_server_needs_a_fastapi_before_0_155() -> None:
    pinned = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    fastapi = next(r for r in map(Requirement, pinned) if r.name == "fastapi")
    assert not fastapi.specifier.contains("0.155.0")
    assert fastapi.specifier.contains(version("fastapi"))


@pytest.mark.anyio
async def test_a_pause_key_that_was_used_is_refused_so_each_attempt_needs_a_fresh_one(
    client: PrefectClient, new_run: NewRun
) -> None:
    run = await new_run()
    assert await move(client, run.id, Suspended(pause_key="approval-1")) is SetStateStatus.ACCEPT
    await move(client, run.id, Scheduled())
    await move(client, run.id, Pending())
    await move(client, run.id, Running())
    assert await move(client, run.id, Suspended(pause_key="approval-1")) is SetStateStatus.REJECT
    assert await move(client, run.id, Suspended(pause_key="approval-2")) is SetStateStatus.ACCEPT


@pytest.mark.anyio
async def test_a_run_without_a_deployment_cannot_suspend_but_can_pause(
    client: PrefectClient, new_run: NewRun
) -> None:
    run = await new_run(deployed=False)
    assert await move(client, run.id, Suspended(pause_key="a")) is SetStateStatus.ABORT
    assert await move(client, run.id, Paused(pause_key="b")) is SetStateStatus.ACCEPT


@pytest.mark.anyio
async def test_a_refused_resume_is_answered_with_status_200(
    client: PrefectClient, new_run: NewRun
) -> None:
    run = await new_run()
    resume = f"/flow_runs/{run.id}/resume"
    running = await client._client.post(resume, json={"run_input": {"decision": "approve"}})
    assert (running.status_code, running.json()["status"]) == (200, "ABORT")
    await ask(client, run.id, "approval-1")
    bad = await client._client.post(resume, json={"run_input": {"colour": "red"}})
    assert (bad.status_code, bad.json()["status"]) == (200, "REJECT")
    good = await client._client.post(resume, json={"run_input": {"decision": "approve"}})
    assert (good.status_code, good.json()["status"]) == (201, "ACCEPT")
    second = await client._client.post(resume, json={"run_input": {"decision": "reject"}})
    assert (second.status_code, second.json()["status"]) == (200, "ABORT")


@pytest.mark.anyio
async def test_a_suspended_run_can_be_woken_with_no_answer_at_all(
    client: PrefectClient, new_run: NewRun
) -> None:
    run = await new_run()
    await ask(client, run.id, "approval-1")
    assert await move(client, run.id, Scheduled()) is SetStateStatus.ACCEPT


@pytest.mark.anyio
async def test_a_suspended_run_may_be_completed_by_others_and_is_not_resumed_after_that(
    client: PrefectClient, new_run: NewRun
) -> None:
    run = await new_run()
    await ask(client, run.id, "approval-1")
    assert await move(client, run.id, Completed(name="CarriedByBatch")) is SetStateStatus.ACCEPT
    resumed = await client.resume_flow_run(run.id, {"decision": "approve"})
    assert resumed.status is SetStateStatus.ABORT
    state = (await client.read_flow_run(run.id)).state
    assert state is not None
    assert state.name == "CarriedByBatch"


@pytest.mark.anyio
async def test_where_no_answer_exists_the_input_is_built_from_its_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_answer(*_: object, **__: object) -> None:
        """Nobody has answered."""

    monkeypatch.setattr(run_input, "aread_flow_run_input", no_answer)
    keyset = keyset_from_paused_state(Suspended(pause_key="approval-1"))
    loaded = await QuestionWithDefault.aload(keyset, flow_run_id=uuid4())
    assert loaded.decision == "approve", "approved by nobody: this is why ours has no default"
    with pytest.raises(ValidationError):
        await Question.aload(keyset, flow_run_id=uuid4())


@pytest.mark.anyio
async def test_the_timeout_of_a_suspension_may_be_none_so_prefect_never_fails_a_waiting_run(
    client: PrefectClient, new_run: NewRun
) -> None:
    assert inspect.signature(asuspend_flow_run).parameters["timeout"].default is None
    run = await new_run()
    await move(client, run.id, Suspended(timeout_seconds=None, pause_key="a"))
    state = (await client.read_flow_run(run.id)).state
    assert state is not None
    assert state.state_details.pause_timeout is None


def test_a_pause_in_process_has_a_timeout_of_an_hour_unless_told_otherwise() -> None:
    assert inspect.signature(apause_flow_run).parameters["timeout"].default == 3600


def test_the_default_cache_policy_includes_the_code_so_a_deploy_would_repeat_a_task() -> None:
    assert isinstance(DEFAULT, CompoundCachePolicy)
    assert TASK_SOURCE in DEFAULT.policies
    assert RUN_ID in DEFAULT.policies


def test_concurrency_leases_live_in_memory_unless_told_otherwise() -> None:
    default = ServerConcurrencySettings.model_fields["lease_storage"].default
    assert default.endswith("lease_storage.memory")


@pytest.mark.parametrize(
    "name",
    [
        "_emit_flow_run_submitted_event",
        "_emit_flow_run_executed_event",
        "_mark_flow_run_as_cancelled",
        "_propose_crashed_state",
    ],
)
def test_the_worker_has_the_parts_that_ours_is_built_on(name: str) -> None:
    assert callable(getattr(BaseWorker, name))
