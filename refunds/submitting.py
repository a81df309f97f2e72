"""Requests come in: all of them are taken or none, and their runs are started."""

import asyncio
from collections.abc import Sequence
from typing import Any

from refunds.errors import SystemUnavailable
from refunds.ledger import requests
from refunds.models import RefundRequest, State
from refunds.settings import settings
from refunds.values import Value
from tasks import books, records, runs

# How many runs are launched at the same time: Prefect's SQLite takes one writer, and a few
# requests in flight keep it busy.
_LAUNCHES_AT_ONCE = 4

Row = dict[str, Any]


class Submitted(Value):
    """What the entry point hands out.

    `run_id` is None when Prefect could not be reached: the request is safe in the ledger and the
    sweep launches it. Refunds that are carried together share one run.
    """

    refund_id: str
    run_id: str | None
    state: State


async def submit(taken: Sequence[RefundRequest], lane: str) -> list[Submitted]:
    """Take the requests and start their runs: one each, or one for all where they are many."""
    await asyncio.to_thread(records.check_against_shop, list(taken))
    together_from = settings().batch_from if lane == "now" else None
    rows = await asyncio.to_thread(
        requests.submit, books.ledger(), taken, lane, together_from=together_from
    )
    carried_by = await _start_batches(rows)
    gate = asyncio.Semaphore(_LAUNCHES_AT_ONCE)
    is_away = False

    async def start(row: Row) -> Submitted:
        nonlocal is_away
        run_id = row["run_id"] or carried_by.get(row["batch_id"])
        if run_id is None and row["lane"] == "now" and row["outcome"] is None:
            async with gate:
                # One failure is enough: the sweep starts the rest when Prefect is back.
                run_id = None if is_away else await _launch(row["refund_id"])
                is_away = run_id is None
        return Submitted(refund_id=row["refund_id"], run_id=run_id, state=State(row["state"]))

    return list(await asyncio.gather(*(start(row) for row in rows)))


async def _start_batches(rows: Sequence[Row]) -> dict[str, str | None]:
    """Start the run of each batch among these rows that has none; run ids by batch."""
    without_run = {
        row["batch_id"] for row in rows if row["lane"] == "batch" and row["run_id"] is None
    }
    started: dict[str, str | None] = {}
    for batch_id in sorted(without_run):
        try:
            started[batch_id] = await runs.launch_batch(batch_id)
        except SystemUnavailable:
            # The requests are safe in the ledger; the sweep starts it when Prefect is back.
            started[batch_id] = None
    return started


async def _launch(refund_id: str) -> str | None:
    try:
        return await runs.launch(refund_id)
    except SystemUnavailable:
        return None
