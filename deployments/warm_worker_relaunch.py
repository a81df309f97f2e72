"""Beside its runs, a worker starts again what a dead one left: the pool says by which function."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Coroutine
from logging import Logger, LoggerAdapter
from typing import Any

# A look takes a tenth of a second, and two until its modules are imported; a database that is away
# may hold it up for longer, and what nobody has begun need not wait for that.
_FIRST_LOOK_SECONDS = 10.0


class Relaunching:
    """Calls the pool's recovery function at once, at intervals, and whenever a run has crashed.

    `on_found` is called when it has started runs.
    """

    def __init__(self, interval_seconds: float, on_found: Callable[[], None]) -> None:
        self._interval_seconds = interval_seconds
        self._on_found = on_found
        self._due = asyncio.Event()
        self._has_looked = asyncio.Event()

    async def first_look(self) -> None:
        """Wait until it has looked once: what was begun goes before what nobody has begun."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_looked.wait(), _FIRST_LOOK_SECONDS)
        self._has_looked.set()

    def soon(self) -> None:
        """A run has crashed: look now."""
        self._due.set()

    async def at_intervals(self, target: str, logger: Logger | LoggerAdapter[Any]) -> None:
        """Call `target`, a `module:function`, for ever; without one there is nothing to do."""
        if not target:
            self._has_looked.set()
        while target:
            self._due.clear()
            try:
                # Its databases may make it wait; the worker has heartbeats to send.
                count = await asyncio.to_thread(_call, target)
            except Exception as error:
                # The ledger or Prefect is away: they are asked again.
                logger.warning("Lost runs could not be looked for; trying again: %s", error)
            else:
                if count:
                    logger.info("%d lost runs are started again.", count)
                    self._on_found()
            self._has_looked.set()
            try:
                await asyncio.wait_for(self._due.wait(), self._interval_seconds)
            except TimeoutError:
                continue


def _call(target: str) -> int:
    module, _, name = target.partition(":")
    recover: Callable[[], Coroutine[Any, Any, int]]
    recover = getattr(importlib.import_module(module), name)
    return asyncio.run(recover())
