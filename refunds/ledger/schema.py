"""The ledger's tables: the authority on what was asked, decided and done."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

metadata = sa.MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware UTC time in any database; naive times are refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """To the database: always UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a timezone has no place in the ledger")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """From the database: SQLite forgets the zone, which is always UTC here."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


refunds = sa.Table(
    "refunds",
    metadata,
    sa.Column("refund_id", sa.String(64), primary_key=True),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("order_id", sa.String(128), nullable=False, index=True),
    sa.Column("customer_id", sa.String(128), nullable=False, index=True),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    # "now" has a run of its own, "nightly" waits for tonight's batch, "batch" is carried by one.
    sa.Column("lane", sa.String(16), nullable=False),
    # The batch that took the refund in, also when it has a run of its own by now.
    sa.Column("batch_id", sa.String(64), index=True),
    # The burst that carries it with others decided at the same time, or that did so last.
    sa.Column("burst_id", sa.String(64), index=True),
    sa.Column("state", sa.String(24), nullable=False, index=True),
    sa.Column("outcome", sa.String(16)),
    sa.Column("verdict", sa.String(16)),
    sa.Column("reasons", sa.JSON),
    sa.Column("attention", sa.Text),
    # Who gave it up and why, once a person has; it is then undone and concluded, never paid.
    sa.Column("given_up", sa.Text),
    # Which Prefect run owns the refund: the n-th run launched for it.
    sa.Column("run_number", sa.Integer, nullable=False, default=0),
    sa.Column("run_id", sa.String(36)),
    sa.Column("launched_at", UtcDateTime),
    # The lease: one runner at a time; the fence grows with every take-over.
    sa.Column("fence", sa.BigInteger, nullable=False, default=0),
    sa.Column("lease_holder", sa.String(255)),
    sa.Column("lease_expires_at", UtcDateTime),
    sa.Column("submitted_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("completed_at", UtcDateTime),
    # The smaller amount that an approver proposed and that is in force; amount_minor follows it.
    sa.Column("proposal", sa.JSON),
    # The end of the hash chain, so that an event is appended without reading the last one.
    sa.Column("last_sequence", sa.Integer, nullable=False, default=0),
    sa.Column("last_digest", sa.String(64), nullable=False, default=""),
    # The few that batches have in hand among all that there ever were.
    sa.Index(
        "ix_refunds_in_hand",
        "burst_id",
        "batch_id",
        sqlite_where=sa.text("lane = 'batch' AND outcome IS NULL"),
        postgresql_where=sa.text("lane = 'batch' AND outcome IS NULL"),
    ),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("refund_id", sa.ForeignKey("refunds.refund_id"), primary_key=True),
    sa.Column("run_id", sa.String(36), primary_key=True),
    sa.Column("first_seen_at", UtcDateTime, nullable=False),
    # Since when it sleeps in Prefect though a batch carries its refund; until it is ended there.
    sa.Column("left_asleep_at", UtcDateTime, index=True),
)

charges = sa.Table(
    "charges",
    metadata,
    sa.Column("charge_id", sa.String(128), primary_key=True),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("captured_minor", sa.BigInteger, nullable=False),
    # The bank took the money back on the customer's word, or is about to: nothing is paid.
    sa.Column("is_disputed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reserved_minor", sa.BigInteger, nullable=False, default=0),
    sa.Column("refunded_minor", sa.BigInteger, nullable=False, default=0),
    sa.CheckConstraint("reserved_minor >= 0", name="reserved_not_negative"),
    sa.CheckConstraint("refunded_minor >= 0", name="refunded_not_negative"),
    sa.CheckConstraint(
        "reserved_minor + refunded_minor <= captured_minor", name="never_more_than_captured"
    ),
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("refund_id", sa.ForeignKey("refunds.refund_id"), primary_key=True),
    sa.Column("charge_id", sa.ForeignKey("charges.charge_id"), nullable=False, index=True),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("item_ids", sa.JSON, nullable=False),
    # reserved → refunded, or → released when nothing will be paid.
    sa.Column("state", sa.String(16), nullable=False),
)

effects = sa.Table(
    "effects",
    metadata,
    sa.Column("key", sa.String(160), primary_key=True),
    sa.Column("refund_id", sa.ForeignKey("refunds.refund_id"), nullable=False, index=True),
    sa.Column("step", sa.String(48), nullable=False),
    sa.Column("system", sa.String(24), nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("request_digest", sa.String(64), nullable=False),
    # intended, unknown, blocked, pending, succeeded, refused
    sa.Column("state", sa.String(16), nullable=False, index=True),
    # A later attempt goes under a key of its own on the wire.
    sa.Column("attempt", sa.Integer, nullable=False, default=1, server_default="1"),
    sa.Column("response", sa.JSON),
    sa.Column("detail", sa.Text),
    sa.Column("sends", sa.Integer, nullable=False, default=0),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("first_sent_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("approval_id", sa.String(96), primary_key=True),
    sa.Column("refund_id", sa.ForeignKey("refunds.refund_id"), nullable=False, index=True),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("requested_by", sa.String(128), nullable=False),
    sa.Column("people_needed", sa.Integer, nullable=False),
    sa.Column("verified_needed", sa.Boolean, nullable=False),
    # open, APPROVED, REJECTED, EXPIRED, superseded
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("escalate_at", UtcDateTime, nullable=False),
    sa.Column("deadline", UtcDateTime, nullable=False),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    sa.Column("closed_at", UtcDateTime),
    # Why a person is asked, the levels that are asked in turn, and who may answer: as asked.
    sa.Column("reasons", sa.JSON),
    sa.Column("levels", sa.JSON),
    sa.Column("rules", sa.JSON),
    # The level that is asked now, and the inbox's order: 1 urgent, 2 normal.
    sa.Column("level", sa.String(24), nullable=False, server_default=""),
    sa.Column("priority", sa.Integer, nullable=False, server_default="2"),
    # Names as they are compared, so that nobody's inbox shows what they asked for themselves.
    sa.Column("requester_key", sa.Text, nullable=False, server_default=""),
    sa.Column("customer_key", sa.Text, nullable=False, server_default=""),
    # Of `levels` and `rules`, what an inbox selects by: |audience|audience|, minor units.
    sa.Column("audiences", sa.Text, nullable=False, server_default=""),
    sa.Column("limit_minor", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("ix_approvals_inbox", "status", "priority", "deadline", "approval_id"),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("approval_id", sa.ForeignKey("approvals.approval_id"), primary_key=True),
    sa.Column("person", sa.String(128), primary_key=True),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("verified", sa.Boolean, nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    # The name as it is compared; who was away and acted for; from where it came.
    sa.Column("person_key", sa.Text, nullable=False, server_default=""),
    sa.Column("for_person", sa.String(64)),
    sa.Column("ip", sa.String(64), nullable=False, server_default=""),
    sa.Column("user_agent", sa.String(256), nullable=False, server_default=""),
)

# Once anybody is in here, the rules of refunds/authority.py for registered people apply.
people = sa.Table(
    "people",
    metadata,
    sa.Column("person_id", sa.String(64), primary_key=True),
    # The id as it is compared: nobody is registered twice under another spelling.
    sa.Column("person_key", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("away_from", UtcDateTime),
    sa.Column("away_until", UtcDateTime),
    sa.Column("delegate_to", sa.String(64)),
    sa.Column("contact", sa.String(255), nullable=False, server_default=""),
)

# Who changed which person's rights: append-only and hash-chained like the refunds' history.
people_history = sa.Table(
    "people_history",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("event", sa.String(48), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("previous_digest", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)

# Signed links that led to a decision: each does so once.
spent_links = sa.Table(
    "spent_links",
    metadata,
    sa.Column("link_id", sa.String(64), primary_key=True),
    sa.Column("refund_id", sa.ForeignKey("refunds.refund_id"), nullable=False),
    sa.Column("person", sa.String(128), nullable=False),
    sa.Column("spent_at", UtcDateTime, nullable=False),
)

waits = sa.Table(
    "waits",
    metadata,
    sa.Column("refund_id", sa.ForeignKey("refunds.refund_id"), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    # person, callback, timer
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("run_id", sa.String(36)),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    # How often the run has begun to wait here: each time has a key of its own at Prefect.
    sa.Column("openings", sa.Integer, nullable=False, default=1),
    sa.Column("due_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime, index=True),
    sa.Column("woken_at", UtcDateTime),
    sa.Column("passed_at", UtcDateTime, index=True),
    # What has ended and was not gone on from, among all that waits or ever did.
    sa.Index(
        "ix_waits_to_wake",
        "woken_at",
        sqlite_where=sa.text("passed_at IS NULL AND ended_at IS NOT NULL"),
        postgresql_where=sa.text("passed_at IS NULL AND ended_at IS NOT NULL"),
    ),
)

history = sa.Table(
    "history",
    metadata,
    sa.Column("refund_id", sa.ForeignKey("refunds.refund_id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("event", sa.String(48), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("previous_digest", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)

policies = sa.Table(
    "policies",
    metadata,
    sa.Column("version", sa.String(160), primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("first_used_at", UtcDateTime, nullable=False),
)

gateway_events = sa.Table(
    "gateway_events",
    metadata,
    sa.Column("event_id", sa.String(128), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
)

# One row for each system that is away, or is suspected to be: all refunds wait for it together.
outages = sa.Table(
    "outages",
    metadata,
    sa.Column("system", sa.String(24), primary_key=True),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    # Different refunds that found it away; few of them are a suspicion.
    sa.Column("found_by", sa.JSON, nullable=False),
    # Set once it counts as away: when it is tried next, how often it was, and by which refund.
    sa.Column("until", UtcDateTime),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("probe", sa.String(64)),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("batch_id", sa.String(64), primary_key=True),
    # file, night, burst; a shard is a part of its parent, up to `last_key`.
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("night", sa.Date),
    sa.Column("parent_id", sa.String(64), index=True),
    # The keys after this one, up to the last: all of them, but for a shard.
    sa.Column("first_key", sa.String(64), nullable=False, default="", server_default=""),
    sa.Column("last_key", sa.String(64)),
    # How far the batch has got, in key order.
    sa.Column("cursor", sa.String(64), nullable=False, default=""),
    sa.Column("run_number", sa.Integer, nullable=False, default=0),
    sa.Column("run_id", sa.String(36)),
    sa.Column("lease_holder", sa.String(255)),
    sa.Column("lease_expires_at", UtcDateTime),
    # How many of its runs have died since it last got on.
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    # When the night is over: what was not begun by then is left to the next one.
    sa.Column("stop_at", UtcDateTime),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime, index=True),
    # Which report its end is worth: a night that takes in more later has a further one.
    sa.Column("edition", sa.Integer, nullable=False, default=1, server_default="1"),
)

# A night's report as it was when the night ended; it does not change afterwards.
reports = sa.Table(
    "reports",
    metadata,
    sa.Column("batch_id", sa.ForeignKey("batches.batch_id"), primary_key=True),
    sa.Column("edition", sa.Integer, primary_key=True),
    sa.Column("facts", sa.JSON, nullable=False),
    # One line a refund, as compressed CSV.
    sa.Column("sheet", sa.LargeBinary, nullable=False),
    sa.Column("written_at", UtcDateTime, nullable=False),
    # Its notice is an effect: due, intended, unknown, succeeded, refused.
    sa.Column("notice_state", sa.String(16), nullable=False, index=True),
    sa.Column("notice_sends", sa.Integer, nullable=False, default=0),
    # Until then somebody is sending it.
    sa.Column("notice_claimed_until", UtcDateTime),
    sa.Column("notice_detail", sa.Text),
    sa.Column("notice_response", sa.JSON),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("written_at", UtcDateTime, nullable=False),
)
