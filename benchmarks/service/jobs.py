"""Jobs of the service's benchmark, and rows of many jobs that ended before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from service.jobs.repository import count_ended
from service.jobs.states import State
from service.store.models import Attempt, Job, Metric, MlflowRun

if TYPE_CHECKING:
    from service.store import Database

ROWS_AT_ONCE = 5000


def job(name: str, epochs: int) -> dict[str, Any]:
    """Return a job of one worker on the digits; its duration depends on `epochs`."""
    return {
        "name": name,
        "experiment": "benchmark",
        "data": {"dataset": "digits", "validation": 0.2, "standardize": True},
        "model": {"layers": [{"type": "linear", "units": 256}, {"type": "relu"}, {"type": "linear", "units": 10}]},
        "loss": {"type": "softmax"},
        "optimizer": {"type": "sgd", "lr": 0.01},
        "training": {"epochs": epochs, "batch_size": 128, "seed": 0, "shards": 1},
        "resources": {"workers": 1},
    }


def fill(database: Database, like: str, count: int) -> None:
    """Add older jobs until there are `count`: copies of the job `like`, with its attempts and its MLflow run."""
    with database.reading() as session:
        there = session.query(Job).count()
        rows = {
            table: [
                {column.key: getattr(row, column.key) for column in table.__table__.columns}
                for row in session.scalars(select(table).where(key == like))
            ]
            for table, key in ((Job, Job.id), (Attempt, Attempt.job_id), (MlflowRun, MlflowRun.job_id))
        }
    for first in range(there, count, ROWS_AT_ONCE):
        ids = [f"job_{number:014x}{'0' * 12}" for number in range(first, min(first + ROWS_AT_ONCE, count))]
        with database.writing() as session:
            for table, copied in rows.items():
                key = "id" if table is Job else "job_id"
                unique = {"idempotency_key": None} if table is Job else {}
                session.execute(insert(table), [{**row, key: job_id, **unique} for job_id in ids for row in copied])
            count_ended(session, State(rows[Job][0]["state"]), len(ids))


def is_exported(database: Database, job_id: str) -> bool:
    """Return whether all of an ended job is exported to MLflow."""
    with database.reading() as session:
        return session.get_one(Job, job_id).mlflow_finished


def jobs_named(database: Database, prefix: str) -> list[str]:
    """Return the names of all jobs that begin with `prefix`."""
    with database.reading() as session:
        return list(session.scalars(select(Job.name).where(Job.name.startswith(prefix, autoescape=True))))


def steps_per_second(database: Database, job_id: str, begin_ms: int, end_ms: int) -> float:
    """Return how fast a job trained between two times, from the times that its worker recorded with its losses."""
    series = select(Metric.step, Metric.time_ms).where(Metric.job_id == job_id, Metric.name == "train/loss")
    within = series.where(Metric.time_ms.between(begin_ms, end_ms)).order_by(Metric.step)
    with database.reading() as session:
        points = session.execute(within).all()
    (first, began), (last, ended) = points[0], points[-1]
    return float((last - first) / (ended - began) * 1e3)
