"""A caller with a stopwatch: submits, decides, and waits for what the ledger says came of it.

`python -m benchmarks.asked`, in the environment of a whole stack; prints seconds as JSON.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from benchmarks.shop import requests
from refunds.api import AsyncRefunds
from refunds.ledger import effects
from refunds.ledger import requests as requests_of_ledger
from refunds.ledger.effects import key_of
from tasks import books

# The shop's orders by name: each kind of question has its own.
COUNTS = {"warm": 3, "single": 30, "review": 30, "fifty": 50}

# How long anything may take before the stopwatch is put away, in seconds.
_PATIENCE_SECONDS = 300.0

# Nothing is measured by asking: the ledger's own times count. It only must not be a load.
_ASK_SECONDS = 0.05

# Another one than who asked.
_APPROVER = "ann"


async def main() -> None:
    """Measure all of it."""
    async with AsyncRefunds() as engine:
        for request in requests("warm", COUNTS["warm"]):
            await _single(engine, request)
        singles = [await _single(engine, each) for each in requests("single", COUNTS["single"])]
        reviews = await _asked_about(engine, "review")
        decisions = [await _decided(engine, refund_id) for refund_id in reviews]
        fifty = await _asked_about(engine, "fifty")
        together = await _decided_at_once(engine, fifty)
    print(json.dumps({"singles": singles, "decisions": decisions, "fifty": together}))


async def _single(engine: AsyncRefunds, request: dict[str, Any]) -> float:
    began = datetime.now(UTC)
    await engine.submit([request])
    seconds = await _until_done(engine, request["refund_id"], "notify_service", began)
    await _until(partial(_is_over, request["refund_id"]))
    return seconds


async def _asked_about(engine: AsyncRefunds, name: str) -> list[str]:
    """Submit refunds that a person has to decide, and wait until all are asked about."""
    wanted = requests(name, COUNTS[name], review_every=1)
    await engine.submit(wanted)
    for request in wanted:
        await _until(lambda refund_id=request["refund_id"]: _is_asleep(engine, refund_id))
    return [request["refund_id"] for request in wanted]


async def _decided(engine: AsyncRefunds, refund_id: str) -> float:
    began = datetime.now(UTC)
    await engine.decide(refund_id, "approve", person=_APPROVER)
    seconds = await _until_done(engine, refund_id, "issue_refund", began)
    # One by one: the next is decided when this one is through.
    await _until(partial(_is_over, refund_id))
    return seconds


async def _decided_at_once(engine: AsyncRefunds, refund_ids: list[str]) -> list[float]:
    """Fifty doors, and one stopwatch that looks at one refund after the other."""
    began = datetime.now(UTC)
    doors = (engine.decide(refund_id, "approve", person=_APPROVER) for refund_id in refund_ids)
    await asyncio.gather(*doors)
    return [await _until_done(engine, each, "issue_refund", began) for each in refund_ids]


async def _until_done(engine: AsyncRefunds, refund_id: str, step: str, began: datetime) -> float:
    """Seconds until a step's effect was done, by the ledger."""
    key = key_of(refund_id, step)
    await _until(partial(_is_done, key))
    for event in await engine.history(refund_id):
        if event["event"] == "effect.succeeded" and event["data"]["key"] == key:
            return (datetime.fromisoformat(event["at"]) - began).total_seconds()
    raise AssertionError(f"{key} is done, and the history has no word of it")


async def _is_done(key: str) -> bool:
    """One row: whoever asked for whole histories would measure himself."""
    effect = await asyncio.to_thread(effects.read, books.ledger(), key)
    return effect is not None and effect.state == "succeeded"


async def _is_over(refund_id: str) -> bool:
    row = await asyncio.to_thread(requests_of_ledger.read, books.ledger(), refund_id)
    return row["outcome"] is not None


async def _is_asleep(engine: AsyncRefunds, refund_id: str) -> bool:
    events = [event["event"] for event in await engine.history(refund_id)]
    return "wait.started" in events


async def _until(ask: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not (found := await ask()):  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(_ASK_SECONDS)
        return found


if __name__ == "__main__":
    asyncio.run(main())
