"""Bursts: refunds decided at the same time are carried together, and their own runs are ended."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("refunds", sa.Column("burst_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_refunds_burst_id"), "refunds", ["burst_id"], unique=False)
    op.add_column("runs", sa.Column("left_asleep_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_runs_left_asleep_at"), "runs", ["left_asleep_at"], unique=False)
    in_hand = sa.text("lane = 'batch' AND outcome IS NULL")
    op.create_index(
        "ix_refunds_in_hand",
        "refunds",
        ["burst_id", "batch_id"],
        sqlite_where=in_hand,
        postgresql_where=in_hand,
    )
    to_wake = sa.text("passed_at IS NULL AND ended_at IS NOT NULL")
    op.create_index(
        "ix_waits_to_wake",
        "waits",
        ["woken_at"],
        sqlite_where=to_wake,
        postgresql_where=to_wake,
    )


def downgrade() -> None:
    """A ledger is never taken back: restore a backup instead."""
    raise NotImplementedError("restore a backup instead of downgrading a ledger")
