"""The engine's batch: submits a file's requests as one batch and carries it in this process.

`python -m benchmarks.carried NAME COUNT REVIEW_EVERY`, in the environment of a stack whose worker
does not run. What it prints is of the flow run alone.
"""

import asyncio
import gc
import sys


async def main() -> None:
    """Submit, then carry."""
    from benchmarks.measured import measured
    from benchmarks.shop import requests
    from flows.batch import batch
    from refunds.ledger import requests as ledger_requests
    from refunds.models import RefundRequest
    from tasks import books

    name, count, review_every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    wanted = [
        RefundRequest.model_validate(request)
        for request in requests(name, count, review_every=review_every)
    ]
    rows = ledger_requests.submit(books.ledger(), wanted, together_from=1)
    batch_id = str(rows[0]["batch_id"])
    # A run knows its batch's name and reads the rest from the ledger.
    del wanted, rows
    # As the worker's template does before it forks: what was imported is never looked at again.
    gc.collect()
    gc.freeze()
    await measured(count, lambda: batch(batch_id))


if __name__ == "__main__":
    asyncio.run(main())
