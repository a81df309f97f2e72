"""One step for many refunds: their intents in one transaction, then the calls, then the results.

Each call is the single chain's own `Action`, under its key. Results are committed in groups, as
they come in: a crash in between loses only results, and those are asked for again by key.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from prefect.logging import get_run_logger
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from refunds.errors import (
    LedgerRefusal,
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
from refunds.ledger import Page, effects, grouped
from refunds.ledger.effects import Effect, Ending, Intent
from refunds.models import Receipt, State
from tasks import outages
from tasks.batch.chunk import Road
from tasks.batch.desk import Desk
from tasks.batch.journaling import Step
from tasks.batch.writer import write
from tasks.effect import Action
from tasks.json_systems import receipt

# What one process can keep under way without the other systems noticing a crowd.
CALLS_AT_ONCE = 32

# The pauses before a call is tried again, in seconds: those of the single chain's steps.
PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Doing:
    """One step for many refunds: what is done, how the journal calls it, what it leaves."""

    action: Callable[[Road], Action]
    step: Callable[[Road], Step]
    output: Callable[[Road, Effect], Any]
    # The state that the refunds come to with it.
    entering: State | None = None
    # Whether a refusal is an ending like another, and not a person's case.
    refusal_is_output: bool = False


def receipt_of(_road: Road, effect: Effect) -> Receipt:
    """What most steps leave."""
    return receipt(effect)


@dataclass
class Endings:
    """What came of a step: its output or an error for each refund, by its id."""

    outputs: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)


async def perform(roads: Sequence[Road], doing: Doing) -> Endings:
    """Do a step once for each of these refunds, however often it is called.

    Raises OperationalError or InterfaceError when the ledger cannot be written.
    """
    ended = Endings()
    calls: dict[str, _Call] = {}
    for road in roads:
        try:
            calls[road.refund_id] = _Call(road, doing, doing.action(road))
        except RefundError as error:
            ended.errors[road.refund_id] = error
    if not calls:
        return ended
    intended = await write(
        grouped.intend,
        {refund_id: call.intent for refund_id, call in calls.items()},
        lambda page, effect: calls[page.refund_id].end(page, effect),
        doing.entering,
    )
    ended.errors |= intended.failed
    ended.errors |= {refund_id: StaleRunner(refund_id) for refund_id in intended.stale}
    doubtful = await outages.doubtful({call.action.system for call in calls.values()})
    gate = asyncio.Semaphore(CALLS_AT_ONCE)
    away: list[DBAPIError] = []

    async def one(refund_id: str, known: Effect) -> None:
        try:
            call = calls[refund_id]
            await _patiently(call, known, desk, gate, is_doubtful=call.action.system in doubtful)
        except RefundError as error:
            ended.errors[refund_id] = error
        except (OperationalError, InterfaceError) as error:
            # The ledger is away: no refund's trouble, and a further run of the batch goes on.
            away.append(error)
        except Exception as error:  # noqa: BLE001 - a bug that one refund meets is that refund's
            get_run_logger().exception("%s: not foreseen", calls[refund_id].action.key)
            ended.errors[refund_id] = NeedsAttention(f"{type(error).__name__}: {error}")
        else:
            ended.outputs[refund_id] = calls[refund_id].output

    async with Desk() as desk:
        await asyncio.gather(*(one(*each) for each in intended.done.items()))
    if away:
        raise away[0]
    return ended


class _Call:
    """One refund's call of a step."""

    def __init__(self, road: Road, doing: Doing, action: Action) -> None:
        self.road, self.doing, self.action = road, doing, action
        self.output: Any = None

    @property
    def intent(self) -> Intent:
        action = self.action
        return Intent(action.key, action.step, action.system, action.request, self.road.fence)

    def end(self, page: Page, effect: Effect | None) -> None:
        """The call has ended with its effect: so has the step."""
        if effect is None or (effect.state == "refused" and not self.doing.refusal_is_output):
            return
        self.output = self.doing.output(self.road, effect)
        self.road.journal.ended(page, self.doing.step(self.road), self.output)


async def _patiently(
    call: _Call, known: Effect, desk: Desk, gate: asyncio.Semaphore, *, is_doubtful: bool
) -> None:
    """Try again what can end otherwise, as often as the single chain does.

    Whether others found the system away is looked up when it was not well this time either: in
    good times ten thousand calls need not ask.
    """
    try:
        for attempt, pause in enumerate(PAUSES_SECONDS, start=1):
            try:
                async with gate, _watched(call.action, is_doubtful=is_doubtful):
                    return await _once(call, known, desk)
            except SystemAway:
                raise
            except StepRetryable as error:
                step = call.doing.step(call.road)
                known = await desk.retried(call.road, step, error, attempt, known)
                is_doubtful = True
                await asyncio.sleep(pause)
        async with gate, _watched(call.action, is_doubtful=is_doubtful):
            return await _once(call, known, desk)
    except StepRetryable as error:
        await desk.failed(call.road, call.doing.step(call.road), error)
        raise


def _watched(action: Action, *, is_doubtful: bool) -> AbstractAsyncContextManager[None]:
    if not is_doubtful:
        return nullcontext()
    return outages.watched(action.system, action.refund_id, action.key)


async def _once(call: _Call, known: Effect, desk: Desk) -> None:
    """Act, or find what an earlier send did. Raises what `send` raises."""
    action, road = call.action, call.road
    key = action.key
    if known.state == "refused":
        return await _refused(call, known.detail or "refused")
    if known.state in ("succeeded", "pending"):
        return None
    if known.sends > 0:
        found = await _asked(action, key)
        if found is not None:
            await desk.record(road, Ending(key, action.judge(found), found), call.end)
            return None
        known = await _sent_again(call, desk)
    try:
        response = await action.send(known.wire_key)
    except SystemUnavailable as error:
        # This send did nothing; what an earlier one did stays as unknown as it was.
        await desk.record(road, Ending(key, known.state, detail=str(error)))
        raise
    except StepUnknown as error:
        await desk.record(road, Ending(key, "unknown", detail=str(error)))
        raise
    except StepBlocked as error:
        await desk.record(road, Ending(key, "blocked", detail=error.detail))
        await desk.failed(road, call.doing.step(road), error)
        raise
    except StepRefused as error:
        await desk.record(road, Ending(key, "refused", detail=error.detail), call.end)
        if not call.doing.refusal_is_output:
            await desk.failed(road, call.doing.step(road), error)
            raise
        return None
    await desk.record(road, Ending(key, action.judge(response), response), call.end)
    return None


async def _sent_again(call: _Call, desk: Desk) -> Effect:
    """Commit that it is about to be sent once more; where it may not be, the step has failed."""
    road = call.road
    try:
        known: Effect = await write(effects.send_again, road.refund_id, call.action.key, road.fence)
    except StaleRunner:
        raise
    except LedgerRefusal as error:
        await desk.failed(road, call.doing.step(road), error)
        raise
    return known


async def _refused(call: _Call, detail: str) -> None:
    """A refusal is final and is raised again on every later call."""
    if not call.doing.refusal_is_output:
        raise StepRefused(call.action.system, detail)


async def _asked(action: Action, key: str) -> dict[str, Any] | None:
    """A refused question says nothing of the send that was asked about."""
    try:
        return await action.ask(key)
    except StepRefused as error:
        raise StepUnknown(error.system, f"it cannot be asked: {error.detail}") from error
