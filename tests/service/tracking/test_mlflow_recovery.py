"""Experiments, runs and models are deleted or renamed in MLflow, or its database is a new one: no point is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from service.jobs.actions import apply_action
from service.jobs.repository import move
from service.jobs.schemas import job_view
from service.jobs.states import Action, State
from service.store.models import Event, Job, MlflowRun, Sweep
from service.tracking import exporter as exporter_module
from tests.service.fixtures.exported_jobs import (
    end_job,
    export_all,
    is_finished,
    queue_job,
    record_of,
    run_job,
    run_of,
    series,
    tags_of,
    trained_job,
    versions_of,
)
from tests.service.fixtures.exported_sweeps import make_sweep, sweep_of
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import free_port, train, wait_until

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store import Database
    from service.tracking import MlflowExporter
    from tests.service.fakes.mlflow_server import MlflowServer

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def mlflow_url(mlflow: MlflowServer) -> str:
    return mlflow.url


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What MLflow rejects is tried again in the next step."""
    assert exporter_module.FIRST_REPEAT_SECONDS == 60
    monkeypatch.setattr(exporter_module, "FIRST_REPEAT_SECONDS", 0.0)


def job_of(database: Database, job_id: str) -> Any:
    """The job as the API shows it."""
    with database.reading() as session:
        return job_view(session.get_one(Job, job_id), None)


def add_points(database: Database, job_id: str, count: int) -> None:
    with database.writing() as session:
        record_points(session, job_id, 1, series(count))


def events_of(database: Database, job_id: str) -> list[str]:
    query = select(Event.kind).where(Event.job_id == job_id, Event.kind.startswith("mlflow"))
    with database.reading() as session:
        return list(session.scalars(query))


def finish(database: Database, exporter: MlflowExporter, job_id: str) -> None:
    end_job(database, job_id, State.SUCCEEDED)
    export_all(exporter)
    assert is_finished(database, job_id)


def steps(database: Database, mlflow: MlflowServer, job_id: str) -> list[int]:
    """The steps of the points in the run of a job."""
    run_id = run_of(database, mlflow, job_id)["info"]["run_id"]
    return sorted(int(point.get("step", 0)) for point in mlflow.history(run_id, "train/loss_step"))


@pytest.mark.parametrize("begun", [True, False])
def test_a_deleted_experiment_is_restored(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, begun: bool
) -> None:
    """Before the job has a run in it, and in the middle of the export."""
    job_id = run_job(database, series(5))
    with database.reading() as session:
        name = session.get_one(Job, job_id).experiment
    if begun:
        export_all(exporter)
        experiment_id = record_of(database, job_id).experiment_id
    else:
        experiment_id = mlflow.call("POST", "experiments/create", json={"name": name})["experiment_id"]
    mlflow.call("POST", "experiments/delete", json={"experiment_id": experiment_id})
    add_points(database, job_id, 9)
    finish(database, exporter, job_id)
    assert record_of(database, job_id).experiment_id == experiment_id
    assert steps(database, mlflow, job_id) == list(range(1, 10))
    assert (job_of(database, job_id).mlflow_problem, events_of(database, job_id)) == (None, [])


