"""Beside its runs, a worker starts again what a dead one left: the pool says by which function."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from logging import Logger, LoggerAdapter
from typing import Any


class Relaunching:
    """Calls the pool's recovery function at once, at intervals, and whenever a run has crashed."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._due = asyncio.Event()

    def soon(self) -> None:
        """A run has crashed: look now."""
        self._due.set()

    async def at_intervals(self, target: str, logger: Logger | LoggerAdapter[Any]) -> None:
        """Call `target`, a `module:function`, for ever; without one there is nothing to do."""
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
            try:
                await asyncio.wait_for(self._due.wait(), self._interval_seconds)
            except TimeoutError:
                continue


def _call(target: str) -> int:
    module, _, name = target.partition(":")
    recover: Callable[[], Coroutine[Any, Any, int]]
    recover = getattr(importlib.import_module(module), name)
    return asyncio.run(recover())
