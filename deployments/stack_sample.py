"""`python -m deployments.stack_sample`: loads and submits the sample, shows where it stands."""

import argparse
import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from deployments.stack_environment import PROJECT
from refunds import money
from refunds.models import RefundRequest, State
from refunds.settings import settings

_SAMPLE = PROJECT / "sandbox" / "retail"
# The sandbox's own limit; one batch takes it a fifth of a second.
_BATCH_COUNT = 2_000
# Twice what a batch may take on a machine ten times slower.
_LOAD_SECONDS = 30.0
# A screen that changes twice a second looks alive; the question costs one query.
_LOOK_SECONDS = 0.5
# A log that is read afterwards needs a line now and then.
_LINE_SECONDS = 5.0
# A refund between two states is in neither for an instant, and counting is not instant.
_IDLE_LOOKS_COUNT = 2

# What only a person can move on, and what nobody needs to.
_AT_REST = frozenset({State.COMPLETED, State.AWAITING_APPROVAL, State.NEEDS_ATTENTION})


def read_requests() -> list[RefundRequest]:
    """The requests of the sample."""
    return [RefundRequest.model_validate(row) for row in _rows("refund_requests")]


def is_idle(counts: Mapping[str, int]) -> bool:
    """Whether nothing is left to do but wait for people."""
    return all(state in _AT_REST for state, count in counts.items() if count)


async def load_shop(sandbox_url: str) -> None:
    """Give the sandbox its customers and orders, unless it has them."""
    async with httpx.AsyncClient(
        base_url=sandbox_url, trust_env=False, timeout=_LOAD_SECONDS
    ) as client:
        present = (await client.get("/shop/stats")).raise_for_status().json()
        for kind in ("customers", "orders"):
            rows = _rows(kind)
            if present[kind] >= len(rows):
                continue
            for start in range(0, len(rows), _BATCH_COUNT):
                batch = rows[start : start + _BATCH_COUNT]
                (await client.post(f"/shop/{kind}", json=batch)).raise_for_status()


async def submit_and_watch(console: Console, *, load: bool, until_idle: bool) -> None:
    """Submit the sample if wanted, then show the counts until idle or stopped."""
    from refunds.api import AsyncRefunds

    amounts: dict[str, int] = {}
    async with AsyncRefunds() as refunds:
        if load:
            await load_shop(settings().sandbox_url)
            requests = read_requests()
            amounts = dict(_totals(requests))
            submitted = await refunds.submit(requests)
            console.print(f"{len(submitted)} requests of the sample are submitted")
        shown = _Screen(console, amounts)
        with shown:
            idle_looks = 0
            while not (until_idle and idle_looks >= _IDLE_LOOKS_COUNT):
                counts = await refunds.counts()
                idle_looks = idle_looks + 1 if is_idle(counts) else 0
                shown.show(counts)
                await asyncio.sleep(_LOOK_SECONDS)


class _Screen:
    """A live table on a terminal; elsewhere a line every few seconds, when it has changed."""

    def __init__(self, console: Console, amounts: Mapping[str, int]) -> None:
        self._console = console
        self._amounts = amounts
        self._counts: Mapping[str, int] = {}
        self._printed: Mapping[str, int] | None = None
        self._next_line = 0.0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._counts != self._printed:
            self._console.print(line(self._counts))

    def show(self, counts: Mapping[str, int]) -> None:
        self._counts = counts
        if self._live is not None:
            self._live.update(table(counts, self._amounts), refresh=True)
            return
        now = asyncio.get_running_loop().time()
        if counts != self._printed and now >= self._next_line:
            self._console.print(line(counts))
            self._printed = counts
            self._next_line = now + _LINE_SECONDS


def table(counts: Mapping[str, int], amounts: Mapping[str, int]) -> Table:
    """States and how many refunds are in each; the caption has what was asked in all."""
    asked = ", ".join(money.show(total, code) for code, total in sorted(amounts.items()))
    found = Table(title="refunds", caption=f"sample: {asked}" if asked else None)
    found.add_column("state")
    found.add_column("refunds", justify="right")
    for state in State:
        if counts.get(state):
            found.add_row(state.value, str(counts[state]))
    found.add_section()
    found.add_row("all", str(sum(counts.values())))
    return found


def line(counts: Mapping[str, int]) -> str:
    """The same in one line."""
    parts = [f"{state.value} {counts[state]}" for state in State if counts.get(state)]
    return f"refunds: {', '.join(parts) or 'none'}"


def _rows(kind: str) -> list[dict[str, Any]]:
    path: Path = _SAMPLE / f"{kind}.jsonl"
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def _totals(requests: list[RefundRequest]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for request in requests:
        totals[request.currency] += request.amount_minor
    return totals


def main() -> int:
    """The command line; 0 when idle or stopped."""
    parser = argparse.ArgumentParser(prog="python -m deployments.stack_sample")
    parser.add_argument("--load", action="store_true", help="load and submit the sample first")
    parser.add_argument("--until-idle", action="store_true", help="end when people are next")
    options = parser.parse_args()
    # The supervisor's stop is the usual end, and no reason for a traceback.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    console = Console(soft_wrap=True, highlight=False)
    asyncio.run(submit_and_watch(console, load=options.load, until_idle=options.until_idle))
    return 0


if __name__ == "__main__":
    sys.exit(main())
