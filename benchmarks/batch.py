"""Batch throughput against the floor, in one run: `python -m benchmarks batch`."""

import json
from typing import Any

from benchmarks.place import Place, place, prefect_server

# What plain Prefect does of these tells its speed; a thousand would take it five minutes.
_PLAIN_COUNT = 60

# A person is asked about every tenth refund.
_REVIEW_EVERY = 10

Found = dict[str, Any]


def measure(kind: str, sizes: list[int]) -> Found:
    """Plain Prefect, a batch without reviews, and one of each size with them; floors between."""
    orders = {"even": sizes[0], **{f"b{size}": size for size in sizes}}
    with place(kind, orders) as where, prefect_server(where):
        plain = where.run("benchmarks.plain", where.outside_url, str(_PLAIN_COUNT))
        floors = [where.floor()]
        batches = [_batch(where, "even", sizes[0], 0)]
        for size in sizes:
            floors.append(where.floor(len(floors)))
            batches.append(_batch(where, f"b{size}", size, _REVIEW_EVERY))
        floors.append(where.floor(len(floors)))
        return {
            "kind": kind,
            "floors": floors,
            "plain": plain,
            "batches": batches,
            "account": _account(where, orders),
        }


def _batch(where: Place, name: str, size: int, review_every: int) -> Found:
    found = where.run("benchmarks.carried", name, str(size), str(review_every))
    return {**found, "review_every": review_every}


def _account(where: Place, orders: dict[str, int]) -> Found:
    """Whether every refund of these batches is where it has to be."""
    listed = [json.loads(line) for line in where.refunds("list", "--json").stdout.splitlines()]
    waiting = sum(row["state"] == "awaiting_approval" for row in listed)
    paid = sum(row["outcome"] == "PAID" for row in listed)
    checked = where.refunds("verify", check=False)
    return {
        "refunds": len(listed),
        "paid": paid,
        "waiting": waiting,
        "is_complete": checked.returncode == 0 and paid + waiting == sum(orders.values()),
        "verify": (checked.stdout or checked.stderr).strip().splitlines()[-1],
        "repeats_seen_outside": where.seen()["repeats"],
    }
