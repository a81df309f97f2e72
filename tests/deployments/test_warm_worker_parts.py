"""The parts of the warm worker that can be judged without a server."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import warm_flows
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.context import get_settings_context
from prefect.events import Event
from prefect.states import (
    Cancelling,
    Completed,
    Crashed,
    Pending,
    Running,
    Scheduled,
    Suspended,
)

from deployments import warm_run, warm_worker_wake
from deployments.forked_child import Child
from deployments.process_identity import ProcessIdentity
from deployments.template import Template, TemplateBrokenError, TemplateOrder
from deployments.warm_run import preloaded_flow
from deployments.warm_worker_endings import Attempt, Wish, is_left_by
from tests.house.patience import PATIENCE_SECONDS

_HERE = Path(__file__).parent


def a_deployment(**facts: Any) -> DeploymentResponse:
    facts = {"path": str(_HERE), **facts}
    return DeploymentResponse(name="any", flow_id=uuid4(), **facts)


@pytest.mark.parametrize(
    "entrypoint",
    [
        "warm_flows.py:trace",
        "./warm_flows.py:trace",
        "warm_flows:trace",
        "warm_flows.trace",
    ],
)
def test_every_way_to_name_an_imported_flow_finds_it(
    entrypoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(_HERE.parent)
    assert preloaded_flow(a_deployment(entrypoint=entrypoint)) is warm_flows.trace
    assert Path.cwd() == _HERE


def test_a_pull_step_that_sets_the_directory_is_honoured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(_HERE.parent)
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(_HERE)}}
    deployment = a_deployment(entrypoint="warm_flows.py:trace", path=None, pull_steps=[step])
    assert preloaded_flow(deployment) is warm_flows.trace


@pytest.mark.parametrize(
    "facts",
    [
        {"entrypoint": "warm_flows.py:trace", "path": "/elsewhere"},
        {"entrypoint": "warm_flows.trace", "path": "/elsewhere"},
        {"entrypoint": "warm_flows.py:EDITION"},
        {"entrypoint": "unknown.py:trace"},
        {"entrypoint": "warm_flows.py:trace", "storage_document_id": uuid4()},
        {
            "entrypoint": "warm_flows.py:trace",
            "pull_steps": [{"prefect.deployments.steps.git_clone": {"repository": "r"}}],
        },
    ],
)
def test_code_from_anywhere_else_is_left_to_prefect(facts: dict[str, Any]) -> None:
    assert preloaded_flow(a_deployment(**facts)) is None


def test_a_process_is_known_again_by_what_is_written_of_it() -> None:
    written = str(ProcessIdentity.of_this_process())
    read = ProcessIdentity.parse(written)
    assert read is not None
    assert read.pid == os.getpid()
    assert read.is_local
    assert read.is_alive()


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    here = ProcessIdentity.of_this_process()
    assert not ProcessIdentity.local(here.pid, f"{here.born}0").is_alive()


@pytest.mark.parametrize("text", [None, "", "1234", "host:1234", "a/b/c/d"])
def test_what_other_workers_write_is_no_identity(text: str | None) -> None:
    assert ProcessIdentity.parse(text) is None


@pytest.mark.parametrize(
    ("state", "wish", "is_ours", "expected"),
    [
        (Running(), None, True, True),
        (Pending(), None, True, True),
        (Running(), None, False, False),
        (Completed(), None, True, False),
        (Crashed(), None, True, False),
        (Crashed(), Wish.CANCEL, True, False),
        (Cancelling(), Wish.CANCEL, True, True),
        (Suspended(), None, True, False),
        (Scheduled(), None, True, False),
        (Scheduled(), Wish.RESCHEDULE, True, False),
    ],
)
def test_only_what_an_attempt_left_behind_is_its_to_report(
    state: State[Any], wish: Wish | None, is_ours: bool, expected: bool
) -> None:
    child = Child(ProcessIdentity.local(1, "2"))
    owner = str(child.identity) if is_ours else "another/0/1/2"
    run = FlowRun(flow_id=uuid4(), state=state, infrastructure_pid=owner)
    attempt = Attempt(run, child, wish=wish, is_recorded=True)
    assert is_left_by(attempt, run) is expected


async def _start_with_a_thread_starter(directory: Path) -> None:
    (directory / "threading_module.py").write_text(
        "import threading, time\n"
        "hum = threading.Thread(target=time.sleep, args=(60,), name='hum')\n"
        "hum.start()\n"
    )
    environment = tuple(sorted(os.environ.items()))
    order = TemplateOrder(("threading_module",), environment, str(directory))
    await Template(order).start()


def test_a_module_that_starts_threads_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TemplateBrokenError, match="started the threads hum"):
        asyncio.run(_start_with_a_thread_starter(tmp_path))


def test_a_template_did_what_each_child_would_do_first() -> None:
    code = (
        "import deployments.warm_start, threading\n"
        "from prefect._internal.plugins import collections\n"
        "from prefect.client.schemas.objects import FlowRun\n"
        "from tasks import certificates\n"
        "assert FlowRun.__pydantic_complete__\n"
        "assert collections._collections\n"
        "assert certificates._read.cache_info().currsize == 1\n"
        "assert len(threading.enumerate()) == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=_HERE.parents[1])


def test_only_a_setting_of_the_run_makes_its_child_read_the_settings_again() -> None:
    before = get_settings_context()
    with warm_run._settings(["PREFECT__FLOW_RUN_ID", "REFUNDS_HOME"]):
        assert get_settings_context() is before
    with warm_run._settings(["PREFECT__FLOW_RUN_ID", "PREFECT_LOGGING_LEVEL"]):
        assert get_settings_context() is not before


def test_output_outlives_its_reader() -> None:
    code = (
        "from deployments.forkserver_child import outlive_readers; outlive_readers()\n"
        "import sys; sys.stdin.readline(); print('unheard'); print('by anyone')\n"
        "sys.exit(7)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=_HERE.parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdout.close()
    writer.stdin.write(b"go\n")
    writer.stdin.close()
    assert writer.wait() == 7


class _Stream:
    """An event stream that breaks as often as it is told, then delivers."""

    def __init__(self, failures: int, events: list[Event]) -> None:
        self.connections = 0
        self._failures = failures
        self._events = events

    @asynccontextmanager
    async def connect(self, **_: Any) -> AsyncIterator[AsyncIterator[Event]]:
        self.connections += 1
        if self.connections <= self._failures:
            raise ConnectionError("the server is away")
        yield self._deliver()

    async def _deliver(self) -> AsyncIterator[Event]:
        for event in self._events:
            yield event
        await asyncio.Event().wait()


def _state_event(run_id: UUID, state_type: str) -> Event:
    return Event.model_validate(
        {
            "event": "prefect.flow-run.any",
            "resource": {
                "prefect.resource.id": f"prefect.flow-run.{run_id}",
                "prefect.state-type": state_type,
            },
        }
    )


def test_a_broken_event_stream_is_taken_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warm_worker_wake, "_RETRY_FIRST_SECONDS", 0.0)
    run_id = uuid4()
    events = [_state_event(run_id, kind) for kind in ("SCHEDULED", "CANCELLING")]
    stream = _Stream(failures=2, events=events)
    monkeypatch.setattr(warm_worker_wake, "get_events_subscriber", stream.connect)
    woken: list[str] = []

    async def listen_until_cancelling() -> UUID:
        cancelled = asyncio.get_running_loop().create_future()
        listening = asyncio.create_task(
            warm_worker_wake.listen(
                uuid4(),
                lambda: woken.append("scheduled"),
                cancelled.set_result,
                logging.getLogger(__name__),
            )
        )
        found: UUID = await asyncio.wait_for(cancelled, PATIENCE_SECONDS)
        listening.cancel()
        return found

    assert asyncio.run(listen_until_cancelling()) == run_id
    assert stream.connections == 3
    # Once for the connection, which may have come too late for an event; once for it.
    assert woken == ["scheduled", "scheduled"]


@pytest.mark.parametrize(
    ("name", "is_named"), [("trace-one", True), ("sassy-saiga", False), ("", False)]
)
def test_a_run_that_has_its_name_already_is_not_named_again(name: str, *, is_named: bool) -> None:
    flow = warm_flows.trace.with_options(flow_run_name="trace-{what.name}")
    run = FlowRun(flow_id=uuid4(), name=name, parameters={"what": {"name": "one", "more": [1]}})
    assert warm_run._is_named(flow, run) is is_named


@pytest.mark.parametrize(
    "template", [None, "trace-{other}", "trace-{what.other}", "{", "{what:>8}", lambda: "a"]
)
def test_a_name_that_cannot_be_told_beforehand_is_left_to_the_engine(template: Any) -> None:
    flow = warm_flows.trace.with_options(flow_run_name=template)
    run = FlowRun(flow_id=uuid4(), name="a", parameters={"what": {"name": "one"}})
    assert not warm_run._is_named(flow, run)
