"""Breakpoints from outside: triggers in the test's own database hold whoever writes a row.

A trigger waits for an advisory lock that the test holds. Nothing of it is in production code,
and a held process sits exactly between two of its statements until it is let go or killed.
"""

from __future__ import annotations

import itertools
from typing import Any

import psutil
import psycopg

# Tells our advisory locks apart from others' (migrations take one).
_OURS = 7_305

# The ledger's own statements wait for a lock half a minute, which a busy machine may need to bring
# the others of a wave to their places. A lease is no longer than this.
_HELD_MOST = "45s"

_TRIGGERS = (
    ("effects", "INSERT", "NEW.refund_id", "'intend:' || NEW.step"),
    ("effects", "UPDATE", "NEW.refund_id", "'record:' || NEW.step || ':' || NEW.state"),
    ("approvals", "INSERT", "NEW.refund_id", "'ask'"),
    (
        "batches",
        "UPDATE",
        "NEW.batch_id",
        (
            "CASE WHEN NEW.finished_at IS DISTINCT FROM OLD.finished_at THEN 'close:batch' "
            "WHEN NEW.cursor <> OLD.cursor THEN 'advance:batch' END"
        ),
    ),
    ("waits", "INSERT", "NEW.refund_id", "'wait:' || split_part(NEW.name, '-', 1)"),
    (
        "waits",
        "UPDATE",
        "NEW.refund_id",
        "CASE WHEN NEW.passed_at IS DISTINCT FROM OLD.passed_at THEN 'pass:wait' END",
    ),
    (
        "runs",
        "UPDATE",
        "NEW.refund_id",
        (
            "CASE WHEN NEW.left_asleep_at IS NULL AND OLD.left_asleep_at IS NOT NULL "
            "THEN 'ended:sleeper' END"
        ),
    ),
    (
        "results",
        "INSERT",
        "split_part(NEW.key, ':', 1)",
        "'result:' || split_part(NEW.key, ':', 2)",
    ),
)


class Holds:
    """The places where somebody is to be held, by the refund or the batch that is held there."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._held: dict[str, int] = {}

    def install(self) -> None:
        """Put the triggers into the ledger's database."""
        run: Any = self._connection.execute
        run("CREATE TABLE IF NOT EXISTS chaos_holds (name text, point text, number int)")
        for table, when, whose, point in _TRIGGERS:
            name = f"chaos_{table}_{when}".lower()
            run(
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ "
                f"DECLARE found int; BEGIN SELECT number INTO found FROM chaos_holds "
                f"WHERE name = {whose} AND point = {point}; "
                f"IF found IS NOT NULL THEN "
                f"PERFORM set_config('lock_timeout', '{_HELD_MOST}', true); "
                f"PERFORM pg_advisory_xact_lock_shared({_OURS}, found); END IF; RETURN NEW; END $$"
            )
            run(
                f"CREATE OR REPLACE TRIGGER {name} BEFORE {when} ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION {name}()"
            )

    def at(self, name: str, point: str) -> None:
        """Hold whoever comes to this point with this refund or batch."""
        number = next(self._numbers)
        self._connection.execute("SELECT pg_advisory_lock(%s, %s)", (_OURS, number))
        self._connection.execute(
            "INSERT INTO chaos_holds VALUES (%s, %s, %s)", (name, point, number)
        )
        self._held[name] = number

    def has_come(self, name: str) -> bool:
        """Whether somebody is held there."""
        found = self._connection.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = %s "
            "AND objid = %s AND NOT granted",
            (_OURS, self._held[name]),
        )
        return found.fetchone() is not None

    def pid(self, name: str) -> int | None:
        """The process of this machine that is held there."""
        [(port,)] = self._connection.execute(
            "SELECT client_port FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND NOT granted",
            (_OURS, self._held[name]),
        )
        sockets = psutil.net_connections("tcp")
        return next(each.pid for each in sockets if each.laddr and each.laddr.port == port)

    def let_go(self, name: str) -> None:
        """Hold this one no more."""
        self._connection.execute("DELETE FROM chaos_holds WHERE name = %s", (name,))
        number = self._held.pop(name)
        self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_OURS, number))

    def let_all_go(self) -> None:
        """Hold nobody any more."""
        for name in list(self._held):
            self.let_go(name)
