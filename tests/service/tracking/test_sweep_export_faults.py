"""What goes wrong while MLflow is told of a sweep: no sweep stays open for it."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from service.analysis.artist import Artist, DrawingError
from service.jobs.actions import delete_job
from service.jobs.states import State
from service.settings import Settings
from service.store.models import Job, MlflowRun
from service.tracking import MlflowExporter
from service.tracking.mlflow.api import MlflowApi, RejectedError, UnavailableError
from tests.service.fixtures.exported_sweeps import (
    LOSSES,
    cancel,
    entries,
    make_sweep,
    run_of,
    succeed,
    sweep_of,
)
from tests.service.fixtures.support import train

if TYPE_CHECKING:
    from service.store import Database
    from tests.service.fakes.mlflow_server import MlflowServer


@pytest.fixture
def mlflow_url(mlflow: MlflowServer) -> str:
    return mlflow.url


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("told", [False, True])
def test_a_sweep_whose_jobs_were_all_deleted(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, told: bool
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    if told:
        exporter.step()
    cancel(database, *jobs)
    with database.writing() as session:
        for job_id in jobs:
            delete_job(session, job_id)
    exporter.step()
    assert sweep_of(database, sweep_id).mlflow_finished
    if told:
        assert run_of(database, mlflow, sweep_id)["info"]["status"] == "KILLED"
    else:
        assert sweep_of(database, sweep_id).mlflow_run_id is None


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_member_that_mlflow_refuses_keeps_no_sweep_open(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    exporter.step()
    with database.reading() as session:
        run_id = session.get_one(MlflowRun, jobs[0]).run_id
    mlflow.call("POST", "runs/delete", json={"run_id": run_id})
    train(database, jobs[0], None)
    exporter.step()
    cancel(database, jobs[1])
    exporter.step()
    exporter.step()
    assert run_of(database, mlflow, sweep_id)["info"]["status"] == "RUNNING", "a member still runs, told or not"
    cancel(database, jobs[0])
    with database.writing() as session:
        session.get_one(Job, jobs[0]).state = State.CANCELLED
    exporter.step()
    assert run_of(database, mlflow, sweep_id)["info"]["status"] == "KILLED"


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_deleted_sweep_run_ends_its_export_only(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    exporter.step()
    mlflow.call("POST", "runs/delete", json={"run_id": sweep_of(database, sweep_id).mlflow_run_id})
    cancel(database, *jobs)
    exporter.step()
    exporter.step()
    with database.reading() as session:
        assert all(session.get_one(Job, job_id).mlflow_finished for job_id in jobs)
    assert not sweep_of(database, sweep_id).mlflow_finished

    def refuse(*_arguments: object) -> None:
        pytest.fail("it is set aside until the next start")

    monkeypatch.setattr(MlflowApi, "set_status", refuse)
    assert exporter.step() > 0


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("method", ["tag_experiment", "create_run", "log_params", "set_tags", "set_status"])
def test_a_lost_answer_doubles_nothing(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    if method == "set_status":
        cancel(database, *jobs)
        exporter.step()
    call, losses = getattr(MlflowApi, method), ["the answer was lost"]

    def losing(*arguments: Any) -> Any:
        answer = call(*arguments)
        if losses:
            raise UnavailableError(losses.pop())
        return answer

    monkeypatch.setattr(MlflowApi, method, losing)
    exporter.step()
    assert not losses
    cancel(database, *jobs)
    exporter.step()
    exporter.step()
    run = run_of(database, mlflow, sweep_id)
    assert run["info"]["status"] == "KILLED"
    assert entries(run, "params")["over.loss"] == json.dumps(LOSSES)
    assert "softmax" in entries(run, "tags")["mlflow.note.content"]


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_what_mlflow_does_not_take_of_a_comparison_keeps_no_sweep_open(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise RejectedError("the artifacts lie elsewhere", "UNSUPPORTED")

    sweep_id, jobs = make_sweep(database, seeds=1)
    for job_id in jobs:
        succeed(database, job_id, 0.5)
    monkeypatch.setattr(MlflowApi, "upload", refuse)
    exporter.step()
    exporter.step()
    run = run_of(database, mlflow, sweep_id)
    assert run["info"]["status"] == "FINISHED"
    assert entries(run, "metrics")["hinge/val/accuracy"] == 0.5


def test_a_picture_that_can_not_be_drawn_keeps_no_sweep_open(
    database: Database,
    settings: Settings,
    mlflow: MlflowServer,
    exporter: MlflowExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed: Future[None] = Future()
    failed.set_exception(DrawingError("CRASHED", "it ended"))
    monkeypatch.setattr(Artist, "draw", lambda *_: failed)
    sweep_id, jobs = make_sweep(database)
    for job_id in jobs:
        settings.job_dir(job_id).mkdir(parents=True)
        succeed(database, job_id, 0.9)
    for _ in range(3):
        exporter.step()
    assert sweep_of(database, sweep_id).mlflow_finished
    assert run_of(database, mlflow, sweep_id)["info"]["status"] == "FINISHED"
