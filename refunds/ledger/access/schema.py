"""The tables of access. A secret is never in them, only what it is checked against."""

import sqlalchemy as sa

from refunds.ledger.schema import UtcDateTime, metadata

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("person_id", sa.String(128), primary_key=True),
    # Argon2, with its salt and its cost.
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
)

identities = sa.Table(
    "identities",
    metadata,
    # OpenID Connect: only the two together name somebody for good; an address may change hands.
    sa.Column("issuer", sa.String(255), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("person_id", sa.String(128), nullable=False, index=True),
    sa.Column("linked_at", UtcDateTime, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token_digest", sa.String(64), primary_key=True),
    sa.Column("person_id", sa.String(128), nullable=False, index=True),
    sa.Column("form_token", sa.String(64), nullable=False),
    # password or oidc
    sa.Column("how", sa.String(16), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("user_agent", sa.String(256), nullable=False),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("secret_digest", sa.String(64), nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    # Whose decisions the key carries; none for a machine that decides nothing.
    sa.Column("person_id", sa.String(128)),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("used_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
)

buckets = sa.Table(
    "buckets",
    metadata,
    sa.Column("name", sa.String(160), primary_key=True),
    # When the bucket is full again; the only state a leaky bucket needs.
    sa.Column("full_at", UtcDateTime, nullable=False, index=True),
)
