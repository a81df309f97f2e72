"""Keys of machines: shown once, kept as a digest, each with what it may do."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from refunds import home_secrets
from refunds.errors import BadInput
from refunds.ledger.access import schema
from refunds.ledger.book import Ledger
from refunds.scopes import Scope

# Scanners that look for leaked secrets know one by its first letters.
_PREFIX = "rfk"

# Enough to tell the keys of one company apart; it is a name and no secret.
_ID_BYTES = 6

# A key is noted as used once a minute: every request would else be a write.
_NOTE_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class ApiKey:
    """A key that was accepted: what it is called, what it may do, whose decisions it carries."""

    key_id: str
    name: str
    scopes: frozenset[str]
    person_id: str | None


def create(
    ledger: Ledger,
    name: str,
    scopes: Sequence[Scope],
    *,
    person_id: str | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Make a key; returns its text, which is shown now or never.

    Raises BadInput for a key that decides for nobody, or that carries somebody's name for nothing.
    """
    if (Scope.DECIDE in scopes) != (person_id is not None):
        raise BadInput(
            "a decision is a person's: a key with decisions:write belongs to one, by --person, "
            "and no other key does"
        )
    key_id, secret = secrets.token_hex(_ID_BYTES), home_secrets.random_text()
    with ledger.writing() as connection:
        connection.execute(
            schema.api_keys.insert().values(
                key_id=key_id,
                name=name,
                secret_digest=_digest(secret),
                scopes=sorted({str(scope) for scope in scopes}),
                person_id=person_id,
                created_at=ledger.clock(),
                expires_at=expires_at,
            )
        )
    return f"{_PREFIX}_{key_id}_{secret}"


def find(ledger: Ledger, text: str) -> ApiKey | None:
    """The key with this text, unless it is unknown, expired or revoked."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    row, now = schema.api_keys.c, ledger.clock()
    query = sa.select(schema.api_keys).where(row.key_id == key_id)
    with ledger.reading() as connection:
        found = connection.execute(query).mappings().first()
    known = found["secret_digest"] if found is not None else ""
    matches = hmac.compare_digest(known, _digest(secret))
    if found is None or not matches or prefix != _PREFIX or found["revoked_at"] is not None:
        return None
    if found["expires_at"] is not None and found["expires_at"] <= now:
        return None
    if found["used_at"] is None or now - found["used_at"] >= _NOTE_EVERY:
        with ledger.writing() as connection:
            connection.execute(
                schema.api_keys.update().where(row.key_id == key_id).values(used_at=now)
            )
    return ApiKey(key_id, found["name"], frozenset(found["scopes"]), found["person_id"])


def listed(ledger: Ledger) -> list[dict[str, Any]]:
    """Every key but its secret, oldest first."""
    row = schema.api_keys.c
    shown = [column for column in schema.api_keys.c if column.name != "secret_digest"]
    with ledger.reading() as connection:
        query = sa.select(*shown).order_by(row.created_at, row.key_id)
        return [dict(found) for found in connection.execute(query).mappings()]


def revoke(ledger: Ledger, key_id: str) -> None:
    """End a key now and for good; again changes nothing. Raises BadInput for an unknown one."""
    row = schema.api_keys.c
    with ledger.writing() as connection:
        ended = connection.execute(
            schema.api_keys.update()
            .where(row.key_id == key_id)
            .values(revoked_at=sa.func.coalesce(row.revoked_at, ledger.clock()))
        )
    if not ended.rowcount:
        raise BadInput(f"no key has the id {key_id!r}; `refunds keys list` shows all of them")


def _digest(secret: str) -> str:
    """A plain digest is enough for what is random: nobody tries 2 to the 256."""
    return hashlib.sha256(secret.encode()).hexdigest()
