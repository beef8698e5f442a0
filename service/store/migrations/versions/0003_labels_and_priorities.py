"""Jobs have labels and a priority; pages of the list are read in order also where they are filtered."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FILTERS = ("experiment", "state")


def upgrade() -> None:
    """Apply. The jobs that are there have no labels, and none comes before another."""
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "labels",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_labels_job_id"),
        sa.PrimaryKeyConstraint("job_id", "key", name="pk_labels"),
    )
    op.create_index("ix_labels_key_value_job_id", "labels", ["key", "value", "job_id"])
    for column in FILTERS:
        op.drop_index(f"ix_jobs_{column}", "jobs")
        op.create_index(f"ix_jobs_{column}_id", "jobs", [column, "id"])


def downgrade() -> None:
    """Take back."""
    for column in FILTERS:
        op.drop_index(f"ix_jobs_{column}_id", "jobs")
        op.create_index(f"ix_jobs_{column}", "jobs", [column])
    op.drop_table("labels")
    op.drop_column("jobs", "priority")
