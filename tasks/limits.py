"""How much a system is sent at once and a second, over all processes, by Prefect's limits.

Prefect counts for everybody; this process counts for itself as well, so that it keeps to the
numbers while Prefect is away. A slot is leased for one call and never renewed: a lease that is
lost, with a server that restarts or a process that dies, stops nobody and comes back by itself.
"""

import asyncio
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient

from refunds.errors import SystemBusy
from refunds.names import limit_name, rate_name
from refunds.settings import Limit, settings
from tasks import runs

# Longer than one call with its pauses (42 s): who holds a slot longer has died.
_LEASE_SECONDS = 60

# How long a call waits for its turn. With the call itself it stays inside the refund's lease.
_TURN_SECONDS = 4.0

# How long Prefect is not asked after it did not answer.
_AWAY_SECONDS = 30.0

# A slot is granted in milliseconds; a server that needs longer is down or drowning.
_ANSWER_SECONDS = 3.0

# How soon a slot that was taken is asked for again.
_AGAIN_SECONDS = 0.2

_GONE = (httpx.HTTPError, OSError, TimeoutError)


_Mode = Literal["concurrency", "rate_limit"]


@dataclass
class _Gate:
    """One system's turns in this process's loop."""

    limit: Limit
    turns: asyncio.Semaphore
    # Not before this time of the loop's clock is the next call sent.
    next_at: float = 0.0


@dataclass
class _Loop:
    """What one event loop keeps: a client, the gates, and when Prefect was found away."""

    client: PrefectClient | None = None
    gates: dict[str, _Gate] = field(default_factory=dict)
    prefect_away_until: float = 0.0


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()


@asynccontextmanager
async def turn(system: str) -> AsyncIterator[None]:
    """Hold one of the system's turns. Raises SystemBusy when none comes free in time."""
    limit = settings().limits.get(system)
    if limit is None:
        yield
        return
    gate = _gate(system, limit)
    ends_at = time.monotonic() + _TURN_SECONDS
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            await gate.turns.acquire()
    except TimeoutError as error:
        raise SystemBusy(system, "our own limit for it is used up", 0) from error
    try:
        await _pace(gate, ends_at, system)
        lease = await _granted(system, limit, ends_at)
        try:
            yield
        finally:
            if lease is not None:
                await _give_back(lease)
    finally:
        gate.turns.release()


async def _pace(gate: _Gate, ends_at: float, system: str) -> None:
    """This process's own rate: calls are sent one interval apart."""
    if gate.limit.per_second is None:
        return
    now = time.monotonic()
    sends_at = max(now, gate.next_at)
    if sends_at > ends_at:
        raise SystemBusy(system, "our own rate for it is used up", 0)
    gate.next_at = sends_at + 1 / gate.limit.per_second
    await asyncio.sleep(sends_at - now)


async def _granted(system: str, limit: Limit, ends_at: float) -> UUID | None:
    """The lease on a shared slot; None where Prefect is away, and this process counts alone."""
    ours = _loop()
    if time.monotonic() < ours.prefect_away_until:
        return None
    try:
        if limit.per_second is not None:
            await _taken(system, rate_name(system), "rate_limit", ends_at)
        if limit.at_once is not None:
            return await _taken(system, limit_name(system), "concurrency", ends_at)
    except _GONE:
        ours.prefect_away_until = time.monotonic() + _AWAY_SECONDS
    return None


async def _taken(system: str, name: str, mode: _Mode, ends_at: float) -> UUID:
    """Take a slot of one limit as soon as there is one; a limit that nobody set up lets all in."""
    client = await _client()
    while True:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await client.increment_concurrency_slots_with_lease(
                    names=[name], slots=1, mode=mode, lease_duration=_LEASE_SECONDS
                )
            return UUID(answer.json()["lease_id"])
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.LOCKED:
                raise
            # Prefect's own hint is made for long tasks; a call gives its slot back in a second.
            pause = min(_AGAIN_SECONDS, float(error.response.headers.get("Retry-After", "1")))
        if time.monotonic() + pause > ends_at:
            raise SystemBusy(system, "all processes together use up its limit", 0)
        await asyncio.sleep(pause)


async def _give_back(lease: UUID) -> None:
    """A slot that cannot be given back now comes back when its lease ends."""
    with suppress(*_GONE):
        async with asyncio.timeout(_ANSWER_SECONDS):
            await (await _client()).release_concurrency_slots_with_lease(lease_id=lease)


async def close() -> None:
    """Close this loop's connection to Prefect."""
    ours = _loops.pop(asyncio.get_running_loop(), None)
    if ours is not None and ours.client is not None:
        await ours.client.__aexit__(None, None, None)


async def _client() -> PrefectClient:
    """One for all calls of a loop: making one costs more than a hundred of its calls."""
    ours = _loop()
    if ours.client is None:
        client = runs.prefect()
        await client.__aenter__()
        ours.client = client
    return ours.client


def _gate(system: str, limit: Limit) -> _Gate:
    gates = _loop().gates
    if system not in gates or gates[system].limit != limit:
        gates[system] = _Gate(limit, asyncio.Semaphore(limit.at_once or 1_000))
    return gates[system]


def _loop() -> _Loop:
    return _loops.setdefault(asyncio.get_running_loop(), _Loop())
