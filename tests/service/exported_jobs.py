"""Jobs as the scheduler leaves them to the exporter, and what MLflow then has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.jobs.repository import (
    create_job,
    finish_attempt,
    move,
    record_result,
    start_attempt,
)
from service.jobs.series.points import Point, record_points
from service.jobs.states import State
from service.settings import Settings
from service.store.models import Job, MlflowRun
from service.tracking import MlflowExporter
from tests.service.models import CLASSES, SPEC, checkpoint_in
from tests.service.support import free_port, hinge_job

if TYPE_CHECKING:
    from service.store import Database
    from tests.service.mlflow_server import MlflowServer

LABELS = {"team": "vision"}
DATASET = {"digest": "0f" * 32, "path": "x", "rows": 1797, "features": 64, "classes": list("0123456789")}


def queue_job(database: Database) -> str:
    spec = hinge_job(experiment=f"experiment of {free_port()}")
    with database.writing() as session:
        job, _ = create_job(session, spec=spec, labels=LABELS, dataset=DATASET, total_steps=100, body_sha256="b")
        return job.id


def run_job(database: Database, points: list[Point]) -> str:
    job_id = queue_job(database)
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING)
        record_points(session, job_id, attempt, points)
    return job_id


def end_job(database: Database, job_id: str, state: State, reason: str | None = None) -> None:
    with database.writing() as session:
        record_result(session, job_id, 1, params_sha256="ab" * 32)
        finish_attempt(session, job_id, 1, outcome=state, reason=reason)
        assert move(session, job_id, from_=State.RUNNING, to=state, reason=reason, attempt=1)


def record_of(database: Database, job_id: str) -> MlflowRun:
    with database.reading() as session:
        return session.get_one(MlflowRun, job_id)


def is_finished(database: Database, job_id: str) -> bool:
    with database.reading() as session:
        return session.get_one(Job, job_id).mlflow_finished


def run_of(database: Database, mlflow: MlflowServer, job_id: str) -> dict[str, Any]:
    record = record_of(database, job_id)
    (run,) = mlflow.runs_of(job_id, record.experiment_id)
    assert run["info"]["run_id"] == record.run_id
    return run


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in run["data"]["tags"]}


def series(count: int, name: str = "train/loss") -> list[Point]:
    return [Point(name, step, 1 / step, 1_700_000_000_000 + step) for step in range(1, count + 1)]


def export_all(exporter: MlflowExporter) -> None:
    while exporter.step() == 0:
        pass


def trained_job(database: Database, settings: Settings, **changes: Any) -> str:
    """A job that has succeeded, with the checkpoint that its workers leave."""
    spec = SPEC.model_dump(mode="json") | {"experiment": f"experiment of {free_port()}"} | changes
    dataset = DATASET | {"digest": "0" * 64, "classes": list(CLASSES)}
    with database.writing() as session:
        job, _ = create_job(session, spec=spec, dataset=dataset, total_steps=100, body_sha256="b")
        attempt = start_attempt(session, job.id, "supervisor")
        move(session, job.id, from_=State.QUEUED, to=State.STARTING)
        move(session, job.id, from_=State.STARTING, to=State.RUNNING)
        record_points(session, job.id, attempt, series(3))
        job_id = job.id
    checkpoint_in(settings.job_dir(job_id), job=job_id)
    end_job(database, job_id, State.SUCCEEDED)
    return job_id


def models_of(mlflow: MlflowServer, record: MlflowRun) -> list[dict[str, Any]]:
    body = {"experiment_ids": [record.experiment_id], "filter": f"source_run_id = '{record.run_id}'"}
    return list(mlflow.call("POST", "logged-models/search", json=body).get("models", []))


def versions_of(mlflow: MlflowServer, name: str) -> list[dict[str, Any]]:
    answer = mlflow.call("GET", "model-versions/search", params={"filter": f"name = '{name}'"})
    return list(answer.get("model_versions", []))
