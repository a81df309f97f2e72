"""A refund that cannot go on may be given up."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Room for who gave it up, and why."""
    op.add_column("refunds", sa.Column("given_up", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("refunds", "given_up")