def test_the_job_says_that_its_run_was_deleted_and_goes_on_when_it_is_restored(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    job_id = run_job(database, series(5))
    export_all(exporter)
    run_id = record_of(database, job_id).run_id
    mlflow.call("POST", "runs/delete", json={"run_id": run_id})
    add_points(database, job_id, 9)
    for _ in range(3):
        exporter.step()
    problem = job_of(database, job_id).mlflow_problem
    assert problem.startswith(f"The run {run_id} was deleted in MLflow. If it is restored there, the export continues.")
    assert events_of(database, job_id) == ["mlflow_rejected"], "not again with every try"
    mlflow.call("POST", "runs/restore", json={"run_id": run_id})
    finish(database, exporter, job_id)
    assert steps(database, mlflow, job_id) == list(range(1, 10))
    assert job_of(database, job_id).mlflow_problem is None


def test_a_renamed_experiment_keeps_its_jobs(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    job_id = run_job(database, series(5))
    export_all(exporter)
    experiment_id = record_of(database, job_id).experiment_id
    renamed = {"experiment_id": experiment_id, "new_name": f"renamed {free_port()}"}
    mlflow.call("POST", "experiments/update", json=renamed)
    add_points(database, job_id, 9)
    finish(database, exporter, job_id)
    assert record_of(database, job_id).experiment_id == experiment_id
    assert steps(database, mlflow, job_id) == list(range(1, 10))


def forget_everything(database: Database, mlflow: MlflowServer) -> None:
    """Make MLflow look like one with a new database: it has none of the runs, and no experiment of these names."""
    unknown = {"run_id": "f" * 32, "experiment_id": "987654321"}
    with database.writing() as session:
        known = {
            *session.scalars(select(MlflowRun.experiment_id)),
            *session.scalars(select(Sweep.mlflow_experiment_id)),
        }
        session.execute(update(MlflowRun).values(unknown))
        session.execute(update(Sweep).values({f"mlflow_{name}": value for name, value in unknown.items()}))
    for experiment_id in known:
        renamed = {"experiment_id": experiment_id, "new_name": f"before {free_port()} {experiment_id}"}
        mlflow.call("POST", "experiments/update", json=renamed)


def test_jobs_are_exported_again_to_a_new_mlflow_database(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    """Those whose export is not complete, from their first point; the others stay as they are."""
    done, running, waiting = run_job(database, series(4)), run_job(database, series(5)), queue_job(database)
    finish(database, exporter, done)
    forget_everything(database, mlflow)
    add_points(database, running, 9)
    finish(database, exporter, running)
    assert steps(database, mlflow, running) == list(range(1, 10))
    assert events_of(database, running) == ["mlflow_exported_again"]
    assert job_of(database, running).mlflow_problem is None
    assert record_of(database, done).run_id == "f" * 32
    with database.writing() as session:
        apply_action(session, waiting, Action.CANCEL)
    export_all(exporter)
    assert run_of(database, mlflow, waiting)["info"]["status"] == "KILLED"


def test_a_sweep_is_exported_again_to_a_new_mlflow_database(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    sweep_id, members = make_sweep(database, seeds=1)
    train(database, members[0], None)
    export_all(exporter)
    forget_everything(database, mlflow)
    with database.writing() as session:
        move(session, members[0], from_=State.RUNNING, to=State.SUCCEEDED)
        apply_action(session, members[1], Action.CANCEL)
    export_all(exporter)
    parent = sweep_of(database, sweep_id).mlflow_run_id
    for job_id, status in zip(members, ("FINISHED", "KILLED"), strict=True):
        run = run_of(database, mlflow, job_id)
        assert (run["info"]["status"], tags_of(run)["mlflow.parentRunId"]) == (status, parent)
    wait_until(lambda: exporter.step() and sweep_of(database, sweep_id).mlflow_finished, "the sweep is exported")


def test_the_deleted_experiment_of_a_sweep_is_restored(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    sweep_id, members = make_sweep(database, seeds=1)
    exporter.step()
    experiment_id = sweep_of(database, sweep_id).mlflow_experiment_id
    mlflow.call("POST", "experiments/delete", json={"experiment_id": experiment_id})
    with database.writing() as session:
        for job_id in members:
            apply_action(session, job_id, Action.CANCEL)
    export_all(exporter)
    assert {record_of(database, job_id).experiment_id for job_id in members} == {experiment_id}
    wait_until(lambda: exporter.step() and sweep_of(database, sweep_id).mlflow_finished, "the sweep is exported")
    assert (
        mlflow.call("GET", "experiments/get", params={"experiment_id": experiment_id})["experiment"]["lifecycle_stage"]
        == "active"
    )


def test_a_deleted_registered_model_is_registered_again(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    name = f"digits {free_port()}"
    for _ in range(2):
        job_id = trained_job(database, settings, registered_model_name=name)
        export_all(exporter)
        assert is_finished(database, job_id)
        assert [version["version"] for version in versions_of(mlflow, name)] == ["1"]
        mlflow.call("DELETE", "registered-models/delete", json={"name": name})


def test_a_part_that_mlflow_refuses_is_shown_on_the_job(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    """Such a name cannot be submitted, but MLflow may refuse another one some day."""
    job_id = trained_job(database, settings, registered_model_name=".")
    export_all(exporter)
    shown = job_of(database, job_id)
    assert shown.mlflow.complete
    assert run_of(database, mlflow, job_id)["info"]["status"] == "FINISHED"
    assert shown.mlflow_problem.startswith("MLflow refuses this part of the job: model: Invalid value")
    assert events_of(database, job_id) == ["mlflow_set_aside"]
