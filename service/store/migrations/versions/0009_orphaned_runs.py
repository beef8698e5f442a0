"""Runs in MLflow whose jobs were deleted before MLflow had been told of their end."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Of jobs that were deleted before nothing is known any more."""
    op.create_table(
        "orphaned_runs",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_orphaned_runs"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("orphaned_runs")
