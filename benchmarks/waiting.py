"""What waiting costs while nothing happens: `python -m benchmarks waiting`.

Refunds that people have to decide come in as one file, as they do in real life: each waits in a
suspended run of its own. Then nobody does anything, and the processes of the stack are watched.
"""

import json
import statistics
import time
from collections.abc import Iterable
from typing import Any

import psutil

from benchmarks.place import Place, place, whole_stack
from benchmarks.shop import requests

# Long enough for each loop of Prefect's services to come round; the slowest is a minute.
_WATCH_SECONDS = 120.0

# After the batch its events are still being written for a while.
_SETTLE_SECONDS = 30.0

# A worker that creates ten runs a second needs a quarter of an hour for ten thousand.
_PATIENCE_SECONDS = 3_600.0
_ASK_SECONDS = 2.0

Found = dict[str, Any]


def measure(kind: str, counts: list[int]) -> Found:
    """The same stack with more and more refunds waiting."""
    steps = [(f"wait{total}", total - before) for before, total in _pairs(counts)]
    with place(kind, dict(steps)) as where, whole_stack(where) as up:
        found = []
        for (name, more), total in zip(steps, sorted(counts), strict=True):
            began = time.monotonic()
            if more:
                _let_wait(where, name, more, total)
            took = time.monotonic() - began
            time.sleep(_SETTLE_SECONDS)
            found.append({"waiting": total, "took_seconds": took, **_watched(up["pids"])})
    return {"kind": kind, "idle": found}


def _pairs(counts: list[int]) -> list[tuple[int, int]]:
    ordered = sorted(counts)
    return list(zip([0, *ordered[:-1]], ordered, strict=True))


def _let_wait(where: Place, name: str, more: int, total: int) -> None:
    file = where.home / f"{name}.jsonl"
    wanted = requests(name, more, review_every=1)
    file.write_text("".join(f"{json.dumps(request)}\n" for request in wanted), encoding="utf-8")
    where.refunds("submit", str(file))
    until = time.monotonic() + _PATIENCE_SECONDS
    while _waiting(where) < total:
        if time.monotonic() > until:
            raise TimeoutError(f"{_waiting(where)} of {total} wait")
        time.sleep(_ASK_SECONDS)


def _waiting(where: Place) -> int:
    import sqlalchemy as sa

    from refunds.ledger import open_ledger, schema

    ledger = open_ledger(where.settings.ledger_database_url)
    row = schema.waits.c
    with ledger.reading() as connection:
        query = sa.select(sa.func.count()).select_from(schema.waits).where(row.ended_at.is_(None))
        return int(connection.execute(query).scalar_one())


def _watched(pids: dict[str, int]) -> Found:
    """Each role's processes over some time: how many, their memory, their share of a core."""
    before = {role: _cpu_seconds(_family(pid)) for role, pid in pids.items()}
    began = time.monotonic()
    counts: dict[str, list[int]] = {role: [] for role in pids}
    while time.monotonic() - began < _WATCH_SECONDS:
        for role, pid in pids.items():
            counts[role].append(len(_family(pid)))
        time.sleep(_ASK_SECONDS)
    seconds = time.monotonic() - began
    return {
        "roles": {
            role: {
                "processes": statistics.median(counts[role]),
                "rss_mb": sum(each.memory_info().rss for each in _family(pid)) / 2**20,
                "cpu_percent": 100 * (_cpu_seconds(_family(pid)) - before[role]) / seconds,
            }
            for role, pid in pids.items()
        }
    }


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Of these and of the children that they have waited for."""
    used = [process.cpu_times() for process in processes]
    return sum(u.user + u.system + u.children_user + u.children_system for u in used)
