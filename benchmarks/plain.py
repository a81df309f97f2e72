"""Plain Prefect: the six calls that act, as six persisted tasks of one flow run a refund.

`python -m benchmarks.plain OUTSIDE_URL COUNT`, with PREFECT_API_URL set.
"""

import asyncio
import sys
from typing import Any

import httpx
from prefect import flow, task

from benchmarks.measured import measured
from benchmarks.shop import requests

# More at once makes its server slower, not the whole faster.
_AT_ONCE = 16

_CALLS = (
    ("logistics/v1/labels", "create_return_label"),
    ("coupons/v1/coupons", "issue_coupon"),
    ("gateway/v1/refunds", "issue_refund"),
    ("crm/v1/cases", "sync_crm"),
    ("notices/v1/messages", "notify_customer"),
    ("notices/v1/messages", "notify_service"),
)

_clients: list[httpx.AsyncClient] = []


@task(persist_result=True, retries=3)
async def call(path: str, step: str, request: dict[str, Any]) -> dict[str, Any]:
    """One call."""
    key = f"{request['refund_id']}:{step}"
    content: dict[str, Any] = {"json": {"refund_id": request["refund_id"], "step": step}}
    if path.startswith("gateway"):
        charge = request["refund_to"].replace("card", "ch")
        content = {"data": {"charge": charge, "amount": str(request["amount_minor"])}}
    answer = await _clients[0].post(f"/{path}", headers={"Idempotency-Key": key}, **content)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


@flow(persist_result=True)
async def refund(request: dict[str, Any]) -> None:
    """One refund."""
    for path, step in _CALLS:
        await call(path, step, request)


async def main() -> None:
    """Refund so many, with a fixed number under way."""
    address, count = sys.argv[1], int(sys.argv[2])
    gate = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        _clients.append(client)

        async def one(request: dict[str, Any]) -> None:
            async with gate:
                await refund(request)

        async def all_of_them() -> None:
            await asyncio.gather(*(one(request) for request in requests("plain", count)))

        await measured(count, all_of_them)


if __name__ == "__main__":
    asyncio.run(main())
