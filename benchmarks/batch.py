"""Batch throughput against the floor, in one run: `python -m benchmarks batch`."""

import json
from typing import Any

from benchmarks.place import Place, place, prefect_server

# What plain Prefect does of these tells its speed; a thousand would take it five minutes.
_PLAIN_COUNT = 60

# A person is asked about every tenth refund of the batch that has to add up.
_REVIEW_EVERY = 10

Found = dict[str, Any]


def measure(kind: str, sizes: list[int], *, reviews: int) -> Found:
    """The floor before and after, plain Prefect, the batch at each size, and one with reviews."""
    orders = {**{f"b{size}": size for size in sizes}, "mixed": reviews}
    with place(kind, orders) as where, prefect_server(where):
        floors = [_floor(where, sizes[0])]
        plain = where.run("benchmarks.plain", where.outside_url, str(_PLAIN_COUNT))
        batches = []
        for size in sizes:
            batches.append(where.run("benchmarks.carried", f"b{size}", str(size), "0"))
            floors.append(_floor(where, sizes[0] + len(floors)))
        mixed = _mixed(where, reviews) if reviews else None
    return {"kind": kind, "floors": floors, "plain": plain, "batches": batches, "mixed": mixed}


def _floor(where: Place, count: int) -> Found:
    return where.run("benchmarks.floor", where.outside_url, str(count))


def _mixed(where: Place, count: int) -> Found:
    """A batch with reviews, and whether every refund of it is accounted for."""
    found = where.run("benchmarks.carried", "mixed", str(count), str(_REVIEW_EVERY))
    listed = [json.loads(line) for line in where.refunds("list", "--json").stdout.splitlines()]
    mine = [row for row in listed if row["refund_id"].startswith("mixed_")]
    waiting = sum(row["state"] == "awaiting_approval" for row in mine)
    paid = sum(row["outcome"] == "PAID" for row in mine)
    checked = where.refunds("verify", check=False)
    return {
        **found,
        "paid": paid,
        "waiting": waiting,
        "verify": (checked.stdout or checked.stderr).strip().splitlines()[-1],
        "is_complete": checked.returncode == 0 and paid + waiting == count,
        "repeats_seen_outside": where.seen()["repeats"],
    }
