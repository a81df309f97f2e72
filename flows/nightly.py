"""The overnight batch: what was left to the night, in key order, from where it stood."""

from datetime import date
from typing import Any

from prefect import flow

from flows.batch import work_off
from tasks.batch import batches


@flow(name="nightly", persist_result=False)
async def nightly(night: date | None = None) -> Any:
    """Carry every refund left to the night as far as it goes without anybody."""
    return await work_off(await batches.open_night(night))
