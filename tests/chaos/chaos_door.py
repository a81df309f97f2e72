"""A front door in a process of its own, at which people approve many refunds at the same time."""

from __future__ import annotations

import asyncio
import sys

from refunds.api import AsyncRefunds


async def approve(refund_ids: list[str]) -> None:
    """Approve all of these at once."""
    refunds = AsyncRefunds()
    doors = (refunds.decide(refund_id, "approve", person="mia") for refund_id in refund_ids)
    await asyncio.gather(*doors)


if __name__ == "__main__":
    asyncio.run(approve(sys.argv[1:]))
