"""The bank behind the gateway: settles what is pending, in its time or at a test's word."""

import asyncio
import sqlite3
from typing import Literal

from sandbox.answers import Answer, Refused
from sandbox.clock import Clock, to_ms
from sandbox.fault_rules import FailureReason
from sandbox.gateway.books import Books, refund_row
from sandbox.gateway.objects import refund_object
from sandbox.identifiers import to_number
from sandbox.records import Id, Record, error, reader_of
from sandbox.store import Store

# Soon enough for a test, and ten small queries a second cost nothing.
_POLL_SECONDS = 0.1
# One transaction's worth, so that requests are not kept waiting.
_BATCH = 100

_NEXT: dict[str, tuple[str, ...]] = {
    "pending": ("succeeded", "failed", "canceled"),
    "requires_action": ("succeeded", "failed", "canceled"),
    "succeeded": ("failed",),
}


class Settle(Record):
    """The body of `PUT /gateway/settle`."""

    refund: Id
    status: Literal["succeeded", "failed", "canceled"]
    failure_reason: FailureReason | None = None


_parse = reader_of(Settle)


class Bank:
    """Changes the status of refunds after they were accepted."""

    def __init__(self, store: Store, books: Books, clock: Clock) -> None:
        self._store = store
        self._books = books
        self._clock = clock

    async def settle(self, body: bytes) -> Answer:
        """Settle one refund at once; 404 when there is none, 409 when its status cannot change."""
        wish = _parse(body)

        def job(tx: sqlite3.Connection) -> Answer:
            row = refund_row(tx, to_number("re", wish.refund))
            if row is None:
                raise Refused(error(404, "not_found", "There is no refund with this id."))
            if wish.status not in _NEXT.get(row["status"], ()):
                text = f"A refund that is {row['status']} cannot become {wish.status}."
                raise Refused(error(409, "cannot_settle", text))
            reason = (wish.failure_reason or "unknown") if wish.status == "failed" else None
            changed = self._books.change_status(tx, row, wish.status, reason)
            return Answer.of(200, refund_object(changed))

        return await self._store.write(job)

    async def settle_due(self) -> int:
        """Settle what is due now and return how many there were."""
        due = self._store.read(self._due)
        if not due:
            return 0

        def job(tx: sqlite3.Connection) -> None:
            for row in self._due(tx):
                reason = row["settle_failure_reason"] if row["settle_as"] == "failed" else None
                self._books.change_status(tx, row, row["settle_as"], reason)

        await self._store.write(job)
        return len(due)

    async def run(self) -> None:
        """Settle what becomes due, for ever."""
        while True:
            if not await self.settle_due():
                await asyncio.sleep(_POLL_SECONDS)

    def _due(self, connection: sqlite3.Connection) -> list[sqlite3.Row]:
        return connection.execute(
            "SELECT * FROM refunds WHERE settle_at_ms <= ? ORDER BY settle_at_ms, number LIMIT ?",
            (to_ms(self._clock()), _BATCH),
        ).fetchall()
