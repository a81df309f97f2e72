"""Processes whose every await is a place to stop, to let others go first, or to be killed."""

from __future__ import annotations

import asyncio
import itertools
import types
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

_pids = itertools.count(1)


async def pause(point: str) -> None:
    """A place where the scheduler may let somebody else go first."""
    if asyncio._get_running_loop() is not None:
        # A part of a process: its other parts may go first as well.
        await asyncio.sleep(0)
    else:
        await _stop(point)


@types.coroutine
def _stop(point: str) -> Generator[str, None, None]:
    yield point


@dataclass(eq=False)
class Process:
    """A process on a host; it dies with the host, or alone."""

    host: str
    run_id: str = ""
    fences: dict[str, int] = field(default_factory=dict)
    pid: int = field(default_factory=lambda: next(_pids))
    is_alive: bool = True

    @property
    def place(self) -> str:
        """How the ledger's leases name it."""
        return f"{self.host}:{self.pid}:0"


@dataclass(eq=False)
class Actor:
    """A coroutine in a process, driven one await at a time."""

    name: str
    process: Process
    work: Coroutine[Any, Any, Any]
    point: str = "begins"
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None

    def step(self) -> None:
        """Go on to the next await."""
        try:
            self.point = self.work.send(None)
        except StopIteration as end:
            self.is_done, self.result = True, end.value
        except BaseException as error:  # noqa: BLE001 - whoever drives it decides what it means
            self.is_done, self.error = True, error

    def kill(self) -> None:
        """As SIGKILL: nothing after this await happens, not even a `finally`."""
        self.is_done = True
        self.process.is_alive = False
