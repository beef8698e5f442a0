"""The lease of the process that schedules."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. The row is there from now on, so that whoever takes the lease changes it."""
    leases = op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("renewals", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.bulk_insert(leases, [{"name": "scheduler", "holder": None, "token": 0, "renewals": 0}])


def downgrade() -> None:
    """Take back."""
    op.drop_table("leases")
