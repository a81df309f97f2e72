"""The overnight batch: what was left to the night is started, in key order, from where it stood."""

from datetime import date
from typing import Any

from prefect import flow

from tasks import nights


@flow(name="nightly", persist_result=False)
async def nightly(night: date | None = None) -> dict[str, Any]:
    """Start every refund left to the night; returns the night's summary."""
    night, cursor = await nights.open_night(night)
    while refund_ids := await nights.next_chunk(cursor):
        cursor = await nights.start_chunk(night, refund_ids)
    return await nights.close_night(night)
