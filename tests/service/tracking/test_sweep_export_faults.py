"""Faults during the export of a sweep: its run is ended in spite of them."""

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
@pytest.mark.parametrize("exported", [False, True])
def test_the_run_of_a_sweep_ends_if_all_its_jobs_are_deleted(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, exported: bool
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    if exported:
        exporter.step()
    cancel(database, *jobs)
    with database.writing() as session:
        for job_id in jobs:
            delete_job(session, job_id)
    exporter.step()
    assert sweep_of(database, sweep_id).mlflow_finished
    if exported:
        assert run_of(database, mlflow, sweep_id)["info"]["status"] == "KILLED"
    else:
        assert sweep_of(database, sweep_id).mlflow_run_id is None


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_the_run_of_a_sweep_ends_if_a_member_is_rejected(
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
    assert run_of(database, mlflow, sweep_id)["info"]["status"] == "RUNNING", "a member still runs, exported or not"
    cancel(database, jobs[0])
    with database.writing() as session:
        session.get_one(Job, jobs[0]).state = State.CANCELLED
    exporter.step()
    assert run_of(database, mlflow, sweep_id)["info"]["status"] == "KILLED"


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_deleted_run_ends_only_the_export_of_its_sweep(
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

    def reject(*_arguments: object) -> None:
        pytest.fail("a rejected sweep is not exported again before the next start")

    monkeypatch.setattr(MlflowApi, "set_status", reject)
    assert exporter.step() > 0


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("method", ["tag_experiment", "create_run", "log_params", "set_tags", "set_status"])
def test_a_lost_response_duplicates_nothing(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    if method == "set_status":
        cancel(database, *jobs)
        exporter.step()
    call, losses = getattr(MlflowApi, method), ["the response was lost"]

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
def test_the_run_of_a_sweep_ends_if_its_artifacts_are_rejected(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(*_arguments: object) -> None:
        raise RejectedError("the artifacts are elsewhere", "UNSUPPORTED")

    sweep_id, jobs = make_sweep(database, seeds=1)
    for job_id in jobs:
        succeed(database, job_id, 0.5)
    monkeypatch.setattr(MlflowApi, "upload", reject)
    exporter.step()
    exporter.step()
    run = run_of(database, mlflow, sweep_id)
    assert run["info"]["status"] == "FINISHED"
    assert entries(run, "metrics")["hinge/val/accuracy"] == 0.5


def test_the_run_of_a_sweep_ends_if_its_picture_cannot_be_drawn(
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
