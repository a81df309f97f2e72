"""Disputes: a customer asks the bank for the money, at a test's word."""

import sqlite3
from typing import Literal

from sandbox.answers import Answer, Refused
from sandbox.clock import Clock, to_ms
from sandbox.gateway.events import Events
from sandbox.gateway.objects import charge_object, dispute_object
from sandbox.records import Id, Record, error, reader_of
from sandbox.store import Store


class Dispute(Record):
    """The body of `PUT /gateway/dispute`; `ended` is how one ends that is over."""

    charge: Id
    disputed: bool = True
    ended: Literal["won", "lost"] = "won"


_parse = reader_of(Dispute)

# How a dispute stands while the bank has not decided.
OPEN = "needs_response"


class Disputes:
    """Opens and closes disputes of charges; a disputed charge is not refunded."""

    def __init__(self, store: Store, events: Events, clock: Clock) -> None:
        self._store = store
        self._events = events
        self._clock = clock

    async def put(self, body: bytes) -> Answer:
        """Open a charge's dispute or end it; 404 when there is no such charge.

        As at Stripe the charge says for ever that it was disputed; the dispute says how it stands.
        """
        wish = _parse(body)

        def job(tx: sqlite3.Connection) -> Answer:
            if _charge(tx, wish.charge) is None:
                raise Refused(error(404, "not_found", "There is no charge with this id."))
            was = dispute_of(tx, wish.charge)
            is_open = was is not None and was["status"] == OPEN
            if wish.disputed and not is_open:
                tx.execute("DELETE FROM disputes_ended WHERE charge_id = ?", (wish.charge,))
                tx.execute(
                    "INSERT OR REPLACE INTO disputes (charge_id, opened_ms) VALUES (?, ?)",
                    (wish.charge, to_ms(self._clock())),
                )
                self._tell(tx, "charge.dispute.created", wish.charge)
            if is_open and not wish.disputed:
                tx.execute("INSERT INTO disputes_ended VALUES (?, ?)", (wish.charge, wish.ended))
                self._tell(tx, "charge.dispute.closed", wish.charge)
            charge = _charge(tx, wish.charge)
            assert charge is not None  # noqa: S101  it was there above
            return Answer.of(200, charge_object(charge))

        return await self._store.write(job)

    def _tell(self, tx: sqlite3.Connection, kind: str, charge_id: str) -> None:
        dispute = dispute_of(tx, charge_id)
        assert dispute is not None  # noqa: S101  its row was written before
        self._events.record(tx, kind, dispute_object(dispute), refund_id=None)


def dispute_of(reader: sqlite3.Connection, charge_id: str) -> sqlite3.Row | None:
    """The dispute of a charge, however it stands."""
    row: sqlite3.Row | None = reader.execute(
        "SELECT * FROM disputes_shown WHERE charge_id = ?", (charge_id,)
    ).fetchone()
    return row


def _charge(tx: sqlite3.Connection, charge_id: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = tx.execute(
        "SELECT * FROM charges_shown WHERE charge_id = ?", (charge_id,)
    ).fetchone()
    return row
