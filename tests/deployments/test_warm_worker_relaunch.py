"""When a worker looks for runs that a dead one left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from deployments.warm_worker_relaunch import Relaunching

_looks: list[str] = []
_LOGGER = logging.getLogger(__name__)


async def look() -> int:
    """Stands for the pool's own function."""
    _looks.append("looked")
    if len(_looks) == 1:
        raise ConnectionError("the ledger is away")
    return 0


async def find() -> int:
    """Stands for one that has found a lost run."""
    return 1


def _relaunching(
    interval_seconds: float = 3_600, on_found: Callable[[], None] = lambda: None
) -> Relaunching:
    return Relaunching(interval_seconds, on_found)


async def _looked(count: int) -> None:
    # Another thread calls it, so there is no event of this loop to wait for.
    while len(_looks) < count:  # noqa: ASYNC110 - as said above
        await asyncio.sleep(0)


def test_it_looks_at_once_and_again_after_a_failure_and_when_a_run_crashed() -> None:
    _looks.clear()

    async def story() -> None:
        relaunching = _relaunching()
        looking = asyncio.create_task(relaunching.at_intervals(f"{__name__}:look", _LOGGER))
        await _looked(1)
        while len(_looks) < 2:
            relaunching.soon()
            await asyncio.sleep(0)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking

    asyncio.run(asyncio.wait_for(story(), 30))


def test_it_looks_again_after_its_interval() -> None:
    _looks.clear()

    async def story() -> None:
        relaunching = _relaunching(0.01)
        looking = asyncio.create_task(relaunching.at_intervals(f"{__name__}:look", _LOGGER))
        await _looked(3)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking

    asyncio.run(asyncio.wait_for(story(), 30))


def test_what_nobody_has_begun_waits_until_it_has_looked_for_what_was_begun() -> None:
    told: list[str] = []

    async def story() -> None:
        relaunching = _relaunching(on_found=lambda: told.append("found"))
        polling = asyncio.create_task(relaunching.first_look())
        polling.add_done_callback(lambda _: told.append("polls"))
        looking = asyncio.create_task(relaunching.at_intervals(f"{__name__}:find", _LOGGER))
        await polling
        await relaunching.first_look()
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking

    asyncio.run(asyncio.wait_for(story(), 30))
    assert told == ["found", "polls"]


def test_a_pool_without_such_a_function_has_nothing_to_look_for() -> None:
    async def story() -> None:
        relaunching = _relaunching()
        await relaunching.at_intervals("", _LOGGER)
        await relaunching.first_look()

    asyncio.run(asyncio.wait_for(story(), 30))
