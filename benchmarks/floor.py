"""The floor: the same seven calls with asyncio and httpx, and nothing that survives a crash.

`python -m benchmarks.floor OUTSIDE_URL COUNT`
"""

import asyncio
import sys
from typing import Any

import httpx

from benchmarks.measured import measured
from benchmarks.shop import requests

# As many refunds under way as the batch has calls.
_AT_ONCE = 32


async def refund(client: httpx.AsyncClient, request: dict[str, Any]) -> None:
    """One refund, step by step."""
    refund_id, order_id = request["refund_id"], request["order_id"]
    charge_id = request["refund_to"].replace("card", "ch")
    about = {"refund_id": refund_id, "order_id": order_id, "customer_id": request["customer_id"]}

    async def post(path: str, step: str, **content: Any) -> None:
        key = f"{refund_id}:{step}"
        answer = await client.post(path, headers={"Idempotency-Key": key}, **content)
        answer.raise_for_status().json()

    charge = await client.get(f"/gateway/v1/charges/{charge_id}")
    assert not charge.raise_for_status().json()["disputed"]
    label = {**about, "item_ids": request["item_ids"], "reference": f"{refund_id}:label"}
    await post("/logistics/v1/labels", "create_return_label", json=label)
    coupon = {**about, "amount_minor": request["goodwill_minor"], "currency": request["currency"]}
    await post("/coupons/v1/coupons", "issue_coupon", json=coupon)
    form = {
        "charge": charge_id,
        "amount": str(request["amount_minor"]),
        # Not `refund_id`: what the engine did not pay must not look like its own in the books.
        "metadata[reference]": refund_id,
        "metadata[order_id]": order_id,
        "metadata[key]": f"{refund_id}:issue_refund",
    }
    await post("/gateway/v1/refunds", "issue_refund", data=form)
    case = {**about, "outcome": "PAID", "amount_minor": request["amount_minor"]}
    await post("/crm/v1/cases", "sync_crm", json=case)
    for audience in ("customer", "service"):
        body = {"audience": audience, "subject": "Your refund", "body": "It is on its way to you."}
        await post("/notices/v1/messages", f"notify_{audience}", json={**about, **body})


async def main() -> None:
    """Refund so many, with a fixed number under way."""
    address, count = sys.argv[1], int(sys.argv[2])
    gate = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:

        async def one(request: dict[str, Any]) -> None:
            async with gate:
                await refund(client, request)

        async def all_of_them() -> None:
            wanted = requests(f"floor{count}", count)
            await asyncio.gather(*(one(request) for request in wanted))

        await measured(count, all_of_them)


if __name__ == "__main__":
    asyncio.run(main())
