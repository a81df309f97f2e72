"""What a forked child runs: one flow run, or the hooks of one that has ended.

It does what `python -m prefect.engine` does, with the flow that is already imported.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
from prefect import Flow
from prefect._internal.control_listener import configure_from_env
from prefect._internal.metrics import RunMetrics
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.context import SettingsContext, get_settings_context
from prefect.engine import _drive_run_flow_result, handle_engine_signals
from prefect.filesystems import WritableFileSystem
from prefect.flow_engine import load_flow, run_flow
from prefect.logging.loggers import flow_run_logger
from prefect.results import resolve_result_storage
from prefect.runner._hook_runner import HookRunner
from prefect.settings import Settings
from prefect.states import Crashed
from prefect.utilities.engine import propose_state_sync

from deployments import warm_done, warm_news, warm_spared
from refunds.ledger import LedgerStorage
from tasks import books

_SET_DIRECTORY = "prefect.deployments.steps.set_working_directory"


def execute(payload: dict[str, Any]) -> None:
    """Run the flow run of the payload to its end, suspension or crash.

    The payload is {"flow_run", "deployment" or null, "settings": names of the variables
    that the run sets differently from its template, "in_working_dir": whether the job
    has a directory of its own, "known": what the worker has read for it, if anything}.
    Ends like Prefect's own engine:
    SystemExit 0 for a pause, an abort and a cancellation, 1 for an unexpected error.
    """
    configure_from_env()
    flow_run = FlowRun.model_validate(payload["flow_run"])
    with _settings(payload["settings"]), handle_engine_signals(flow_run.id):
        logger = flow_run_logger(flow_run)
        try:
            flow = _find_flow(flow_run, payload)
        except Exception as error:
            logger.error("The flow could not be loaded.", exc_info=True)
            _report_unloadable(flow_run, error)
            raise
        _spare_requests(flow, flow_run, payload)
        with RunMetrics(flow_run, flow):
            result = run_flow(flow, flow_run=flow_run, error_logger=cast("logging.Logger", logger))
            _drive_run_flow_result(flow, result)


def run_hooks(payload: dict[str, Any]) -> None:
    """Run the flow's hooks for the state that its worker has given or will give it.

    The payload is that of `execute` and {"state"}, Crashed or Cancelling.
    """
    flow_run = FlowRun.model_validate(payload["flow_run"])
    state = State[Any].model_validate(payload["state"])

    async def find(_: FlowRun) -> Flow[Any, Any]:
        return await anyio.to_thread.run_sync(partial(_find_flow, flow_run, payload))

    hooks = HookRunner(resolve_flow=find)
    with _settings(payload["settings"]):
        if state.is_cancelling():
            anyio.run(hooks.run_cancellation_hooks, flow_run, state)
        else:
            anyio.run(hooks.run_crashed_hooks, flow_run, state)


@contextmanager
def _settings(names: list[str]) -> Iterator[None]:
    """Read Prefect's settings again when this run's differ from the template's."""
    # Two underscores mark what belongs to one run, its id for example: not a setting.
    if all(name.startswith("PREFECT__") or not name.startswith("PREFECT_") for name in names):
        yield
        return
    with SettingsContext(profile=get_settings_context().profile, settings=Settings()):
        yield


def _spare_requests(flow: Flow[..., Any], flow_run: FlowRun, payload: dict[str, Any]) -> None:
    """Know and do beforehand what the engine would ask the server, or a step a database, for."""
    warm_spared.watch_for_suspension_beside()
    if flow.isasync:
        warm_news.tell_only_news(flow_run)
    if known := payload.get("known"):
        warm_spared.take_blocks(known["blocks"])
        warm_spared.know_related(flow_run, {**known, "deployment": payload["deployment"]})
    if isinstance(flow.result_storage, str):
        # By its name the engine would ask the server for the block twice.
        flow.result_storage = cast(
            "WritableFileSystem",
            resolve_result_storage(flow.result_storage, _sync=True),  # type: ignore[call-arg]
        )
    if isinstance(flow.result_storage, LedgerStorage):
        if flow_run.empirical_policy.resuming:
            warm_done.pass_over_done_steps()
        # With this run's settings, which a thread of its own would not see.
        connect = partial(copy_context().run, books.connect, flow.result_storage)
        threading.Thread(target=connect, name="connect", daemon=True).start()
    if _is_named(flow, flow_run):
        flow.flow_run_name = None


