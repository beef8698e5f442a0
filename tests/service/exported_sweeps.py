"""Sweeps as the scheduler leaves them to the exporter, and what MLflow then has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from service.jobs.repository import move
from service.jobs.requests import make_request
from service.jobs.series.points import Point, record_points
from service.jobs.states import Request, State
from service.store.models import Job, Sweep
from service.sweeps.repository import create_sweep
from tests.service.support import free_port, hinge_job, train

if TYPE_CHECKING:
    from service.store import Database
    from tests.service.mlflow_server import MlflowServer

DATASET = {"digest": "0f" * 32, "path": "x", "rows": 1797, "features": 64, "classes": list("0123456789")}
LOSSES = [{"type": "hinge", "margin": 1.0}, {"type": "softmax"}]


def make_sweep(database: Database, seeds: int = 2, **changes: Any) -> tuple[str, list[str]]:
    """Ids of a sweep over two losses and some seeds, and of its jobs, all queued."""
    experiment = f"experiment of {free_port()}"
    members = [
        {
            "spec": hinge_job(experiment=experiment, loss=loss, **{"training.seed": seed, **changes}),
            "dataset": DATASET,
            "total_steps": 100,
            "body_sha256": "b",
            "overrides": {"loss": loss, "training.seed": seed},
        }
        for loss in LOSSES
        for seed in range(seeds)
    ]
    spec = {
        "name": "losses",
        "experiment": experiment,
        "base": {"optimizer": {"type": "sgd", "lr": 0.1}, "bad!name": 1},
        "over": {"grid": {"loss": LOSSES}, "list": None, "random": None},
        "seeds": list(range(seeds)),
        "parallel": 2,
    }
    with database.writing() as session:
        sweep, _ = create_sweep(session, spec=spec, members=members, body_sha256="b")
        jobs = session.query(Job.id).where(Job.sweep_id == sweep.id).order_by(Job.id)
        return sweep.id, [job_id for (job_id,) in jobs]


def sweep_of(database: Database, sweep_id: str) -> Sweep:
    with database.reading() as session:
        return session.get_one(Sweep, sweep_id)


def run_of(database: Database, mlflow: MlflowServer, sweep_id: str) -> dict[str, Any]:
    """The sweep's run, of which there is one."""
    experiment_id = sweep_of(database, sweep_id).mlflow_experiment_id
    body = {"experiment_ids": [experiment_id], "filter": f"tags.`gradfleet.sweep_id` = '{sweep_id}'"}
    (run,) = mlflow.call("POST", "runs/search", json=body)["runs"]
    assert run["info"]["run_id"] == sweep_of(database, sweep_id).mlflow_run_id
    return dict(run)


def entries(run: dict[str, Any], kind: str) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in run["data"].get(kind, [])}


def succeed(database: Database, job_id: str, accuracy: float) -> None:
    train(database, job_id, None)
    with database.writing() as session:
        record_points(session, job_id, 1, [Point("val/accuracy", 40, accuracy, 2), Point("val/loss", 40, 0.25, 2)])
        move(session, job_id, from_=State.RUNNING, to=State.SUCCEEDED)


def artifact(mlflow: MlflowServer, run_id: str, path: str) -> str:
    return httpx.get(f"{mlflow.url}/get-artifact", params={"run_id": run_id, "path": path}).raise_for_status().text


def cancel(database: Database, *jobs: str) -> None:
    with database.writing() as session:
        for job_id in jobs:
            make_request(session, job_id, Request.CANCEL)
