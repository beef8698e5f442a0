from __future__ import annotations

import io
import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sqlalchemy import select

from service.jobs.metrics import Point, record_points
from service.jobs.repository import (
    create_job,
    finish_attempt,
    get_job,
    move,
    record_event,
    record_result,
    start_attempt,
)
from service.jobs.requests import make_request
from service.jobs.schemas import job_view
from service.jobs.states import Request, State
from service.settings import Settings
from service.store.models import Event, Job, MlflowRun
from service.tracking import MlflowExporter
from service.tracking.entries import flatten
from service.tracking.job_export import POINTS_PER_CALL
from service.tracking.mlflow_api import MlflowApi, UnavailableError
from tests.service.models import BEST, CLASSES, LOAD, SPEC, checkpoint_in, python, rows, scores_of
from tests.service.support import free_port, hinge_job
from workers.history import STEP_METRICS, History
from workers.history_files import append_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.store import Database
    from tests.service.mlflow_server import MlflowServer

pytestmark = pytest.mark.usefixtures("nothing_is_drawn")

LABELS = {"team": "vision"}
DATASET = {"digest": "0f" * 32, "path": "x", "rows": 1797, "features": 64, "classes": list("0123456789")}


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None, mlflow: MlflowServer) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url, mlflow_url=mlflow.url)
    settings.allowed_roots[0].mkdir(parents=True)
    return settings


@pytest.fixture
def exporter(database: Database, settings: Settings) -> Iterator[MlflowExporter]:
    exporter = MlflowExporter(database, settings)
    yield exporter
    exporter.stop()


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
    tags = tags_of(run)
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


def test_a_run_says_what_ran_on_what_and_what_came_of_it(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    job_id = run_job(database, [*series(3), Point("val/accuracy", 3, 0.96875, 9), Point("val/loss", 3, math.nan, 9)])
    with database.writing() as session:
        record_event(session, job_id, 1, "training_started", data={"fingerprint": {"numpy": "2.9", "blas": "a 1"}})
    exporter.step()
    tags = tags_of(run_of(database, mlflow, job_id))
    assert tags["gradfleet.fingerprint.numpy"] == "2.9"
    assert tags["gradfleet.label.team"] == "vision"
    assert "Running" in tags["mlflow.note.content"]

    end_job(database, job_id, State.SUCCEEDED, reason="stopped_early: the watched metric has not become better")
    export_all(exporter)
    run = run_of(database, mlflow, job_id)
    tags = tags_of(run)
    assert tags["gradfleet.attempts"] == "1"
    assert tags["gradfleet.params_sha256"] == "ab" * 32
    note = tags["mlflow.note.content"]
    assert note.startswith("**Succeeded** after 0 of 100 steps: stopped_early: the watched metric")
    for said in (
        "- val/accuracy: **0.9688**",
        "- val/loss: **not a finite number**",
        "`digits`, 1,797 rows of 64 features, 10 classes; 20% kept",
        "loss: hinge (margin 1.0); penalties: l2 0.0001",
        "lr 0.1, momentum 0.9, schedule cosine",
        "linear (units 128) → relu → linear (units 10)",
        f"`GET /v1/jobs/{job_id}`",
    ):
        assert said in note
    (dataset_input,) = run["inputs"]["dataset_inputs"]
    assert dataset_input["tags"] == [{"key": "mlflow.data.context", "value": "training"}]
    dataset = dataset_input["dataset"]
    assert (dataset["name"], dataset["digest"]) == ("digits", "0f" * 18)
    assert json.loads(dataset["source"]) == {"dataset": "digits", "sha256": "0f" * 32}
    assert json.loads(dataset["profile"])["rows"] == 1797


@pytest.mark.usefixtures("digits")
def test_the_spec_in_a_run_can_be_posted_again(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, api: httpx.Client
) -> None:
    # Numbers without a point in their shortest form, and text that looks like something else.
    first = api.post("/v1/jobs", json=hinge_job(name="2024-01-01", experiment="no", **{"regularization.l2": 1e-07}))
    assert first.status_code == 201, first.text
    job = first.json()
    with database.writing() as session:
        make_request(session, job["id"], Request.CANCEL)
    export_all(exporter)
    run_id = record_of(database, job["id"]).run_id
    content = httpx.get(f"{mlflow.url}/get-artifact", params={"run_id": run_id, "path": "model/spec.yaml"}).text
    again = api.post("/v1/jobs", json=yaml.safe_load(content))
    assert again.status_code == 201, again.text
    assert again.json()["spec"] == job["spec"]


@pytest.mark.parametrize("damaged", [False, True])
def test_the_full_history_is_an_artifact(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter, damaged: bool
) -> None:
    job_id = run_job(database, [])
    history = History(0, 20_000)
    for step in range(1, 20_001):
        history.record_step(step, (1 / step,) * len(STEP_METRICS))
    table = history.unkept()
    append_history(settings.job_dir(job_id), table)
    if damaged:
        (file,) = (settings.job_dir(job_id) / "history").iterdir()
        file.write_bytes(file.read_bytes()[:1000])
    end_job(database, job_id, State.SUCCEEDED)
    export_all(exporter)
    assert is_finished(database, job_id)
    query = {"run_id": record_of(database, job_id).run_id, "path": "history/history.parquet"}
    answer = httpx.get(f"{mlflow.url}/get-artifact", params=query)
    with database.reading() as session:
        aside = list(session.scalars(select(Event.data).where(Event.kind == "mlflow_set_aside")))
    if damaged:
        assert not answer.is_success
        assert [data and data["entry"] for data in aside] == ["history"]
    else:
        assert pq.read_table(io.BytesIO(answer.content)).equals(table)
        assert aside == []


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


@pytest.mark.parametrize(
    "method", ["create_run", "log_params", "log_inputs", "log_points", "upload", "set_tags", "set_status"]
)
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
    assert len(run["inputs"]["dataset_inputs"]) == 1
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


def test_a_label_that_mlflow_does_not_take_is_set_aside_alone(
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


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_another_process_loads_the_model_from_the_server(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter, tmp_path: Path
) -> None:
    name = f"digits {free_port()}"
    job_id = trained_job(database, settings, registered_model_name=name)
    export_all(exporter)
    assert is_finished(database, job_id)
    record = record_of(database, job_id)
    (model,) = models_of(mlflow, record)
    assert (model["info"]["name"], model["info"]["status"]) == ("model", "LOGGED_MODEL_READY")
    (version,) = versions_of(mlflow, name)
    assert (version["run_id"], version["status"]) == (record.run_id, "READY")

    np.save(tmp_path / "rows.npy", rows(50))
    for uri in (f"runs:/{record.run_id}/model", f"models:/{name}/1"):
        arguments = (uri, tmp_path / "rows.npy", tmp_path / "answer.npz")
        python("-c", LOAD, *arguments, cwd=tmp_path, MLFLOW_TRACKING_URI=mlflow.url)
        assert np.load(tmp_path / "answer.npz")["scores"].tobytes() == scores_of(rows(50), BEST).tobytes()


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("lost", ["create_model", "finish_model", "register_model", "set_status"])
def test_a_model_is_logged_once_though_an_answer_is_lost(
    database: Database,
    settings: Settings,
    mlflow: MlflowServer,
    exporter: MlflowExporter,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    call, losses = getattr(MlflowApi, lost), ["the answer is lost"]

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
def test_a_damaged_checkpoint_makes_no_model_and_the_run_ends(
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
