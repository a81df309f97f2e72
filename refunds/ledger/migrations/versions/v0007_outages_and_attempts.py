"""Systems that are away, shared by all; and which attempt of a step is under way."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and count every step so far as its first attempt."""
    op.create_table(
        "outages",
        sa.Column("system", sa.String(length=24), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("found_by", sa.JSON(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("probe", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("system"),
    )
    op.add_column("effects", sa.Column("attempt", sa.Integer(), server_default="1", nullable=False))


def downgrade() -> None:
    """Forget both."""
    op.drop_column("effects", "attempt")
    op.drop_table("outages")
