"""The night's batch: take what was left to it, by key order, and start each refund's run."""

from datetime import date
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from refunds.ledger import nights
from tasks import books, http, runs, steps

# How many refunds are started between two notes of how far the night has got.
CHUNK = 50


@task(name="open_night", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=30)
async def open_night(night: date | None) -> tuple[date, str]:
    """Begin tonight's batch, or go on with it; returns its date and where it stands."""
    return nights.begin(books.ledger(), night)


@task(name="next_chunk", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=30)
async def next_chunk(cursor: str) -> list[str]:
    """The next refunds that are due, in key order."""
    return nights.due(books.ledger(), cursor, CHUNK)


@task(
    name="start_chunk",
    cache_policy=NO_CACHE,
    persist_result=False,
    # Starting a refund twice starts it once, so a chunk may be started again.
    **steps.QUICK_RETRIES,
    timeout_seconds=300,
)
async def start_chunk(night: date, refund_ids: list[str]) -> str:
    """Start each refund's run and note how far the night has got; returns the new cursor."""
    for refund_id in refund_ids:
        await runs.launch(refund_id)
    nights.advance(books.ledger(), night, refund_ids[-1], len(refund_ids))
    return refund_ids[-1]


@task(
    name="close_night",
    cache_policy=NO_CACHE,
    persist_result=False,
    # The report carries the night's key, so sending it again shows it once.
    **steps.QUICK_RETRIES,
    timeout_seconds=60,
)
async def close_night(night: date) -> dict[str, Any]:
    """Close the night and report it to operations."""
    summary = nights.finish(books.ledger(), night)
    key = f"night-{night.isoformat()}-{summary['submitted']}"
    body = {
        "refund_id": f"night-{night.isoformat()}",
        "audience": "operations",
        "to": "operations",
        "subject": f"Night of {night.isoformat()}: {summary['submitted']} refunds started",
        "body": f"Started {summary['submitted']} refunds.",
        "reference": key,
    }
    await http.call("notices", "POST", "/v1/messages", key=key, json=body)
    return summary
