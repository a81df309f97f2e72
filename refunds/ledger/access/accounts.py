"""People's credentials: a password of ours, or an identity at the company's own sign-in."""

from functools import lru_cache

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from refunds import home_secrets
from refunds.errors import BadInput
from refunds.ledger import people
from refunds.ledger.access import schema
from refunds.ledger.book import Ledger
from refunds.ledger.engine import insert_if_absent

# What NIST asks for at least of a password that stands alone, and a length that hashing a
# hostile one cannot turn into work.
_SHORTEST, _LONGEST = 12, 256

# The library's own defaults follow RFC 9106's second recommendation: 64 MiB, a tenth of a second.
_hasher = PasswordHasher()


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    """Checked against when nobody has the name, so that the answer takes as long."""
    return _hasher.hash(home_secrets.random_text())


def set_password(ledger: Ledger, person_id: str, password: str) -> None:
    """Let a person sign in with a password; one given before is replaced.

    Every session of theirs ends. Raises BadInput for one that is too short or too long.
    """
    if not _SHORTEST <= len(password) <= _LONGEST:
        raise BadInput(f"a password has {_SHORTEST} to {_LONGEST} characters, not {len(password)}")
    hashed, person_id = _hasher.hash(password), known_as(ledger, person_id)
    row = schema.accounts.c
    values = {"password_hash": hashed, "changed_at": ledger.clock()}
    with ledger.writing() as connection:
        connection.execute(
            insert_if_absent(connection, schema.accounts).values(person_id=person_id, **values)
        )
        connection.execute(
            schema.accounts.update().where(row.person_id == person_id).values(**values)
        )
        _end_sessions(connection, person_id)


def known_as(ledger: Ledger, name: str) -> str:
    """Under which id somebody signs in: their registered one, else the name as it is given."""
    registered = people.find(ledger, name)
    return registered.person_id if registered is not None else name.strip()


def has_password(ledger: Ledger, person_id: str) -> bool:
    """Whether a person can sign in with a password."""
    return _hash_of(ledger, person_id) is not None


def check_password(ledger: Ledger, person_id: str, password: str) -> bool:
    """Whether this is the person's password; it takes as long when nobody has the name."""
    known = _hash_of(ledger, person_id)
    try:
        _hasher.verify(known or _nobodys_hash(), password[: _LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return known is not None


def forget(ledger: Ledger, person_id: str) -> None:
    """Take a person's password, identities and sessions away; what they decided stays."""
    person_id = known_as(ledger, person_id)
    with ledger.writing() as connection:
        for table in (schema.accounts, schema.identities):
            connection.execute(table.delete().where(table.c.person_id == person_id))
        _end_sessions(connection, person_id)


def link(ledger: Ledger, issuer: str, subject: str, person_id: str) -> None:
    """Let whoever the company's sign-in calls `subject` be this person."""
    row, person_id = schema.identities.c, known_as(ledger, person_id)
    with ledger.writing() as connection:
        connection.execute(
            schema.identities.delete().where(row.issuer == issuer, row.subject == subject)
        )
        connection.execute(
            schema.identities.insert().values(
                issuer=issuer, subject=subject, person_id=person_id, linked_at=ledger.clock()
            )
        )


def linked(ledger: Ledger, issuer: str, subject: str) -> str | None:
    """The person behind an identity, if it was linked."""
    row = schema.identities.c
    query = sa.select(row.person_id).where(row.issuer == issuer, row.subject == subject)
    with ledger.reading() as connection:
        return connection.execute(query).scalar()


def _hash_of(ledger: Ledger, person_id: str) -> str | None:
    query = sa.select(schema.accounts.c.password_hash).where(
        schema.accounts.c.person_id == person_id
    )
    with ledger.reading() as connection:
        return connection.execute(query).scalar()


def _end_sessions(connection: sa.Connection, person_id: str) -> None:
    connection.execute(schema.sessions.delete().where(schema.sessions.c.person_id == person_id))
