"""Starts a warm worker: `python -m deployments.warm_worker --pool NAME [--limit N]`.

Does what `prefect worker start` does, without asking the server for the pool's type
first, and with a gentler second signal: the first SIGTERM or SIGINT drains, the second
stops the runs that are left and schedules them again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import signal
import sys
from typing import TYPE_CHECKING, cast

from deployments import anticipated

if TYPE_CHECKING:
    from deployments.warm_worker_type import WarmProcessWorker


async def serve(worker: WarmProcessWorker) -> None:
    """Run the worker until a signal has ended it."""
    working = asyncio.create_task(worker.start())

    def heed_signal() -> None:
        if working.cancelling():
            worker.hurry()
        else:
            working.cancel()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, heed_signal)
    with contextlib.suppress(asyncio.CancelledError):
        await working


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deployments.warm_worker")
    parser.add_argument("--pool", required=True, help="work pool to take runs from")
    parser.add_argument("--queue", action="append", help="only this work queue (repeatable)")
    parser.add_argument("--limit", type=int, help="flow runs at a time; default: no limit")
    parser.add_argument("--name", help="name of the worker; default: a random one")
    options = parser.parse_args()
    begun = anticipated.begin(options.pool)
    # Prefect, which takes as long to import as the template does meanwhile.
    from deployments.warm_worker_type import WarmProcessWorker

    worker = WarmProcessWorker(
        work_pool_name=options.pool,
        work_queues=options.queue,
        limit=options.limit,
        name=options.name,
    )
    worker.begun = begun
    # Its log says what it does when it does it, also where it is a file.
    for stream in (sys.stdout, sys.stderr):
        cast("io.TextIOWrapper", stream).reconfigure(line_buffering=True)
    asyncio.run(serve(worker))


if __name__ == "__main__":
    main()
