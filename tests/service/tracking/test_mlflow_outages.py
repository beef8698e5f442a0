"""Export during faults of MLflow or the network: points may be late, but are not lost or duplicated."""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from service.jobs.states import State
from service.settings import Settings
from service.store.models import MlflowRun
from service.tracking import MlflowExporter, exporter
from service.tracking.job_export import POINTS_PER_CALL
from service.tracking.mlflow import api as mlflow_api
from tests.service.fakes.flaky_proxy import Disconnect, Fault, LoseResponse, Respond, Slow, flaky
from tests.service.fixtures.exported_jobs import end_job, is_finished, queue_job, run_job, run_of, series
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.jobs.series.points import Point
    from service.store import Database
    from tests.service.fakes.flaky_proxy import FlakyProxy
    from tests.service.fakes.mlflow_server import MlflowServer

TIMEOUT = 3.0  # seconds
FAULTS = [Respond(500), Respond(401), Disconnect(), LoseResponse(), Slow(0.2), Slow(2 * TIMEOUT)]


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def proxy(mlflow: MlflowServer) -> Iterator[FlakyProxy]:
    with flaky(mlflow.url) as proxy:
        yield proxy


@pytest.fixture
def settings(tmp_path: Path, proxy: FlakyProxy) -> Settings:
    return Settings(data_dir=tmp_path / "data", mlflow_url=proxy.url)


def assert_exported_once(database: Database, mlflow: MlflowServer, job_id: str, points: list[Point]) -> None:
    run = run_of(database, mlflow, job_id)
    assert run["info"]["status"] == "FINISHED"
    history = mlflow.history(run["info"]["run_id"], "train/loss_step")
    exported = sorted((point["step"], point["value"], point["timestamp"]) for point in history)
    assert exported == [(point.step, point.value, point.time_ms) for point in points]


def batches(proxy: FlakyProxy) -> int:
    return sum(path.endswith("log-batch") for _, path, _ in proxy.seen)


def cursor_of(database: Database, job_id: str) -> int:
    with database.reading() as session:
        record = session.get(MlflowRun, job_id)
    return 0 if record is None else record.metric_cursor


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_point_is_there_once_after_an_outage(
    database: Database,
    settings: Settings,
    mlflow: MlflowServer,
    proxy: FlakyProxy,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    """The outage begins while the job runs and a batch is sent, and lasts until the job has ended."""
    monkeypatch.setattr(mlflow_api, "TIMEOUT_S", TIMEOUT)
    monkeypatch.setattr(exporter, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(exporter, "LONGEST_WAIT_SECONDS", 0.05)
    points = series(3 * POINTS_PER_CALL)
    job_id = run_job(database, points[:POINTS_PER_CALL])
    running_exporter = MlflowExporter(database, settings)
    running_exporter.start()
    try:
        wait_until(lambda: cursor_of(database, job_id), "the first batch is exported", 60)
        proxy.always = fault
        before = batches(proxy)
        with database.writing() as session:
            record_points(session, job_id, 1, points[POINTS_PER_CALL:])
        wait_until(lambda: batches(proxy) > before + 1, "the batch is sent again", 60)
        end_job(database, job_id, State.SUCCEEDED)
        proxy.always = None
        wait_until(lambda: is_finished(database, job_id), "the export is complete", 60)
    finally:
        running_exporter.stop()
    assert_exported_once(database, mlflow, job_id, points)


class SilentServer:
    """A server that accepts a connection and never responds. `waiting` is set once it has received data."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with self._listener:
            self._connection, _ = self._listener.accept()
        self._connection.recv(1)
        self.waiting.set()

    def close(self) -> None:
        self._thread.join()
        self._connection.close()


def test_the_exporter_stops_if_the_server_never_responds(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(mlflow_api, "TIMEOUT_S", 1000)
    server = SilentServer()
    queue_job(database)
    running_exporter = MlflowExporter(
        database, settings.model_copy(update={"mlflow_url": Settings(mlflow_url=server.url).mlflow_url})
    )
    running_exporter.start()
    assert server.waiting.wait(60)
    running_exporter.stop()
    server.close()


def test_stopping_waits_for_the_last_response(
    database: Database, settings: Settings, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "ANSWER_SECONDS", 60)
    job_id = run_job(database, series(5))
    end_job(database, job_id, State.SUCCEEDED)
    proxy.always = Slow(0.05)
    running_exporter = MlflowExporter(database, settings)
    running_exporter.start()
    wait_until(lambda: proxy.seen, "a request is sent", 60)
    running_exporter.stop()
    assert is_finished(database, job_id)


@pytest.mark.timeout(300)
def test_every_point_is_there_once_if_the_server_is_killed_during_a_batch(
    database: Database, settings: Settings, mlflow: MlflowServer, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "LONGEST_WAIT_SECONDS", 0.05)
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201
    points = series(4 * POINTS_PER_CALL)
    job_id = run_job(database, points)
    end_job(database, job_id, State.SUCCEEDED)
    running_exporter = MlflowExporter(database, settings)
    running_exporter.start()
    try:
        wait_until(lambda: cursor_of(database, job_id), "the first batch is exported", 60)
        seen = batches(proxy)
        wait_until(lambda: batches(proxy) > seen, "another batch is sent", 60)
        time.sleep(random.Random(seed).uniform(0, 0.1))  # at a random moment of the request
        mlflow.kill()
        mlflow.start()
        wait_until(lambda: is_finished(database, job_id), "the export is complete", 60)
    finally:
        running_exporter.stop()
    assert_exported_once(database, mlflow, job_id, points)
