"""How soon after kill -9, in the whole stack of `refunds up`: `python -m benchmarks recovery`."""

from typing import Any

from benchmarks import struck
from benchmarks.place import place, whole_stack

Found = dict[str, Any]


def measure(kind: str) -> Found:
    """The worker with its runs, and the process of a batch, killed again and again."""
    with place(kind, struck.COUNTS) as where, whole_stack(where):
        return {"kind": kind, **where.run("benchmarks.struck")}
