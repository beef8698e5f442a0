from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select

from service.jobs.metrics import Point, record_points
from service.jobs.repository import (
    create_job,
    finish_attempt,
    get_job,
    move,
    record_result,
    start_attempt,
)
from service.jobs.requests import make_request
from service.jobs.schemas import job_view
from service.jobs.states import Request, State
from service.settings import Settings
from service.store.models import Event, Job, MlflowRun
from service.tracking import MlflowExporter
from service.tracking.exporter import POINTS_PER_CALL, flatten
from service.tracking.mlflow_api import MlflowApi, UnavailableError
from tests.service.support import free_port, hinge_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.store import Database

START_SECONDS = 60


class MlflowServer:
    """A real MLflow server that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (directory / "server.log").open("wb")

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{self.directory}/mlflow.db"),
            *("--artifacts-destination", str(self.directory / "artifacts")),
        ]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < deadline, "MLflow did not start"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        answer = httpx.request(method, f"{self.url}/api/2.0/mlflow/{path}", **arguments)
        answer.raise_for_status()
        return dict(answer.json())

    def runs_of(self, job_id: str, experiment_id: str) -> list[dict[str, Any]]:
        body = {"experiment_ids": [experiment_id], "filter": f"tags.`gradfleet.job_id` = '{job_id}'"}
        return list(self.call("POST", "runs/search", json=body).get("runs", []))

    def history(self, run_id: str, name: str) -> list[dict[str, Any]]:
        query = {"run_id": run_id, "metric_key": name, "max_results": "25000"}
        return list(self.call("GET", "metrics/get-history", params=query).get("metrics", []))


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()
    server.log.close()


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None, mlflow: MlflowServer) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url, mlflow_url=mlflow.url)


@pytest.fixture
def exporter(database: Database, settings: Settings) -> Iterator[MlflowExporter]:
    exporter = MlflowExporter(database, settings)
    yield exporter
    exporter.stop()


def queue_job(database: Database) -> str:
    spec = hinge_job(experiment=f"experiment of {free_port()}")
    with database.writing() as session:
        job, _ = create_job(session, spec=spec, dataset={"digest": "0" * 64}, total_steps=100, body_sha256="b")
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


def series(count: int, name: str = "train/loss") -> list[Point]:
    return [Point(name, step, 1 / step, 1_700_000_000_000 + step) for step in range(1, count + 1)]


def export_all(exporter: MlflowExporter) -> None:
    while exporter.step() == 0:
        pass


def test_a_run_follows_its_job(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    job_id = queue_job(database)
    exporter.step()
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "SCHEDULED"
    assert run["info"]["run_name"] == "digits-hinge"
    params = {entry["key"]: entry["value"] for entry in run["data"]["params"]}
    assert params["model.layers.0.units"] == "128"
    assert params["optimizer.schedule.type"] == "cosine"
    assert params["regularization.l2"] == "0.0001"
    assert params == dict(flatten(hinge_job(experiment=params["experiment"])))

    infinity = float("inf")
    last = [
        Point("val/loss", 1, float("nan"), 5),
        Point("val/loss", 2, infinity, 6),
        Point("val/loss", 3, -infinity, 7),
    ]
    points = [*series(2 * POINTS_PER_CALL + 300), *last]
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING)
        record_points(session, job_id, attempt, points)
    export_all(exporter)
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "RUNNING"
    history = mlflow.history(run["info"]["run_id"], "train/loss")
    seen = {(point["step"], point["value"], point["timestamp"]) for point in history}
    assert len(history) == len(seen)
    assert seen == {(point.step, point.value, point.time_ms) for point in points if point.name == "train/loss"}
    unfinite = mlflow.history(run["info"]["run_id"], "val/loss")
    assert [math.isnan(float(point["value"])) for point in unfinite] == [True] * 3

    for step, weights in ((100, b"former"), (2300, b"weights" * 100_000)):
        directory = settings.job_dir(job_id) / "checkpoints" / f"{step:012}"
        directory.mkdir(parents=True)
        (directory / "model.safetensors").write_bytes(weights)
        (directory / "checkpoint.json").write_text("{}")
    end_job(database, job_id, State.SUCCEEDED)
    exporter.step()
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["end_time"] >= run["info"]["start_time"]
    tags = {entry["key"]: entry["value"] for entry in run["data"]["tags"]}
    assert tags["gradfleet.params_sha256"] == "ab" * 32
    assert "gradfleet.reason" not in tags
    files = mlflow.call("GET", "artifacts/list", params={"run_id": run["info"]["run_id"], "path": "model"})["files"]
    assert {file["path"]: file["file_size"] for file in files if file["path"] != "model/spec.yaml"} == {
        "model/model.safetensors": 700_000,
        "model/checkpoint.json": 2,
    }
    assert "model/spec.yaml" in {file["path"] for file in files}

    with database.reading() as session:
        job = get_job(session, job_id)
        assert job is not None
        view = job_view(job, settings.mlflow_link).mlflow
    assert view is not None
    info = run["info"]
    page = f"experiments/{info['experiment_id']}/runs/{info['run_id']}"
    assert view.url == f"{mlflow.url}/#/{page}?workflowType=machine_learning"


def test_how_a_job_ended_is_told(database: Database, mlflow: MlflowServer, exporter: MlflowExporter) -> None:
    failed = run_job(database, series(3))
    end_job(database, failed, State.FAILED, reason="worker_died: out of memory")
    cancelled = queue_job(database)
    with database.writing() as session:
        make_request(session, cancelled, Request.CANCEL)
    export_all(exporter)
    run = run_of(database, mlflow, failed)
    assert run["info"]["status"] == "FAILED"
    assert {"key": "gradfleet.reason", "value": "worker_died: out of memory"} in run["data"]["tags"]
    assert len(mlflow.history(run["info"]["run_id"], "train/loss")) == 3
    assert run_of(database, mlflow, cancelled)["info"]["status"] == "KILLED"
    assert is_finished(database, failed)
    assert exporter.step() > 0


def test_a_job_that_is_starting_is_told_later(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    job_id = queue_job(database)
    with database.writing() as session:
        start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
    assert exporter.step() > 0
    with database.reading() as session:
        assert session.get(MlflowRun, job_id) is None
    with database.writing() as session:
        move(session, job_id, from_=State.STARTING, to=State.RUNNING)
    exporter.step()
    assert run_of(database, mlflow, job_id)["info"]["status"] == "RUNNING"


def lose_the_answer(monkeypatch: pytest.MonkeyPatch, method: str) -> Callable[[], int]:
    """The first call of an API method arrives, but its answer does not; gives how often it was called."""
    call, calls = getattr(MlflowApi, method), []

    def losing(*arguments: Any) -> Any:
        answer = call(*arguments)
        calls.append(arguments)
        if len(calls) == 1:
            raise UnavailableError("the answer was lost")
        return answer

    monkeypatch.setattr(MlflowApi, method, losing)
    return lambda: len(calls)


@pytest.mark.parametrize("method", ["create_run", "log_params", "log_points", "upload", "set_tags", "set_status"])
def test_a_lost_answer_doubles_nothing(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    calls = lose_the_answer(monkeypatch, method)
    job_id = run_job(database, series(20))
    end_job(database, job_id, State.SUCCEEDED)
    assert exporter.step() > 0
    assert calls() == 1
    export_all(exporter)
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "FINISHED"
    history = mlflow.history(run["info"]["run_id"], "train/loss")
    assert sorted(point["step"] for point in history) == list(range(1, 21))


def test_a_server_that_is_killed_loses_and_doubles_nothing(
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
    assert [record.message.partition(",")[0] for record in caplog.records if record.name.startswith("service")] == [
        "MLflow cannot be told",
        "MLflow answers again",
    ]
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "FINISHED"
    history = mlflow.history(run["info"]["run_id"], "train/loss")
    assert sorted((point["step"], point["value"]) for point in history) == [
        (point.step, point.value) for point in points
    ]


def test_a_new_exporter_goes_on_where_the_last_one_stopped(
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
    assert len(mlflow.history(run["info"]["run_id"], "train/loss")) == POINTS_PER_CALL + 5


def test_what_mlflow_does_not_take_is_set_aside_alone(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    bad = Point("bad!name", 7, 1.0, 1)
    job_id = run_job(database, [*series(10), bad, *series(10, "val/loss")])
    export_all(exporter)
    run_id = run_of(database, mlflow, job_id)["info"]["run_id"]
    assert len(mlflow.history(run_id, "train/loss")) == 10
    assert len(mlflow.history(run_id, "val/loss")) == 10
    with database.reading() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == "mlflow_set_aside"))
    assert event.job_id == job_id
    assert event.data is not None
    assert "bad!name" in event.data["entry"]


def test_a_deleted_run_ends_the_export_of_its_job_only(
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


def test_without_mlflow_nothing_starts(database: Database, tmp_path: Path) -> None:
    exporter = MlflowExporter(database, Settings(data_dir=tmp_path))
    exporter.start()
    exporter.stop()
