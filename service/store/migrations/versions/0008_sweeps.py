"""Sweeps, and which jobs are members of one."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. The jobs that are there belong to no sweep."""
    sweeps = op.create_table(
        "sweeps",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("experiment", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("parallel", sa.Integer(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mlflow_experiment_id", sa.String(), nullable=True),
        sa.Column("mlflow_run_id", sa.String(), nullable=True),
        sa.Column("mlflow_finished", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
        sa.UniqueConstraint("idempotency_key", name="uq_sweeps_idempotency_key"),
    )
    untold = ~sweeps.c.mlflow_finished
    op.create_index("ix_sweeps_untold", "sweeps", ["id"], sqlite_where=untold, postgresql_where=untold)
    op.add_column("jobs", sa.Column("sweep_id", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("overrides", sa.JSON(), nullable=True))
    op.create_index("ix_jobs_sweep_id_id", "jobs", ["sweep_id", "id"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_jobs_sweep_id_id", "jobs")
    op.drop_column("jobs", "overrides")
    op.drop_column("jobs", "sweep_id")
    op.drop_table("sweeps")
