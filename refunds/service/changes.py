"""When the inbox changed: the ledger is asked, once for all open pages of this process."""

import asyncio
import time
from collections.abc import AsyncIterator

import sqlalchemy as sa

from refunds.ledger import schema
from refunds.ledger.book import Ledger
from refunds.ledger.questions import OPEN
from tasks import books

# A person who waits for a refund looks up after a few seconds; each look costs one indexed query.
_LOOK_SECONDS = 2.0

# A page asks anew after this long, in seconds, and is asked who it is: sessions end meanwhile.
_LONGEST_SECONDS = 300.0


def mark(ledger: Ledger) -> str:
    """A text that differs whenever a question was asked, answered or closed, or goes to others."""
    asked, given = schema.approvals.c, schema.decisions.c
    still_open = asked.status == OPEN
    questions = sa.select(
        *(sa.func.count(), sa.func.max(asked.opened_at)),
        # An escalation and an update change who is asked, in what order and until when.
        *(sa.func.sum(asked.priority), sa.func.sum(sa.func.length(asked.audiences))),
        *(sa.func.min(asked.deadline), sa.func.max(asked.deadline)),
    ).where(still_open)
    answers = (
        sa.select(sa.func.count())
        .join_from(schema.decisions, schema.approvals, given.approval_id == asked.approval_id)
        .where(still_open)
    )
    with ledger.reading() as connection:
        parts = (*connection.execute(questions).one(), connection.execute(answers).scalar_one())
        return "/".join(map(str, parts))


class _Look:
    """The last look, shared by whoever waits."""

    def __init__(self) -> None:
        self._mark, self._at = "", -_LOOK_SECONDS

    async def fresh(self) -> str:
        """The mark, at most as old as the time between two looks."""
        if time.monotonic() - self._at >= _LOOK_SECONDS:
            self._at = time.monotonic()
            self._mark = await asyncio.to_thread(mark, books.ledger())
        return self._mark


_look = _Look()


async def watch() -> AsyncIterator[str]:
    """The mark now, and again whenever it is another one."""
    last, until = "", time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < until:
        now = await _look.fresh()
        if now != last:
            last = now
            yield now
        await asyncio.sleep(_LOOK_SECONDS)
