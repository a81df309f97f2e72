"""Batches: many refunds carried by one run, with its place, its lease and its report."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("night", sa.Date(), nullable=True),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("last_key", sa.String(length=64), nullable=True),
        sa.Column("cursor", sa.String(length=64), nullable=False),
        sa.Column("run_number", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=True),
        sa.Column("lease_holder", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stop_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("batch_id"),
    )
    op.create_index(op.f("ix_batches_finished_at"), "batches", ["finished_at"], unique=False)
    op.create_index(op.f("ix_batches_parent_id"), "batches", ["parent_id"], unique=False)
    op.add_column("refunds", sa.Column("batch_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_refunds_batch_id"), "refunds", ["batch_id"], unique=False)
    op.drop_table("nights")


def downgrade() -> None:
    """A ledger is never taken back: restore a backup instead."""
    raise NotImplementedError("restore a backup instead of downgrading a ledger")
