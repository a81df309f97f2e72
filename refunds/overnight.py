"""The nights, from any door: run one, see how far it has come, read what it came to."""

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any

from refunds import views
from refunds.errors import BadInput, SystemUnavailable
from refunds.ledger import batches, nights
from refunds.ledger.batches import Batch
from refunds.ledger.nights import Kept
from refunds.nights import page
from refunds.nights.report import NightReport
from refunds.settings import settings
from tasks import books, runs

# The longest a night's batch is watched, in seconds: a night.
_NIGHT_SECONDS = 8 * 3600

# How often a running night is looked at, in seconds: often enough for a bar to look alive.
_LOOK_SECONDS = 1.0

# A list that a person reads; a year has more nights than anybody looks at.
_MOST_NIGHTS = 60

Told = dict[str, Any]


def _unseen(_: Told) -> None:
    """Nobody watches."""


class Overnight:
    """The part of the front door that is about nights."""

    async def nightly(
        self, night: date | None = None, *, watch: Callable[[Told], None] = _unseen
    ) -> Told:
        """Run a night's batch now, to its end; returns what it did, and calls `watch` meanwhile.

        A run that dies is followed by another one, and shards by each other: it is over when the
        ledger says so. Raises SystemUnavailable without Prefect or when no worker took the run.
        """
        wanted = night or books.ledger().clock().date()
        known = await _batch(wanted)
        before = known and known.finished_at and known.finished_at.isoformat()
        run_id = await runs.launch_nightly(wanted)
        run = asyncio.create_task(runs.finished(run_id, _NIGHT_SECONDS))
        try:
            async with asyncio.timeout(_NIGHT_SECONDS):
                told = await _followed(wanted, run, watch)
        except TimeoutError as error:
            hours = _NIGHT_SECONDS // 3600
            raise SystemUnavailable("prefect", f"not over within {hours} hours") from error
        finally:
            run.cancel()
        if told is None or told["finished_at"] == before:
            # The run never came to the night.
            return {"run_id": run_id, "run_state": run.result(), **(told or {})}
        return {"run_id": run_id, "run_state": "Completed", **told}

    async def nights(self) -> list[Told]:
        """The nights, the last one first."""
        ledger = books.ledger()
        found = await asyncio.to_thread(nights.last, ledger, _MOST_NIGHTS)
        return [await asyncio.to_thread(views.night, ledger, batch) for batch in found]

    async def report(self, night: str | None = None, edition: int | None = None) -> Told:
        """A night's report (default: the last night's), as it was when the night ended.

        Raises BadInput when there was no such night, or it is not over.
        """
        return views.report(await _kept(night, edition))

    async def report_sheet(self, night: str | None = None, edition: int | None = None) -> bytes:
        """The same with a line for each refund, as CSV in UTF-8. Raises BadInput."""
        kept = await _kept(night, edition)
        return await asyncio.to_thread(nights.sheet_of, books.ledger(), kept)

    async def report_page(self, night: str | None = None, edition: int | None = None) -> str:
        """The same as one HTML file with charts, which needs nothing else. Raises BadInput."""
        kept = await _kept(night, edition)
        return page.whole(NightReport.model_validate(kept.facts), settings().service_url)


class SyncOvernight:
    """The same part of `Refunds`, for programs without an event loop."""

    def nightly(
        self, night: date | None = None, *, watch: Callable[[Told], None] = _unseen
    ) -> Told:
        """As `AsyncRefunds.nightly`."""
        return asyncio.run(Overnight().nightly(night, watch=watch))

    def nights(self) -> list[Told]:
        """As `AsyncRefunds.nights`."""
        return asyncio.run(Overnight().nights())

    def report(self, night: str | None = None, edition: int | None = None) -> Told:
        """As `AsyncRefunds.report`."""
        return asyncio.run(Overnight().report(night, edition))

    def report_sheet(self, night: str | None = None, edition: int | None = None) -> bytes:
        """As `AsyncRefunds.report_sheet`."""
        return asyncio.run(Overnight().report_sheet(night, edition))

    def report_page(self, night: str | None = None, edition: int | None = None) -> str:
        """As `AsyncRefunds.report_page`."""
        return asyncio.run(Overnight().report_page(night, edition))


async def _followed(
    night: date, run: asyncio.Task[str], watch: Callable[[Told], None]
) -> Told | None:
    """The night once it is over; None when its run ended and never opened it."""
    while True:
        is_over = run.done() and run.result() is not None
        batch = await _batch(night)
        if batch is not None:
            told = await asyncio.to_thread(views.night, books.ledger(), batch)
            watch(told)
            if is_over and batch.finished_at is not None:
                return told
        elif is_over:
            return None
        await asyncio.sleep(_LOOK_SECONDS)


async def _batch(night: date) -> Batch | None:
    try:
        return await asyncio.to_thread(batches.read, books.ledger(), batches.night_id(night))
    except LookupError:
        return None


async def _kept(night: str | None, edition: int | None) -> Kept:
    return await asyncio.to_thread(kept, night, edition)


def kept(night: str | None, edition: int | None = None) -> Kept:
    """The report of a night, named by its date or its batch's id. Raises BadInput."""
    ledger = books.ledger()
    batch = named(night)
    found = nights.latest(ledger, batch.batch_id, edition)
    if found is None and edition is not None:
        raise BadInput(f"{batch.batch_id} has no report {edition}")
    if found is None:
        done = nights.progress(ledger, batch).percent
        raise BadInput(f"{batch.batch_id} is not over yet ({done:.0f} % done): no report so far")
    return found


def named(night: str | None) -> Batch:
    """A night by its date or its batch's id; the last one by default. Raises BadInput."""
    ledger = books.ledger()
    if night is None:
        if last := nights.last(ledger, 1):
            return last[0]
        raise BadInput("there has been no night yet; `refunds nightly` runs one now")
    try:
        day = date.fromisoformat(night.removeprefix("night-"))
        return batches.read(ledger, batches.night_id(day))
    except (ValueError, LookupError) as error:
        raise BadInput(f"there was no night {night[:64]!r}; `refunds nights` lists them") from error
