"""Prefect as far as the engine needs it: runs with states, pause keys, results, and a client."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import httpx
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Paused, Scheduled

from tests.simulation.sim_actors import pause


class Suspended(BaseException):
    """The run lies down; its process ends."""


@dataclass
class Run:
    """One flow run on the server."""

    id: uuid.UUID
    parameters: dict[str, Any]
    state: State[Any]
    pause_keys: set[str] = field(default_factory=set)
    inputs: list[Any] = field(default_factory=list)
    deployment_id: str = "refund/refund"
    work_queue_id: str = "default"

    @property
    def is_waiting(self) -> bool:
        """Whether nobody executes it, and nobody is about to."""
        return self.state.type is StateType.PAUSED


@dataclass
class FakePrefect:
    """The server's memory, and the client that `tasks.runs` is given."""

    clock: Callable[[], datetime]
    runs: dict[str, Run] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    is_down: bool = False
    _by_key: dict[str, Run] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def at(self, state: State[Any]) -> State[Any]:
        """The state as of now."""
        return state.model_copy(update={"timestamp": self.clock()})

    def set_state(self, run_id: str, state: State[Any]) -> None:
        """The server takes a state."""
        self.runs[run_id].state = self.at(state)

    def scheduled(self) -> list[Run]:
        """What a worker would take."""
        return [run for run in self.runs.values() if run.state.type is StateType.SCHEDULED]

    async def suspend(self, run_id: str, key: str) -> None:
        """`suspend_flow_run` under a key: refused for a key that was used, as Prefect does."""
        await self._asked()
        run = self.runs[run_id]
        if key in run.pause_keys:
            raise RuntimeError(f"409: run input with the key {key} already exists")
        run.pause_keys.add(key)
        state: State[Any] = Paused(name="Suspended", pause_key=key)
        state.state_details.pause_reschedule = True
        self.set_state(run_id, state)
        await pause("prefect: suspended")
        raise Suspended

    @asynccontextmanager
    async def client(self) -> AsyncIterator[_Client]:
        """What `runs.prefect()` gives."""
        yield _Client(self)

    async def _asked(self) -> None:
        await pause("prefect: asked")
        if self.is_down:
            raise httpx.ConnectError("the server is away")

    def create(
        self, deployment_id: str, parameters: dict[str, Any], key: str, state: State[Any]
    ) -> Run:
        """Schedule a run, or let it sleep from the beginning, once per idempotency key."""
        if key not in self._by_key:
            number = uuid.UUID(int=next(self._numbers))
            run = Run(number, parameters, self.at(state), deployment_id=deployment_id)
            if state.state_details.pause_key:
                run.pause_keys.add(state.state_details.pause_key)
            self.runs[str(run.id)] = self._by_key[key] = run
        return self._by_key[key]


class _Client:
    """The calls that the engine makes."""

    def __init__(self, server: FakePrefect) -> None:
        self._server = server

    async def read_deployment_by_name(self, name: str) -> Any:
        await self._server._asked()
        return SimpleNamespace(id=name)

    async def create_flow_run_from_deployment(self, deployment: str, **given: Any) -> Run:
        await self._server._asked()
        state: State[Any] = given.get("state") or Scheduled()
        run = self._server.create(deployment, given["parameters"], given["idempotency_key"], state)
        await pause("prefect: created")
        return run

    async def read_flow_run(self, run_id: uuid.UUID) -> Run:
        await self._server._asked()
        if str(run_id) not in self._server.runs:
            raise ObjectNotFound(Exception(str(run_id)))
        return self._server.runs[str(run_id)]

    async def read_flow_runs(self, *, flow_run_filter: Any, **_: Any) -> list[Run]:
        await self._server._asked()
        if flow_run_filter.id is None:
            # Not asked by name: that is about the night, and here is none.
            return []
        wanted = {str(run_id) for run_id in flow_run_filter.id.any_}
        return [run for run_id, run in self._server.runs.items() if run_id in wanted]

    async def count_flow_runs(self, *, flow_run_filter: Any) -> int:
        types = flow_run_filter.state.type.any_
        found = await self.read_flow_runs(flow_run_filter=flow_run_filter)
        return sum(run.state.type in types for run in found)

    async def set_flow_run_state(self, run_id: uuid.UUID, state: State[Any]) -> None:
        await self._server._asked()
        self._server.set_state(str(run_id), state)
        await pause("prefect: state set")

    async def update_flow_run(self, _run_id: uuid.UUID, **_: Any) -> None:
        await self._server._asked()

    async def filter_flow_run_input(
        self, flow_run_id: uuid.UUID, key_prefix: str, **_: Any
    ) -> list[Any]:
        await self._server._asked()
        inputs = self._server.runs[str(flow_run_id)].inputs
        return [entry for entry in inputs if entry.key.startswith(key_prefix)]
