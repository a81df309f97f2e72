"""One thread of this process writes to the ledger for the batch: no two of its transactions meet.

The event loop goes on with the calls meanwhile, and on SQLite nobody waits for the write lock.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, TypeVar

from refunds.ledger import Ledger
from tasks import books

T = TypeVar("T")


@lru_cache(maxsize=1)
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="ledger")


async def write(work: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """Call `work(ledger, …)` in the writer's thread; in the order of the calls."""
    ledger: Ledger = books.ledger()
    call = partial(work, ledger, *arguments, **more)
    return await asyncio.get_running_loop().run_in_executor(_thread(), call)
