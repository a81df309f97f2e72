"""Disputes: a customer asks the bank for the money, at a test's word."""

import sqlite3

from sandbox.answers import Answer, Refused
from sandbox.clock import Clock, to_ms
from sandbox.gateway.events import Events
from sandbox.gateway.objects import charge_object
from sandbox.records import Id, Record, error, reader_of
from sandbox.store import Store


class Dispute(Record):
    """The body of `PUT /gateway/dispute`."""

    charge: Id
    disputed: bool = True


_parse = reader_of(Dispute)


class Disputes:
    """Opens and closes disputes of charges; a disputed charge is not refunded."""

    def __init__(self, store: Store, events: Events, clock: Clock) -> None:
        self._store = store
        self._events = events
        self._clock = clock

    async def put(self, body: bytes) -> Answer:
        """Mark a charge as disputed or no longer; 404 when there is none."""
        wish = _parse(body)

        def job(tx: sqlite3.Connection) -> Answer:
            if _charge(tx, wish.charge) is None:
                raise Refused(error(404, "not_found", "There is no charge with this id."))
            was = tx.execute(
                "SELECT 1 FROM disputes WHERE charge_id = ?", (wish.charge,)
            ).fetchone()
            if wish.disputed and not was:
                now_ms = to_ms(self._clock())
                tx.execute(
                    "INSERT INTO disputes (charge_id, opened_ms) VALUES (?, ?)",
                    (wish.charge, now_ms),
                )
                self._tell(tx, "charge.dispute.created", wish.charge, "needs_response")
            if was and not wish.disputed:
                tx.execute("DELETE FROM disputes WHERE charge_id = ?", (wish.charge,))
                self._tell(tx, "charge.dispute.closed", wish.charge, "won")
            charge = _charge(tx, wish.charge)
            assert charge is not None  # noqa: S101  it was there above
            return Answer.of(200, charge_object(charge))

        return await self._store.write(job)

    def _tell(self, tx: sqlite3.Connection, kind: str, charge_id: str, status: str) -> None:
        dispute = {
            "id": f"dp_{charge_id.removeprefix('ch_')}",
            "object": "dispute",
            "charge": charge_id,
            "status": status,
        }
        self._events.record(tx, kind, dispute, refund_id=None)


def _charge(tx: sqlite3.Connection, charge_id: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = tx.execute(
        "SELECT * FROM charges_shown WHERE charge_id = ?", (charge_id,)
    ).fetchone()
    return row
