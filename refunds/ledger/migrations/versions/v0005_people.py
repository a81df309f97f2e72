"""People with roles and limits, what a question was asked under, disputes, spent links."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables of people, and the columns that approvals and decisions gained."""
    op.create_table(
        "people",
        sa.Column("person_id", sa.String(64), nullable=False),
        sa.Column("person_key", sa.Text(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("away_from", _TIME, nullable=True),
        sa.Column("away_until", _TIME, nullable=True),
        sa.Column("delegate_to", sa.String(64), nullable=True),
        sa.Column("contact", sa.String(255), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("person_id"),
        sa.UniqueConstraint("person_key"),
    )
    op.create_table(
        "people_history",
        sa.Column("sequence", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("event", sa.String(48), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("previous_digest", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_table(
        "spent_links",
        sa.Column("link_id", sa.String(64), nullable=False),
        sa.Column("refund_id", sa.String(64), nullable=False),
        sa.Column("person", sa.String(128), nullable=False),
        sa.Column("spent_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.refund_id"]),
        sa.PrimaryKeyConstraint("link_id"),
    )
    op.add_column("refunds", sa.Column("proposal", sa.JSON(), nullable=True))
    op.add_column(
        "charges",
        sa.Column("is_disputed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    for name in ("reasons", "levels", "rules"):
        op.add_column("approvals", sa.Column(name, sa.JSON(), nullable=True))
    for column in (
        sa.Column("level", sa.String(24), nullable=False, server_default=""),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="2"),
        sa.Column("requester_key", sa.Text(), nullable=False, server_default=""),
        sa.Column("customer_key", sa.Text(), nullable=False, server_default=""),
        sa.Column("audiences", sa.Text(), nullable=False, server_default=""),
        sa.Column("limit_minor", sa.BigInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("approvals", column)
    for column in (
        sa.Column("person_key", sa.Text(), nullable=False, server_default=""),
        sa.Column("for_person", sa.String(64), nullable=True),
        sa.Column("ip", sa.String(64), nullable=False, server_default=""),
        sa.Column("user_agent", sa.String(256), nullable=False, server_default=""),
    ):
        op.add_column("decisions", column)
    op.create_index(
        "ix_approvals_inbox", "approvals", ["status", "priority", "deadline", "approval_id"]
    )
    _forbid_changing("people_history")


def _forbid_changing(table: str) -> None:
    """As the refunds' history: it can only grow."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'history is append-only'); END"
            )
    else:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_history_change()"
        )


def downgrade() -> None:
    """A ledger is never taken back: restore a backup instead."""
    raise NotImplementedError("restore a backup instead of downgrading a ledger")
