"""Tables of the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    UniqueConstraint,
    and_,
    literal_column,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from service.store.types import Float64, Text, UtcDateTime

# SQLite numbers rows only in a column of the type INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Base class of the tables; constraints have names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        str: Text,
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        dict[str, int]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
    }


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


class Job(Base):
    """A training job; `attempt` is the current attempt's number and 0 before the first."""

    __tablename__ = "jobs"
    # With the id, so that a filtered page is read in the order of the list.
    __table_args__ = (
        Index(None, "experiment", "id"),
        Index(None, "state", "id"),
        Index(None, "experiment", "state", "id"),
        Index(None, "sweep_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    experiment: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    restarts: Mapped[int] = mapped_column(default=0)
    priority: Mapped[int] = mapped_column(default=0)
    # All CPUs and GPUs that its spec asks for.
    cpus: Mapped[int] = mapped_column(default=0)
    gpus: Mapped[int] = mapped_column(default=0)
    spec: Mapped[dict[str, Any]]
    dataset: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    body_sha256: Mapped[str]
    total_steps: Mapped[int] = mapped_column(BigInteger)
    task: Mapped[str] = mapped_column(default="classification")
    # Names of its metrics on the validation rows, that by which its task is ranked first; empty without such rows.
    validation_metrics: Mapped[list[str]] = mapped_column(JSON, default=list)
    epoch: Mapped[int] = mapped_column(BigInteger, default=0)
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    # {name: [step, value]}; null for NaN and infinity, which JSON does not have.
    latest_metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    params_sha256: Mapped[str | None]
    # The parameters that are kept, from the end of training on: {"step", "epoch", "metrics"}; and the details of their
    # evaluation, which lists of jobs do not read.
    kept: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    evaluation: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    # Whether everything is exported to MLflow: the exporter queries the other jobs every second.
    mlflow_finished: Mapped[bool] = mapped_column(default=False)
    mlflow_problem: Mapped[str | None]  # what MLflow refuses, for the user
    sweep_id: Mapped[str | None] = mapped_column(ForeignKey("sweeps.id"))
    overrides: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    attempts: Mapped[list[Attempt]] = relationship(order_by="Attempt.number", viewonly=True)
    labels: Mapped[list[Label]] = relationship(order_by="Label.key")
    mlflow_run: Mapped[MlflowRun | None] = relationship(viewonly=True)
    verification: Mapped[Verification | None] = relationship(viewonly=True)


# The queue, with what decides whether a job can start: jobs that cannot are skipped without reading their rows.
Index("ix_jobs_queue", Job.state, Job.priority.desc(), Job.id, Job.cpus, Job.gpus, Job.sweep_id)
UNEXPORTED = ~Job.mlflow_finished
# Jobs that have begun have points; those that have not may be many, and change rarely. A literal number, since SQLite
# uses such an index only for the same condition.
BEGUN_UNEXPORTED = and_(UNEXPORTED, Job.attempt > literal_column("0"))
UNBEGUN_UNEXPORTED = and_(UNEXPORTED, Job.attempt == literal_column("0"))
Index("ix_jobs_begun", Job.id, sqlite_where=BEGUN_UNEXPORTED, postgresql_where=BEGUN_UNEXPORTED)
Index("ix_jobs_unbegun", Job.id, sqlite_where=UNBEGUN_UNEXPORTED, postgresql_where=UNBEGUN_UNEXPORTED)


class Sweep(Base):
    """A set of jobs, of which at most `parallel` run at the same time; its state follows from those of its jobs."""

    __tablename__ = "sweeps"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    experiment: Mapped[str]
    spec: Mapped[dict[str, Any]]
    parallel: Mapped[int | None]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    body_sha256: Mapped[str]
    created_at: Mapped[datetime]
    mlflow_experiment_id: Mapped[str | None]
    mlflow_run_id: Mapped[str | None]
    # Whether everything is exported to MLflow.
    mlflow_finished: Mapped[bool] = mapped_column(default=False)
    mlflow_problem: Mapped[str | None]


UNEXPORTED_SWEEP = ~Sweep.mlflow_finished
Index("ix_sweeps_unexported", Sweep.id, sqlite_where=UNEXPORTED_SWEEP, postgresql_where=UNEXPORTED_SWEEP)


class EndedJobs(Base):
    """Number of jobs that ended in a state: a counter, since counting the rows would take ever longer."""

    __tablename__ = "ended_jobs"

    state: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class Label(Base):
    """A label of a job."""

    __tablename__ = "labels"
    __table_args__ = (Index(None, "key", "value", "job_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Attempt(Base):
    """An attempt to run a job; `outcome` is null while it runs.

    `supervisor` is the name of the actor that runs it, and `last_event` the number of its last recorded event.
    """

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    supervisor: Mapped[str]
    last_event: Mapped[int] = mapped_column(default=0)
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Event(Base):
    """An event of a job, in the order of `id`."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "job_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int | None]
    time: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str]
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    reason: Mapped[str | None]
    data: Mapped[dict[str, Any] | None]


class Incident(Base):
    """An incident that occurred `count` times; unlike events, it remains when its job is deleted."""

    __tablename__ = "incidents"

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    kind: Mapped[str]
    count: Mapped[int] = mapped_column(BigInteger)


class Metric(Base):
    """A point of a series; `id` increases in the order of recording and is the exporter's cursor."""

    __tablename__ = "metrics"
    __table_args__ = (
        UniqueConstraint("job_id", "name", "step"),
        Index(None, "job_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    job_id: Mapped[str]  # not a foreign key: see `DeletedJob`
    name: Mapped[str]
    step: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float] = mapped_column(Float64, nullable=True)
    time_ms: Mapped[int] = mapped_column(BigInteger)


class DeletedJob(Base):
    """A deleted job of which points are left: they are many, and are removed a few thousand at a time."""

    __tablename__ = "deleted_jobs"

    job_id: Mapped[str] = mapped_column(primary_key=True)


class Milestone(Base):
    """Digest of a job's parameters after a step; the steps follow from the length of the job."""

    __tablename__ = "milestones"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    params_sha256: Mapped[str]


class Checkpoint(Base):
    """Digest of the whole state in a checkpoint of a job, of those that it keeps."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    state_sha256: Mapped[str]


class Verification(Base):
    """A job that verifies a certificate; `equal` is null until it has ended or something differs.

    `sample` has the intervals that it replays; null if it runs the whole job.
    """

    __tablename__ = "verifications"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    certificate: Mapped[dict[str, Any]]
    equal: Mapped[bool | None]
    differences: Mapped[list[Any]] = mapped_column(JSON)
    notes: Mapped[list[str]]
    sample: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Dataset(Base):
    """A version of a dataset; its rows are in an Arrow file whose name is their digest.

    `source` is relative to the data directory if it is below that. `columns` are those of the stored rows, `profile`
    has the columns of the source and statistics of the rows.
    """

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    features: Mapped[int]
    classes: Mapped[list[str]]
    dtype: Mapped[str]
    shape: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    targets: Mapped[int]
    label: Mapped[str | None]
    split_column: Mapped[str | None]
    splits: Mapped[dict[str, int]]
    columns: Mapped[list[dict[str, Any]]] = mapped_column(deferred=True)
    format: Mapped[str]
    source: Mapped[str]
    profile: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class DeletedVersions(Base):
    """The last version of a dataset that was deleted: its number and those before it are not used again."""

    __tablename__ = "deleted_versions"

    name: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int]


class MlflowRun(Base):
    """Progress of a job's export to MLflow: points up to `metric_cursor`, then artifacts, then the end."""

    __tablename__ = "mlflow_runs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    experiment_id: Mapped[str]
    run_id: Mapped[str]
    status: Mapped[str]
    metric_cursor: Mapped[int] = mapped_column(BigInteger, default=0)
    params_logged: Mapped[bool] = mapped_column(default=False)
    artifacts_logged: Mapped[bool] = mapped_column(default=False)


class OrphanedRun(Base):
    """A run in MLflow that has not ended and whose job or sweep was deleted."""

    __tablename__ = "orphaned_runs"

    run_id: Mapped[str] = mapped_column(primary_key=True)


class Token(Base):
    """A token for the API, valid until it is revoked; the secret itself is not stored."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    secret_sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    revoked_at: Mapped[datetime | None]


class Lease(Base):
    """The lease of the leader; `token` increases with each takeover, `renewals` while the holder is alive.

    `renewed_at` is the time of the last renewal or takeover on the database's clock, in seconds since 1970.
    """

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str | None]
    token: Mapped[int] = mapped_column(BigInteger)
    renewals: Mapped[int] = mapped_column(BigInteger)
    renewed_at: Mapped[float] = mapped_column(Double)
