"""Attempts remember their supervisor and how much of it is written, jobs how often they were restarted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. The attempts that are there have no supervisor's name: theirs are gone."""
    op.add_column("attempts", sa.Column("supervisor", sa.String(), nullable=True))
    op.add_column("attempts", sa.Column("last_event", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("restarts", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take back."""
    op.drop_column("jobs", "restarts")
    op.drop_column("attempts", "last_event")
    op.drop_column("attempts", "supervisor")
