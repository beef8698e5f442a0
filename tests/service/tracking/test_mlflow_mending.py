"""Runs left in MLflow by a crash, a lost response or a deleted job are ended or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.jobs.actions import delete_job
from service.jobs.states import State
from service.settings import Settings
from service.tracking import MlflowExporter
from service.tracking.mlflow.api import RUNS_PER_CALL, MlflowApi, UnavailableError
from tests.service.fixtures.exported_jobs import (
    end_job,
    export_all,
    queue_job,
    record_of,
    run_job,
    run_of,
    series,
    tags_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from service.store import Database
    from tests.service.fakes.mlflow_server import MlflowServer


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def settings(tmp_path: Path, mlflow: MlflowServer) -> Settings:
    return Settings(data_dir=tmp_path / "data", mlflow_url=mlflow.url)


def export_after_restart(database: Database, settings: Settings) -> None:
    """Export with a new exporter, as a process does that has just started."""
    exporter = MlflowExporter(database, settings)
    export_all(exporter)
    exporter.step()
    exporter.stop()


def make_run(mlflow: MlflowServer, experiment_id: str, job_id: str) -> str:
    """Create a run as the exporter does; its status is RUNNING."""
    tags = [{"key": "gradfleet.job_id", "value": job_id}]
    answer = mlflow.call("POST", "runs/create", json={"experiment_id": experiment_id, "start_time": 1, "tags": tags})
    return str(answer["run"]["info"]["run_id"])


def info_of(mlflow: MlflowServer, run_id: str) -> dict[str, Any]:
    return dict(mlflow.call("GET", "runs/get", params={"run_id": run_id})["run"]["info"])


def test_the_run_of_a_job_deleted_during_its_export_is_ended(
    database: Database, settings: Settings, mlflow: MlflowServer
) -> None:
    job_id = run_job(database, series(5))
    export_after_restart(database, settings)
    record = record_of(database, job_id)
    assert info_of(mlflow, record.run_id)["status"] == "RUNNING"
    end_job(database, job_id, State.SUCCEEDED)
    with database.writing() as session:
        delete_job(session, job_id)
    export_after_restart(database, settings)
    (run,) = mlflow.runs_of(job_id, record.experiment_id)
    assert run["info"]["status"] == "KILLED"
    assert tags_of(run)["gradfleet.reason"] == "it was deleted in Gradfleet before its export was complete"
    assert len(mlflow.history(record.run_id, "train/loss_step")) == 5, "exported points are kept"


def test_the_run_of_a_deleted_job_stays_as_it_is_after_a_complete_export(
    database: Database, settings: Settings, mlflow: MlflowServer
) -> None:
    job_id = run_job(database, series(5))
    end_job(database, job_id, State.SUCCEEDED)
    export_after_restart(database, settings)
    record = record_of(database, job_id)
    with database.writing() as session:
        delete_job(session, job_id)
    export_after_restart(database, settings)
    assert info_of(mlflow, record.run_id)["status"] == "FINISHED"


@pytest.mark.parametrize("ended", [False, True])
def test_a_second_run_of_a_job_is_deleted(
    database: Database, settings: Settings, mlflow: MlflowServer, ended: bool
) -> None:
    job_id = run_job(database, series(5))
    export_after_restart(database, settings)
    record = record_of(database, job_id)
    second = make_run(mlflow, record.experiment_id, job_id)
    if ended:
        end_job(database, job_id, State.SUCCEEDED)
    export_after_restart(database, settings)
    assert run_of(database, mlflow, job_id)["info"]["status"] == ("FINISHED" if ended else "RUNNING")
    assert info_of(mlflow, second)["lifecycle_stage"] == "deleted"


def test_a_run_whose_job_has_ended_is_ended(database: Database, settings: Settings, mlflow: MlflowServer) -> None:
    job_id = run_job(database, series(5))
    end_job(database, job_id, State.FAILED, reason="worker_died: it was killed")
    export_after_restart(database, settings)
    run_id = record_of(database, job_id).run_id
    mlflow.call("POST", "runs/update", json={"run_id": run_id, "status": "RUNNING"})
    export_after_restart(database, settings)
    assert info_of(mlflow, run_id)["status"] == "FAILED"


def test_runs_of_other_services_are_not_changed(database: Database, settings: Settings, mlflow: MlflowServer) -> None:
    job_id = run_job(database, series(5))
    export_after_restart(database, settings)
    experiment_id = record_of(database, job_id).experiment_id
    foreign = make_run(mlflow, experiment_id, "job_of_another_service")
    untagged = mlflow.call("POST", "runs/create", json={"experiment_id": experiment_id})["run"]["info"]["run_id"]
    export_after_restart(database, settings)
    for run_id in (foreign, untagged):
        info = info_of(mlflow, run_id)
        assert (info["status"], info["lifecycle_stage"]) == ("RUNNING", "active")


def test_runs_are_searched_once_and_again_after_an_outage(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    unended_runs, down = MlflowApi.unended_runs, False

    def record_call(api: MlflowApi, *arguments: Any) -> Any:
        calls.append("unended_runs")
        if down:
            raise UnavailableError("MLflow is down")
        return unended_runs(api, *arguments)

    monkeypatch.setattr(MlflowApi, "unended_runs", record_call)
    exporter = MlflowExporter(database, settings)
    queue_job(database)
    down = True
    exporter.step()
    assert calls == ["unended_runs"]
    assert not exporter.status().ready
    down = False
    for _ in range(4):
        exporter.step()
    exporter.stop()
    assert calls == ["unended_runs"] * 3, "once without success, once with success, and once after the outage"


def test_every_page_is_read(
    database: Database, settings: Settings, mlflow: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RUNS_PER_CALL > 2
    monkeypatch.setattr("service.tracking.mlflow.api.RUNS_PER_CALL", 2)
    job_id = run_job(database, [])
    export_after_restart(database, settings)
    record = record_of(database, job_id)
    seconds = [make_run(mlflow, record.experiment_id, job_id) for _ in range(5)]
    export_after_restart(database, settings)
    assert {info_of(mlflow, run_id)["lifecycle_stage"] for run_id in seconds} == {"deleted"}
    assert info_of(mlflow, record.run_id)["lifecycle_stage"] == "active"
