"""Faults during the export of a job: nothing is lost and nothing is exported twice."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from service.jobs.series.points import Point
from service.jobs.states import State
from service.settings import Settings
from service.store.models import Event, Verification
from service.tracking import MlflowExporter
from service.tracking.job_export import POINTS_PER_CALL
from service.tracking.mlflow.api import MlflowApi, UnavailableError
from tests.service.fixtures.exported_jobs import (
    LABELS,
    end_job,
    export_all,
    is_finished,
    models_of,
    record_of,
    run_job,
    run_of,
    series,
    tags_of,
    trained_job,
    versions_of,
)
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.store import Database
    from tests.service.fakes.mlflow_server import MlflowServer

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def mlflow_url(mlflow: MlflowServer) -> str:
    return mlflow.url


def lose_first_response(monkeypatch: pytest.MonkeyPatch, method: str) -> Callable[[], int]:
    """Lose the response to the first call of an API method. Returns a function that counts the calls."""
    call, calls = getattr(MlflowApi, method), []

    def losing(*arguments: Any) -> Any:
        answer = call(*arguments)
        calls.append(arguments)
        if len(calls) == 1:
            raise UnavailableError("the response was lost")
        return answer

    monkeypatch.setattr(MlflowApi, method, losing)
    return lambda: len(calls)


@pytest.mark.parametrize(
    "method", ["create_run", "log_params", "log_inputs", "log_points", "upload", "set_tags", "set_status"]
)
def test_a_lost_response_duplicates_nothing(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    calls = lose_first_response(monkeypatch, method)
    job_id = run_job(database, series(20))
    end_job(database, job_id, State.SUCCEEDED)
    assert exporter.step() > 0
    assert calls() == 1
    export_all(exporter)
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "FINISHED"
    assert len(run["inputs"]["dataset_inputs"]) == 1
    history = mlflow.history(run["info"]["run_id"], "train/loss_step")
    assert sorted(point["step"] for point in history) == list(range(1, 21))


def test_nothing_is_lost_or_duplicated_when_the_server_is_killed(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, caplog: pytest.LogCaptureFixture
) -> None:
    points = series(3 * POINTS_PER_CALL)
    job_id = run_job(database, points)
    end_job(database, job_id, State.SUCCEEDED)
    assert exporter.step() == 0
    mlflow.kill()
    with caplog.at_level(logging.INFO):
        waits = [exporter.step() for _ in range(8)]
        mlflow.start()
        export_all(exporter)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    messages = [record.message.partition(",")[0] for record in caplog.records if record.name.startswith("service")]
    # This job, which was not trained, has no certificate; the message says so.
    assert messages[:2] == ["MLflow is unavailable", "MLflow is available again"]
    assert [message for message in messages[2:] if "has no certificate" not in message] == []
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "FINISHED"
    history = mlflow.history(run["info"]["run_id"], "train/loss_step")
    assert sorted((point["step"], point["value"]) for point in history) == [
        (point.step, point.value) for point in points
    ]


def test_a_new_exporter_continues_where_the_last_one_stopped(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    job_id = run_job(database, series(POINTS_PER_CALL + 5))
    assert exporter.step() == 0
    end_job(database, job_id, State.SUCCEEDED)
    successor = MlflowExporter(database, settings)
    successor.start()
    try:
        deadline = time.monotonic() + 30
        while not is_finished(database, job_id):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        successor.stop()
    run = run_of(database, mlflow, job_id)
    assert len(mlflow.history(run["info"]["run_id"], "train/loss_step")) == POINTS_PER_CALL + 5


def test_only_the_rejected_point_is_skipped(database: Database, mlflow: MlflowServer, exporter: MlflowExporter) -> None:
    bad = Point("bad!name", 7, 1.0, 1)
    job_id = run_job(database, [*series(10), bad, *series(10, "val/loss")])
    export_all(exporter)
    run_id = run_of(database, mlflow, job_id)["info"]["run_id"]
    assert len(mlflow.history(run_id, "train/loss_step")) == 10
    assert len(mlflow.history(run_id, "val/loss")) == 10
    with database.reading() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == "mlflow_set_aside"))
    assert event.job_id == job_id
    assert event.data is not None
    assert "bad!name" in event.data["entry"]


def test_only_the_rejected_label_is_skipped(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LABELS, "no//path", "x")
    job_id = run_job(database, [])
    end_job(database, job_id, State.SUCCEEDED)
    export_all(exporter)
    tags = tags_of(run_of(database, mlflow, job_id))
    assert [name for name in tags if name.startswith("gradfleet.label.")] == ["gradfleet.label.team"]
    assert "Succeeded" in tags["mlflow.note.content"]
    assert is_finished(database, job_id)


def test_a_deleted_run_ends_only_the_export_of_its_job(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    deleted = run_job(database, [])
    exporter.step()
    mlflow.call("POST", "runs/delete", json={"run_id": record_of(database, deleted).run_id})
    with database.writing() as session:
        record_points(session, deleted, 1, series(100))
    other = run_job(database, series(5))
    end_job(database, other, State.SUCCEEDED)
    export_all(exporter)
    assert is_finished(database, other)
    with database.reading() as session:
        kinds = list(
            session.scalars(select(Event.kind).where(Event.job_id == deleted, Event.kind.startswith("mlflow")))
        )
    assert kinds == ["mlflow_rejected"]


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("lost", ["create_model", "finish_model", "register_model", "set_status"])
def test_a_model_is_logged_once_if_a_response_is_lost(
    database: Database,
    settings: Settings,
    mlflow: MlflowServer,
    exporter: MlflowExporter,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    call, losses = getattr(MlflowApi, lost), ["the response was lost"]

    def call_and_lose(api: MlflowApi, *arguments: Any) -> Any:
        answer = call(api, *arguments)
        if losses:
            raise UnavailableError(losses.pop())
        return answer

    monkeypatch.setattr(MlflowApi, lost, call_and_lose)
    name = f"digits {free_port()}"
    job_id = trained_job(database, settings, registered_model_name=name)
    exporter.step()
    assert not losses
    exporter.step()
    assert is_finished(database, job_id)
    assert len(models_of(mlflow, record_of(database, job_id))) == 1
    assert len(versions_of(mlflow, name)) == 1


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("sample", [None, {"chosen": []}])
def test_replayed_intervals_are_not_exported_as_a_model(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter, sample: Any
) -> None:
    job_id = trained_job(database, settings)
    with database.writing() as session:
        session.add(Verification(job_id=job_id, certificate={}, equal=True, differences=[], notes=[], sample=sample))
    export_all(exporter)
    assert is_finished(database, job_id)
    assert len(models_of(mlflow, record_of(database, job_id))) == (1 if sample is None else 0)


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_without_an_intact_checkpoint_the_run_ends_without_a_model(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    job_id = trained_job(database, settings)
    (weights,) = settings.job_dir(job_id).glob("checkpoints/*/best.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    export_all(exporter)
    assert is_finished(database, job_id)
    assert models_of(mlflow, record_of(database, job_id)) == []
    with database.reading() as session:
        events = session.scalars(select(Event).where(Event.job_id == job_id, Event.kind == "mlflow_set_aside")).all()
        assert [event.data for event in events] == [{"entry": "model", "error_code": "DAMAGED"}]
