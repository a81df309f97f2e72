"""How often somebody may knock: a leaky bucket in the ledger, shared by every service process."""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from refunds.ledger.access import schema
from refunds.ledger.book import Ledger
from refunds.ledger.engine import insert_if_absent


@dataclass(frozen=True)
class Rate:
    """`burst` at once, and one more every `every`."""

    burst: int
    every: timedelta


def take(ledger: Ledger, name: str, rate: Rate, count: int = 1) -> timedelta | None:
    """Take `count` from a bucket; None when there were that many, else how long to wait.

    Nothing is taken when there is too little. The row holds when the bucket will be full again.
    """
    row = schema.buckets.c
    with ledger.writing() as connection:
        now = ledger.clock()
        connection.execute(
            insert_if_absent(connection, schema.buckets).values(name=name, full_at=now)
        )
        query = sa.select(row.full_at).where(row.name == name).with_for_update()
        full_at = max(connection.execute(query).scalar_one(), now) + count * rate.every
        too_early: timedelta = (full_at - now) - rate.burst * rate.every
        if too_early > timedelta(0):
            return too_early
        connection.execute(schema.buckets.update().where(row.name == name).values(full_at=full_at))
    return None


def forget_full(ledger: Ledger) -> int:
    """Drop the buckets that are full again, which are the same as none; returns how many."""
    with ledger.writing() as connection:
        full = schema.buckets.c.full_at <= ledger.clock()
        return connection.execute(schema.buckets.delete().where(full)).rowcount
