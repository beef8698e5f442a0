"""What is asked each second is found without looking at the jobs that ended long ago."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ENDED = ("succeeded", "failed", "cancelled")

jobs = sa.table(
    "jobs", sa.column("id", sa.String), sa.column("state", sa.String), sa.column("mlflow_finished", sa.Boolean)
)
runs = sa.table("mlflow_runs", sa.column("job_id", sa.String), sa.column("finished", sa.Boolean))


def upgrade() -> None:
    """Apply.

    That a run has all of its job is said of the job from now on, where it can be indexed beside new jobs.
    """
    op.add_column("jobs", sa.Column("mlflow_finished", sa.Boolean(), nullable=False, server_default=sa.false()))
    finished = sa.select(runs.c.job_id).where(runs.c.finished)
    op.execute(jobs.update().where(jobs.c.id.in_(finished)).values(mlflow_finished=True))
    untold = ~jobs.c.mlflow_finished
    op.create_index("ix_jobs_untold", "jobs", ["id"], sqlite_where=untold, postgresql_where=untold)
    op.drop_column("mlflow_runs", "finished")

    ended_jobs = op.create_table(
        "ended_jobs",
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("state", name="pk_ended_jobs"),
    )
    op.bulk_insert(ended_jobs, [{"state": state, "count": 0} for state in ENDED])
    counted = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state == ended_jobs.c.state)
    op.execute(ended_jobs.update().values(count=counted.scalar_subquery()))


def downgrade() -> None:
    """Take back."""
    op.drop_table("ended_jobs")
    op.add_column("mlflow_runs", sa.Column("finished", sa.Boolean(), nullable=False, server_default=sa.false()))
    finished = sa.select(jobs.c.id).where(jobs.c.mlflow_finished)
    op.execute(runs.update().where(runs.c.job_id.in_(finished)).values(finished=True))
    op.drop_index("ix_jobs_untold", "jobs")
    op.drop_column("jobs", "mlflow_finished")
