"""One step for many refunds: their intents in one transaction, then the calls, then the results.

Each call is the single chain's own `Action`, under its key. Results are committed in groups, as
they come in: a crash in between loses only results, and those are asked for again by key.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

from prefect.logging import get_run_logger

from refunds.errors import (
    NeedsAttention,
    RefundError,
    StaleRunner,
    StepBlocked,
    StepRefused,
    StepRetryable,
    StepUnknown,
    SystemAway,
    SystemUnavailable,
)
from refunds.ledger import effects, grouped
from refunds.ledger.effects import Effect, Ending, Intent
from refunds.models import State
from tasks import outages
from tasks.batch.chunk import Road
from tasks.batch.writer import write
from tasks.effect import Action

# What one process can keep under way without the other systems noticing a crowd.
CALLS_AT_ONCE = 32

# The pauses before a call is tried again, in seconds: those of the single chain's steps.
PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0)

# How long a result waits for others to be committed with it, in seconds: a twentieth of a second
# is not noticed, and gathers what one process can do in that time.
GATHER_SECONDS = 0.05


class _Desk:
    """Takes results in and commits what has come in together, until it is closed."""

    def __init__(self, fences: dict[str, int]) -> None:
        self.fences = fences
        self.last: dict[str, Effect] = {}
        self._in_tray: list[tuple[str, Ending, asyncio.Future[Effect]]] = []
        self._has_work = asyncio.Event()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._clerk = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closed = True
        self._has_work.set()
        await self._clerk

    async def record(self, refund_id: str, ending: Ending) -> Effect:
        """Commit how a send ended; returns the effect. Raises what the ledger refuses."""
        answer: asyncio.Future[Effect] = asyncio.get_running_loop().create_future()
        self._in_tray.append((refund_id, ending, answer))
        self._has_work.set()
        return await answer

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            if not self._is_closed:
                await asyncio.sleep(GATHER_SECONDS)
            taken, self._in_tray = self._in_tray, []
            self._has_work.clear()
            if taken:
                await self._commit(taken)
            if self._is_closed and not self._in_tray:
                return

    async def _commit(self, taken: list[tuple[str, Ending, asyncio.Future[Effect]]]) -> None:
        endings = {refund_id: ending for refund_id, ending, _ in taken}
        fences = {refund_id: self.fences[refund_id] for refund_id in endings}
        try:
            written = await write(grouped.record, endings, fences)
        except Exception as error:  # noqa: BLE001 - whoever waits for it has to hear it
            for _, _, answer in taken:
                answer.set_exception(error)
            return
        self.last |= written.done
        for refund_id, _, answer in taken:
            if refund_id in written.done:
                answer.set_result(written.done[refund_id])
            else:
                answer.set_exception(written.failed.get(refund_id) or StaleRunner(refund_id))


@dataclass
class Endings:
    """What came of a step: an effect or an error for each refund, by its id."""

    effects: dict[str, Effect] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)


async def perform(
    roads: Sequence[Road], action_for: Callable[[Road], Action], entering: State | None = None
) -> Endings:
    """Do a step once for each of these refunds, however often it is called.

    `entering` is the state that the refunds come to with it.
    """
    ended = Endings()
    actions: dict[str, Action] = {}
    for road in roads:
        try:
            actions[road.refund_id] = action_for(road)
        except RefundError as error:
            ended.errors[road.refund_id] = error
    fences = {road.refund_id: road.fence for road in roads}
    intents = {
        refund_id: Intent(action.key, action.step, action.system, action.request, fences[refund_id])
        for refund_id, action in actions.items()
    }
    if not intents:
        return ended
    intended = await write(grouped.intend, intents, entering)
    ended.errors |= intended.failed
    ended.errors |= {refund_id: StaleRunner(refund_id) for refund_id in intended.stale}
    doubtful = await outages.doubtful({action.system for action in actions.values()})
    desk = _Desk(fences)
    gate = asyncio.Semaphore(CALLS_AT_ONCE)

    async def one(refund_id: str, known: Effect) -> None:
        try:
            action = actions[refund_id]
            ended.effects[refund_id] = await _patiently(
                action, known, desk, gate, is_doubtful=action.system in doubtful
            )
        except RefundError as error:
            ended.errors[refund_id] = error
        except Exception as error:  # noqa: BLE001 - a bug that one refund meets is that refund's
            get_run_logger().exception("%s: not foreseen", actions[refund_id].key)
            ended.errors[refund_id] = NeedsAttention(f"{type(error).__name__}: {error}")

    async with desk:
        await asyncio.gather(*(one(*each) for each in intended.done.items()))
    return ended


async def _patiently(
    action: Action,
    known: Effect,
    desk: _Desk,
    gate: asyncio.Semaphore,
    *,
    is_doubtful: bool,
) -> Effect:
    """Try again what can end otherwise, as often as the single chain does.

    Whether others found the system away is looked up when it was not well this time either: in
    good times ten thousand calls need not ask.
    """
    for pause in PAUSES_SECONDS:
        try:
            async with gate, _watched(action, is_doubtful=is_doubtful):
                return await _once(action, known, desk)
        except SystemAway:
            raise
        except StepRetryable:
            known = desk.last.get(action.refund_id, known)
            is_doubtful = True
            await asyncio.sleep(pause)
    async with gate, _watched(action, is_doubtful=is_doubtful):
        return await _once(action, known, desk)


def _watched(action: Action, *, is_doubtful: bool) -> AbstractAsyncContextManager[None]:
    if not is_doubtful:
        return nullcontext()
    return outages.watched(action.system, action.refund_id, action.key)


async def _once(action: Action, known: Effect, desk: _Desk) -> Effect:
    """Act, or find what an earlier send did. Raises what `send` raises."""
    refund_id, key = action.refund_id, action.key
    if known.state == "refused":
        raise StepRefused(action.system, known.detail or "refused")
    if known.state in ("succeeded", "pending"):
        return known
    if known.sends > 0:
        found = await _asked(action, key)
        if found is not None:
            return await desk.record(refund_id, Ending(key, action.judge(found), found))
        known = await write(effects.send_again, refund_id, key, desk.fences[refund_id])
    try:
        response = await action.send(known.wire_key)
    except SystemUnavailable as error:
        # This send did nothing; what an earlier one did stays as unknown as it was.
        await desk.record(refund_id, Ending(key, known.state, detail=str(error)))
        raise
    except StepUnknown as error:
        await desk.record(refund_id, Ending(key, "unknown", detail=str(error)))
        raise
    except StepBlocked as error:
        await desk.record(refund_id, Ending(key, "blocked", detail=error.detail))
        raise
    except StepRefused as error:
        await desk.record(refund_id, Ending(key, "refused", detail=error.detail))
        raise
    return await desk.record(refund_id, Ending(key, action.judge(response), response))


async def _asked(action: Action, key: str) -> dict[str, Any] | None:
    """A refused question says nothing of the send that was asked about."""
    try:
        return await action.ask(key)
    except StepRefused as error:
        raise StepUnknown(error.system, f"it cannot be asked: {error.detail}") from error
