"""Systems that are away: found out together, tried by one refund at a time, waited for by all.

One refund that fails is its own affair. When several different ones fail and none succeeds in
between, the system counts as away: nobody sends there any more, until one refund after another
tries, after longer and longer pauses. The first answer lets all of them go on, a few at a time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from refunds.ledger import schema
from refunds.ledger.book import Ledger
from refunds.ledger.engine import insert_if_absent

# So many different refunds have to fail in a row: one may be at fault itself, two may be chance.
_SUSPICION = 3

# A try that has not ended after this time is somebody else's: longer than a step may take (90 s).
_TRY_SECONDS = 120

# How many refunds go on in one pass of the sweep (30 s) once a system is back: three hundred that
# waited are through in three minutes, and a system that just came up is not overrun.
_AT_ONCE = 50


@dataclass(frozen=True)
class Outage:
    """What is known of a system that failed: a suspicion while `until` is None."""

    system: str
    since: datetime
    detail: str
    until: datetime | None
    tries: int
    probe: str | None

    @property
    def is_certain(self) -> bool:
        """Whether the system counts as away."""
        return self.until is not None

    def __str__(self) -> str:
        return f"away since {self.since:%Y-%m-%d %H:%M:%S} UTC ({self.detail})"


def standing(ledger: Ledger, system: str) -> Outage | None:
    """What is known to be wrong with a system now."""
    with ledger.reading() as connection:
        row = _row(connection, system)
    return _outage(row) if row else None


def every(ledger: Ledger) -> list[Outage]:
    """All systems that count as away."""
    query = sa.select(schema.outages).where(schema.outages.c.until.is_not(None))
    with ledger.reading() as connection:
        return [_outage(dict(row)) for row in connection.execute(query).mappings()]


def may_try(ledger: Ledger, system: str, refund_id: str) -> bool:
    """Whether this refund may send to the system: it is not away, or it is this one's try."""
    with ledger.writing() as connection:
        row = _row(connection, system)
        if row is None or row["until"] is None or row["probe"] == refund_id:
            return True
        now = ledger.clock()
        if row["until"] > now:
            return False
        _update(connection, system, probe=refund_id, until=now + timedelta(seconds=_TRY_SECONDS))
        return True


def found_away(
    ledger: Ledger, system: str, refund_id: str, detail: str, pauses: Sequence[int]
) -> None:
    """A refund ran out of quick retries; `pauses` are the seconds between one try and the next."""
    with ledger.writing() as connection:
        now = ledger.clock()
        row = _opened(connection, system, detail, now)
        found_by = sorted({*row["found_by"], refund_id})[:_SUSPICION]
        if row["until"] is not None and row["probe"] == refund_id:
            pause = pauses[min(row["tries"], len(pauses) - 1)]
        elif row["until"] is None and len(found_by) >= _SUSPICION:
            pause = pauses[0]
        else:
            _update(connection, system, found_by=found_by)
            return
        _update(
            connection,
            system,
            detail=detail,
            found_by=found_by,
            until=now + timedelta(seconds=pause),
            tries=row["tries"] + 1,
            probe=None,
        )


def asks_for_rest(ledger: Ledger, system: str, seconds: float, detail: str) -> None:
    """The system itself said when to come again: until then nobody does."""
    with ledger.writing() as connection:
        now = ledger.clock()
        row = _opened(connection, system, detail, now)
        until = now + timedelta(seconds=seconds)
        if row["until"] is None or row["until"] < until:
            _update(connection, system, detail=detail, until=until, probe=None)


def found_well(ledger: Ledger, system: str) -> None:
    """The system answered: who waits for it need not wait any longer."""
    with ledger.writing() as connection:
        connection.execute(schema.outages.delete().where(schema.outages.c.system == system))
        row = schema.waits.c
        connection.execute(
            schema.waits.update()
            .where(row.ended_at.is_(None), row.name.startswith(_prefix(system)))
            .where(row.due_at > ledger.clock())
            .values(due_at=ledger.clock())
        )


def let_go(connection: sa.Connection, due: Iterable[Any], now: datetime) -> list[tuple[str, str]]:
    """Those (refund, wait) of `due`, oldest first, whose time has really come.

    Of those that wait for a system: one while it is away and may be tried; once it is back, a few
    runs, and all that a batch carries, which keeps to its own measure. `due` has each wait's run.
    """
    query = sa.select(schema.outages.c.system, schema.outages.c.until).where(
        schema.outages.c.until.is_not(None)
    )
    away = {_prefix(system): until for system, until in connection.execute(query).all()}
    places = {prefix: int(until <= now) for prefix, until in away.items()}
    chosen = []
    for refund_id, name, run_id in due:
        prefix = name.rpartition("-")[0] + "-"
        if prefix.startswith("outage-") and (run_id is not None or prefix in away):
            left = places.setdefault(prefix, _AT_ONCE)
            if not left:
                continue
            places[prefix] = left - 1
        chosen.append((refund_id, name))
    return chosen


def _prefix(system: str) -> str:
    """How the waits for a system are called."""
    return f"outage-{system}-"


def _opened(connection: sa.Connection, system: str, detail: str, now: datetime) -> dict[str, Any]:
    connection.execute(
        insert_if_absent(connection, schema.outages).values(
            system=system, since=now, detail=detail, found_by=[], tries=0
        )
    )
    row = _row(connection, system)
    return row or {"found_by": [], "until": None, "tries": 0, "probe": None}


def _row(connection: sa.Connection, system: str) -> dict[str, Any] | None:
    query = sa.select(schema.outages).where(schema.outages.c.system == system)
    if not connection.get_execution_options().get("reads_only", False):
        query = query.with_for_update()
    found = connection.execute(query).mappings().first()
    return dict(found) if found else None


def _update(connection: sa.Connection, system: str, **columns: Any) -> None:
    connection.execute(
        schema.outages.update().where(schema.outages.c.system == system).values(**columns)
    )


def _outage(row: dict[str, Any]) -> Outage:
    return Outage(
        row["system"], row["since"], row["detail"], row["until"], row["tries"], row["probe"]
    )
