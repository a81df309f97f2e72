"""The nights' reports, each sent once; and where a shard's keys begin."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("sheet", sa.LargeBinary(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("notice_state", sa.String(length=16), nullable=False),
        sa.Column("notice_sends", sa.Integer(), nullable=False),
        sa.Column("notice_claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("notice_detail", sa.Text(), nullable=True),
        sa.Column("notice_response", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.batch_id"]),
        sa.PrimaryKeyConstraint("batch_id", "edition"),
    )
    op.create_index(op.f("ix_reports_notice_state"), "reports", ["notice_state"], unique=False)
    op.add_column(
        "batches", sa.Column("first_key", sa.String(length=64), server_default="", nullable=False)
    )
    op.add_column("batches", sa.Column("edition", sa.Integer(), server_default="1", nullable=False))
    op.drop_column("batches", "report")


def downgrade() -> None:
    """A ledger is never taken back: restore a backup instead."""
    raise NotImplementedError("restore a backup instead of downgrading a ledger")
