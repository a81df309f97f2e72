"""One effect on one system: write the intent, act, write the result.

The second time round nobody knows whether the first send acted, so the system is asked by our
own reference before anything is sent again, and then under the same key.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from refunds.errors import StepBlocked, StepRefused, StepUnknown, SystemUnavailable
from refunds.ledger import effects
from tasks import books, outages

Send = Callable[[str], Awaitable[dict[str, Any]]]
Ask = Callable[[str], Awaitable[dict[str, Any] | None]]
Judge = Callable[[dict[str, Any]], str]


def done(_response: dict[str, Any]) -> str:
    """Most systems have done what they answer with."""
    return "succeeded"


async def cannot_ask(_key: str) -> dict[str, Any] | None:
    """Nobody can be asked: it is sent again, and the receiver tells it by its key."""
    return None


@dataclass(frozen=True)
class Action:
    """One effect on one system, before it is done.

    `send(wire_key)` acts; the other system acts once under that key. `ask(key)` looks for what an
    earlier send did, by our own reference. `judge(response)` names the effect's state (succeeded,
    pending, refused). `attempt` tells a business attempt that is a new one from the first.
    """

    refund_id: str
    step: str
    system: str
    request: dict[str, Any]
    send: Send
    ask: Ask
    judge: Judge = done
    attempt: str | int | None = None

    @property
    def key(self) -> str:
        """`{refund_id}:{step}`, the same at Prefect, in the ledger and on the wire."""
        return effects.key_of(self.refund_id, self.step, self.attempt)


async def perform(action: Action) -> effects.Effect:
    """Do a step once, however often it is called; returns the effect with its response.

    Raises what `send` raises, or SystemAway; a refusal is final and is raised again on every later
    call.
    """
    async with outages.watched(action.system, action.refund_id, action.key):
        return await _performed(action)


async def _performed(action: Action) -> effects.Effect:
    refund_id, key = action.refund_id, action.key
    fence = books.fence(refund_id)
    known = await asyncio.to_thread(
        effects.intend,
        books.ledger(),
        refund_id,
        key,
        step=action.step,
        system=action.system,
        request=action.request,
        fence=fence,
    )
    if known.state == "refused":
        raise StepRefused(action.system, known.detail or "refused")
    if known.state in ("succeeded", "pending"):
        return known
    if known.sends > 0:
        found = await _asked(action.ask, key)
        if found is not None:
            return await _record(refund_id, key, action.judge(found), response=found)
        known = await asyncio.to_thread(effects.send_again, books.ledger(), refund_id, key, fence)
    try:
        response = await action.send(known.wire_key)
    except SystemUnavailable as error:
        # This send did nothing; what an earlier one did stays as unknown as it was.
        await _record(refund_id, key, known.state, detail=str(error))
        raise
    except StepUnknown as error:
        await _record(refund_id, key, "unknown", detail=str(error))
        raise
    except StepBlocked as error:
        await _record(refund_id, key, "blocked", detail=error.detail)
        raise
    except StepRefused as error:
        await _record(refund_id, key, "refused", detail=error.detail)
        raise
    return await _record(refund_id, key, action.judge(response), response=response)


async def found(action: Action) -> effects.Effect | None:
    """The effect when it was done, by the ledger's word or else the system's; nothing is sent.

    Raises StepUnknown or SystemUnavailable when the system cannot be asked.
    """
    known = await asyncio.to_thread(effects.read, books.ledger(), action.key)
    if known is None or known.state == "refused":
        return None
    if known.is_final:
        return known
    if action.ask is cannot_ask:
        raise StepUnknown(action.system, "it may have acted, and cannot be asked")
    answer = await _asked(action.ask, action.key)
    if answer is None:
        return None
    return await _record(action.refund_id, action.key, action.judge(answer), response=answer)


async def _asked(ask: Ask, key: str) -> dict[str, Any] | None:
    """A refused question says nothing of the send that was asked about."""
    try:
        return await ask(key)
    except StepRefused as error:
        raise StepUnknown(error.system, f"it cannot be asked: {error.detail}") from error


async def _record(
    refund_id: str,
    key: str,
    state: str,
    *,
    response: dict[str, Any] | None = None,
    detail: str | None = None,
) -> effects.Effect:
    return await asyncio.to_thread(
        effects.record,
        books.ledger(),
        refund_id,
        key,
        state,
        response=response,
        detail=detail,
        fence=books.fence(refund_id),
    )
