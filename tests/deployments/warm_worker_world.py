"""A Prefect server, a project and workers of a test's own, all as real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Cancelling, Suspended
from prefect.workers.process import ProcessWorker

from deployments.warm_worker_type import WarmProcessWorker
from tests.house.patience import PATIENCE_SECONDS, until

REPOSITORY = Path(__file__).parents[2]


@dataclass
class World:
    """One pool with its project; everything started in it is ended with it."""

    client: SyncPrefectClient
    api_url: str
    directory: Path
    name: str
    pool_type: str = "warm-process"
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def project(self) -> Path:
        return self.directory / "project"

    @property
    def source(self) -> Path:
        return self.project / "warm_flows.py"

    def build(self, **defaults: Any) -> World:
        """Write the project, create the pool."""
        self.project.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("warm_flows.py"), self.source)
        worker = WarmProcessWorker if self.pool_type == "warm-process" else ProcessWorker
        template = worker.get_default_base_job_template()
        fields = template["variables"]["properties"]
        defaults = {"working_dir": str(self.project), **defaults}
        if self.pool_type == "warm-process":
            defaults.setdefault("preload", ["warm_flows"])
        for name, value in defaults.items():
            fields[name]["default"] = value
        self.client.create_work_pool(
            WorkPoolCreate(name=self.name, type=self.pool_type, base_job_template=template)
        )
        return self

    def start_worker(self, limit: int = 8, **settings: str) -> subprocess.Popen[bytes]:
        """A worker that practically never polls: events must wake it."""
        environment = {
            **os.environ,
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.directory / "home"),
            "PREFECT_WORKER_QUERY_SECONDS": "600",
            "PYTHONPATH": str(REPOSITORY),
            **settings,
        }
        command = [sys.executable, "-m", "deployments.warm_worker"]
        if self.pool_type != "warm-process":
            environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"
            command = [sys.executable, "-m", "prefect", "worker", "start"]
        log_path = self.directory / "worker.log"
        with log_path.open("ab") as log:
            before = log.tell()
            worker = subprocess.Popen(
                [*command, "--pool", self.name, "--limit", str(limit)],
                env=environment,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(worker)
        until(
            lambda: b"started!" in log_path.read_bytes()[before:],
            "the worker has started",
        )
        return worker

    def submit(self, flow_name: str, **options: Any) -> Run:
        """A run of the flow, through a deployment of its file."""
        # From the pristine file: a test may have broken the project's.
        pristine = Path(__file__).with_name("warm_flows.py")
        flow: Flow[..., Any] = load_flow_from_entrypoint(f"{pristine}:{flow_name}")
        deployment_id = self.client.create_deployment(
            flow_id=self.client.create_flow(flow),
            name=self.name,
            work_pool_name=self.name,
            entrypoint=f"warm_flows.py:{flow_name}",
            path=str(self.project),
        )
        place = self.directory / f"run-{time.time_ns()}"
        place.mkdir()
        run = self.client.create_flow_run_from_deployment(
            deployment_id, parameters={"place": str(place)}, **options
        )
        return Run(self, run.id, place)

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


@dataclass
class Run:
    """One flow run, and the directory where it leaves its traces."""

    world: World
    id: UUID
    place: Path

    def read(self) -> FlowRun:
        return self.world.client.read_flow_run(self.id)

    def state(self) -> State[Any]:
        state = self.read().state
        assert state is not None
        return state

    def count(self, state_type: StateType) -> int:
        """How many times the run has entered states of the type."""
        history = self.world.client.read_flow_run_states(self.id)
        return sum(state.type is state_type for state in history)

    def steps(self) -> list[str]:
        """The state and name of each step on the run's page."""
        wanted = {"flow_runs": {"id": {"any_": [str(self.id)]}}}
        found = self.world.client.request("POST", "/task_runs/filter", json=wanted).json()
        return sorted(f"{step['state']['name']} {step['name'].split('-')[0]}" for step in found)

    def until(self, name: str) -> State[Any]:
        """Wait until the run is in the state of that name."""

        def reached() -> State[Any] | None:
            state = self.state()
            if state.is_final() and state.name != name:
                raise AssertionError(f"{state.name} and not {name}: {state.message}")
            return state if state.name == name else None

        found: State[Any] = until(reached, f"the run is {name}")
        return found

    def trace(self, name: str) -> str:
        """Wait for a trace and read it."""
        path = self.place / name
        until(path.exists, f"the flow has left {name!r} ({self.state()})")
        return path.read_text()

    def pid(self, name: str = "started") -> int:
        return int(self.trace(name).split()[0])

    def let_go(self) -> None:
        (self.place / "go").touch()

    def suspend(self) -> None:
        self.world.client.set_flow_run_state(self.id, Suspended(timeout_seconds=600))

    def cancel(self) -> None:
        self.world.client.set_flow_run_state(self.id, Cancelling())

    def kill(self) -> None:
        os.kill(self.pid(), signal.SIGKILL)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet has."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True
