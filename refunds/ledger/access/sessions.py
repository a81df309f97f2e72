"""Sessions of people who signed in: kept here, so that ending one ends it everywhere."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from refunds import home_secrets
from refunds.ledger.access import schema
from refunds.ledger.book import Ledger
from refunds.origin import Origin

# A working day; whoever comes back tomorrow signs in again.
_LONGEST = timedelta(hours=12)

# A screen that was left alone for this long is somebody else's by now.
_IDLE = timedelta(hours=1)

# A session is noted as used once a minute: every page would else be a write.
_NOTE_EVERY = timedelta(minutes=1)

How = Literal["password", "oidc"]


@dataclass(frozen=True)
class Session:
    """A signed-in person. `form_token` has to be in every form they send."""

    token_digest: str
    person_id: str
    form_token: str
    how: str
    opened_at: datetime


def open_session(
    ledger: Ledger, person_id: str, how: How, origin: Origin, replaces: str | None = None
) -> str:
    """Sign a person in; returns the new session's token, which is nowhere else.

    The session that the browser had before ends: what was planted there is worth nothing.
    """
    token, now = home_secrets.random_text(), ledger.clock()
    with ledger.writing() as connection:
        if replaces:
            old = schema.sessions.c.token_digest == _digest(replaces)
            connection.execute(schema.sessions.delete().where(old))
        connection.execute(
            schema.sessions.insert().values(
                token_digest=_digest(token),
                person_id=person_id,
                form_token=home_secrets.random_text(),
                how=how,
                address=origin.ip,
                user_agent=origin.user_agent,
                opened_at=now,
                seen_at=now,
                expires_at=now + _LONGEST,
            )
        )
    return token


def find(ledger: Ledger, token: str) -> Session | None:
    """The living session with this token; using it keeps it alive."""
    row, now = schema.sessions.c, ledger.clock()
    query = sa.select(schema.sessions).where(
        row.token_digest == _digest(token), row.expires_at > now, row.seen_at > now - _IDLE
    )
    with ledger.reading() as connection:
        found = connection.execute(query).mappings().first()
    if found is None:
        return None
    if now - found["seen_at"] >= _NOTE_EVERY:
        with ledger.writing() as connection:
            connection.execute(
                schema.sessions.update()
                .where(row.token_digest == found["token_digest"])
                .values(seen_at=now)
            )
    names = ("token_digest", "person_id", "form_token", "how", "opened_at")
    return Session(**{name: found[name] for name in names})


def forget_dead(ledger: Ledger) -> int:
    """Drop the sessions that are over; returns how many."""
    row, now = schema.sessions.c, ledger.clock()
    is_over = sa.or_(row.expires_at <= now, row.seen_at <= now - _IDLE)
    with ledger.writing() as connection:
        return connection.execute(schema.sessions.delete().where(is_over)).rowcount


def close(ledger: Ledger, session: Session) -> None:
    """Sign out."""
    with ledger.writing() as connection:
        connection.execute(
            schema.sessions.delete().where(schema.sessions.c.token_digest == session.token_digest)
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