def _is_named(flow: Flow[..., Any], flow_run: FlowRun) -> bool:
    """Whether the run has the name already that the engine would give it."""
    if not isinstance(flow.flow_run_name, str):
        return False
    # Fields of what is not validated yet are asked for as those of the model will be.
    given = json.loads(json.dumps(flow_run.parameters), object_hook=lambda d: SimpleNamespace(**d))
    with suppress(AttributeError, LookupError, TypeError, ValueError):
        return flow.flow_run_name.format(**vars(given)) == flow_run.name
    return False


def _report_unloadable(flow_run: FlowRun, error: Exception) -> None:
    """Name the real error in the state: the worker only sees an exit code."""
    state: State[Any] = Crashed(message=f"The flow could not be loaded: {error!r}")
    with get_client(sync_client=True) as client:
        propose_state_sync(client, state, flow_run_id=flow_run.id)


def _find_flow(flow_run: FlowRun, payload: dict[str, Any]) -> Flow[..., Any]:
    """The imported flow that the deployment means, or else what Prefect loads."""
    if payload["deployment"] is not None:
        deployment = DeploymentResponse.model_validate(payload["deployment"])
        if flow := preloaded_flow(deployment):
            return flow
    if not payload["in_working_dir"]:
        # Prefect may copy the code of a deployment into the current directory.
        scratch = tempfile.mkdtemp(prefix="prefect-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        os.chdir(scratch)
    return load_flow(flow_run)


def preloaded_flow(deployment: DeploymentResponse) -> Flow[..., Any] | None:
    """The flow an entrypoint names, if the very file it means is imported already.

    Understands `path/to/file.py:name`, `package.module:name` and `package.module.name`,
    below the deployment's directory. None whenever Prefect's own loading could come to
    something else (the code is cloned or downloaded, or is not in the template).
    """
    directory = _code_directory(deployment)
    if directory is None or not deployment.entrypoint:
        return None
    separator = ":" if ":" in deployment.entrypoint else "."
    place, _, name = deployment.entrypoint.rpartition(separator)
    module = _imported_module(place, directory)
    flow = getattr(module, name, None)
    if not isinstance(flow, Flow):
        return None
    os.chdir(directory)
    return flow


def _imported_module(place: str, directory: Path) -> Any:
    """The imported module at a path or dotted name, if its file is in the directory."""
    if not place.endswith(".py"):
        module = sys.modules.get(place)
        path = getattr(module, "__file__", None)
        inside = path and Path(path).resolve().is_relative_to(directory)
        return module if inside else None
    wanted = (directory / place).resolve()
    usual = sys.modules.get(".".join(Path(place).with_suffix("").parts))
    # By its usual name first: to look at a thousand modules copies the memory that they are in.
    if _is_from(usual, wanted):
        return usual
    return next((module for module in [*sys.modules.values()] if _is_from(module, wanted)), None)


def _is_from(module: Any, wanted: Path) -> bool:
    path = getattr(module, "__file__", None)
    # Names first: resolving the paths of a thousand modules would take 10 ms.
    return bool(path and path.endswith(wanted.name) and Path(path).resolve() == wanted)


def _code_directory(deployment: DeploymentResponse) -> Path | None:
    """Where a deployment's code is; None when it is brought from somewhere else."""
    if deployment.storage_document_id is not None:
        return None
    if not deployment.pull_steps:
        return Path(deployment.path or ".").resolve()
    if len(deployment.pull_steps) > 1:
        return None
    [(step, inputs)] = deployment.pull_steps[0].items()
    return Path(inputs["directory"]).resolve() if step == _SET_DIRECTORY else None
