"""How soon, through the whole stack of `refunds up`: `python -m benchmarks latency`."""

import statistics
from typing import Any

from benchmarks import asked
from benchmarks.place import place, whole_stack

Found = dict[str, Any]


def measure(kind: str) -> Found:
    """Submission to last effect, decision to payment one by one, and fifty at once."""
    with place(kind, asked.COUNTS) as where:
        floor = where.floor()
        with whole_stack(where):
            found = where.run("benchmarks.asked")
    return {
        "kind": kind,
        "floor": floor,
        "submit_to_last_effect": _quantiles(found["singles"]),
        "decision_to_payment": _quantiles(found["decisions"]),
        "fifty_at_once_seconds": max(found["fifty"]),
    }


def _quantiles(seconds: list[float]) -> Found:
    return {
        "count": len(seconds),
        "p50": statistics.median(seconds),
        "p95": statistics.quantiles(seconds, n=20)[-1],
    }
