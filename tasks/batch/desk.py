"""Takes in how the calls of a step ended, and commits what has come in together."""

import asyncio
from collections.abc import Callable
from typing import Self

from refunds.errors import StaleRunner
from refunds.ledger import Page, grouped
from refunds.ledger.effects import Effect, Ending
from refunds.ledger.grouped import Entry
from tasks.batch.chunk import Road
from tasks.batch.journaling import Step
from tasks.batch.writer import write

# How long a result waits for others to be committed with it, in seconds: a twentieth of a second
# is not noticed, and gathers what one process can do in that time.
GATHER_SECONDS = 0.05

Note = Callable[[Page, Effect | None], None]


def _nothing(_page: Page, _effect: Effect | None) -> None:
    """The ending says it all."""


class Desk:
    """Open for the time of one step; a refund hands in one thing at a time."""

    def __init__(self) -> None:
        """Nothing has come in yet."""
        self._in_tray: dict[str, tuple[Road, Entry, asyncio.Future[Effect | None]]] = {}
        self._has_work = asyncio.Event()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Begin to work."""
        self._clerk = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit the last of it."""
        self._is_closed = True
        self._has_work.set()
        await self._clerk

    async def record(self, road: Road, ending: Ending, note: Note = _nothing) -> None:
        """Commit how a send ended. Raises what the ledger refuses."""
        road.last_effect = await self._hand_in(road, Entry(ending, note))

    async def retried(
        self, road: Road, step: Step, error: BaseException, attempt: int, known: Effect
    ) -> Effect:
        """Commit that another attempt follows; returns the effect as it stands."""
        await self._hand_in(
            road, Entry(None, lambda page, _: road.journal.retried(page, step, error, attempt))
        )
        last = road.last_effect
        return last if last is not None and last.key == known.key else known

    async def failed(self, road: Road, step: Step, error: BaseException) -> None:
        """Commit that the step failed for good."""
        await self._hand_in(
            road, Entry(None, lambda page, _: road.journal.failed(page, step, error))
        )

    async def _hand_in(self, road: Road, entry: Entry) -> Effect | None:
        answer: asyncio.Future[Effect | None] = asyncio.get_running_loop().create_future()
        self._in_tray[road.refund_id] = (road, entry, answer)
        self._has_work.set()
        return await answer

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            if not self._is_closed:
                await asyncio.sleep(GATHER_SECONDS)
            taken, self._in_tray = self._in_tray, {}
            self._has_work.clear()
            if taken:
                await self._commit(taken)
            if self._is_closed and not self._in_tray:
                return

    async def _commit(
        self, taken: dict[str, tuple[Road, Entry, asyncio.Future[Effect | None]]]
    ) -> None:
        entries = {refund_id: entry for refund_id, (_, entry, _) in taken.items()}
        fences = {refund_id: road.fence for refund_id, (road, _, _) in taken.items()}
        try:
            written = await write(grouped.record, entries, fences)
        except Exception as error:  # noqa: BLE001 - whoever waits for it has to hear it
            for _, _, answer in taken.values():
                answer.set_exception(error)
            return
        for refund_id, (_, _, answer) in taken.items():
            if refund_id in written.done:
                answer.set_result(written.done[refund_id])
            else:
                answer.set_exception(written.failed.get(refund_id) or StaleRunner(refund_id))
