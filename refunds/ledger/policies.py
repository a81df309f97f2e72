"""Every policy a verdict was ever reached under, word for word."""

from functools import lru_cache

import sqlalchemy as sa

from refunds import policy_file
from refunds.ledger import schema
from refunds.ledger.book import Ledger
from refunds.ledger.engine import insert_if_absent
from refunds.policy_file import Policy


@lru_cache(maxsize=8)
def remember(ledger: Ledger, version: str, text: str) -> None:
    """Keep a policy's text; a version that is known already stays as it is."""
    with ledger.writing() as connection:
        connection.execute(
            insert_if_absent(connection, schema.policies).values(
                version=version, text=text, first_used_at=ledger.clock()
            )
        )


@lru_cache(maxsize=8)
def policy_of(ledger: Ledger, version: str) -> Policy:
    """The policy that a verdict was reached under. Raises LookupError."""
    text = text_of(ledger, version)
    if text is None:
        raise LookupError(f"no verdict was ever reached under policy {version}")
    return policy_file.parse(text, version)


def text_of(ledger: Ledger, version: str) -> str | None:
    """The text of a policy version, if a verdict was reached under it."""
    with ledger.reading() as connection:
        return connection.execute(
            sa.select(schema.policies.c.text).where(schema.policies.c.version == version)
        ).scalar()
