"""What a piece of work costs the process that does it, and its children."""

import json
import resource
import time
from collections.abc import Awaitable, Callable


async def measured(refunds: int, work: Callable[[], Awaitable[object]]) -> None:
    """Do the work and print its cost for so many refunds as one line of JSON."""
    cpu_before, began = _cpu_seconds(), time.perf_counter()
    await work()
    print(
        json.dumps(
            {
                "refunds": refunds,
                "seconds": time.perf_counter() - began,
                "cpu_seconds": _cpu_seconds() - cpu_before,
                # Linux gives kilobytes.
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
            }
        )
    )


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
