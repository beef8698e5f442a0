"""Export of a job to MLflow."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sqlalchemy import select

from service.jobs.actions import apply_action
from service.jobs.repository import (
    move,
    record_event,
    record_kept,
    start_attempt,
)
from service.jobs.schemas import job_view
from service.jobs.series.points import Point
from service.jobs.states import Action, State
from service.settings import Settings
from service.store.models import Event, Job, MlflowRun
from service.tracking import MlflowExporter
from service.tracking.job_export import POINTS_PER_CALL
from service.tracking.mlflow.entries import flatten
from tests.service.fixtures.exported_jobs import (
    end_job,
    export_all,
    is_finished,
    models_of,
    queue_job,
    record_of,
    run_job,
    run_of,
    series,
    tags_of,
    trained_job,
    versions_of,
)
from tests.service.fixtures.models import BEST, LOAD, python, rows, scores_of
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import free_port, hinge_job
from tests.workers.fixtures.helpers import STEP_SERIES, history_of
from workers.record.history_files import append_history

if TYPE_CHECKING:
    from pathlib import Path

    from service.store import Database
    from tests.service.fakes.mlflow_server import MlflowServer

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def mlflow_url(mlflow: MlflowServer) -> str:
    return mlflow.url


def test_a_run_is_updated_with_its_job(
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
    history = mlflow.history(run["info"]["run_id"], "train/loss_step")
    seen = {(point["step"], point["value"], point["timestamp"]) for point in history}
    assert len(history) == len(seen)
    assert seen == {(point.step, point.value, point.time_ms) for point in points if point.name == "train/loss"}
    non_finite = mlflow.history(run["info"]["run_id"], "val/loss")
    assert [math.isnan(float(point["value"])) for point in non_finite] == [True] * 3

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
        job = session.get(Job, job_id)
        assert job is not None
        view = job_view(job, settings.mlflow_link).mlflow
    assert view is not None
    info = run["info"]
    page = f"experiments/{info['experiment_id']}/runs/{info['run_id']}"
    assert view.url == f"{mlflow.url}/#/{page}?workflowType=machine_learning"


def test_the_end_of_a_job_is_exported(database: Database, mlflow: MlflowServer, exporter: MlflowExporter) -> None:
    failed = run_job(database, series(3))
    end_job(database, failed, State.FAILED, reason="worker_died: out of memory")
    cancelled = queue_job(database)
    with database.writing() as session:
        apply_action(session, cancelled, Action.CANCEL)
    export_all(exporter)
    run = run_of(database, mlflow, failed)
    assert run["info"]["status"] == "FAILED"
    assert {"key": "gradfleet.reason", "value": "worker_died: out of memory"} in run["data"]["tags"]
    assert len(mlflow.history(run["info"]["run_id"], "train/loss_step")) == 3
    assert run_of(database, mlflow, cancelled)["info"]["status"] == "KILLED"
    assert is_finished(database, failed)
    assert exporter.step() > 0


def test_a_run_describes_the_job_its_environment_and_its_result(
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
    for line in (
        "- val/accuracy: last value **0.9688**",
        "- val/loss: last value **not a finite number**",
        "`digits`, 1,797 rows of 64 features, 10 classes; 20% kept",
        "loss: hinge (margin 1.0); penalties: l2 0.0001",
        "lr 0.1, momentum 0.9, schedule cosine",
        "linear (units 128) → relu → linear (units 10)",
        f"`GET /v1/jobs/{job_id}`",
    ):
        assert line in note
    (dataset_input,) = run["inputs"]["dataset_inputs"]
    assert dataset_input["tags"] == [{"key": "mlflow.data.context", "value": "training"}]
    dataset = dataset_input["dataset"]
    assert (dataset["name"], dataset["digest"]) == ("digits", "0f" * 18)
    assert json.loads(dataset["source"]) == {"dataset": "digits", "sha256": "0f" * 32}
    assert json.loads(dataset["profile"])["rows"] == 1797


def test_a_run_has_means_of_epochs_steps_and_the_kept_parameters(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    """The first of two epochs had the best parameters."""
    means = [Point("train/loss_epoch", 2, 0.75, 8), Point("train/loss_epoch", 4, 0.25, 9)]
    accuracies = [Point("val/accuracy", 2, 0.75, 8), Point("val/accuracy", 4, 0.5, 9)]
    job_id = run_job(database, [*series(4), *means, *accuracies])
    counts = {"confusion": [[3, 1], [0, 2]], "per_label": {"rows": [4, 2]}}
    with database.writing() as session:
        session.get_one(Job, job_id).validation_metrics = ["val/accuracy", "val/roc_auc"]
        metrics = {"val/accuracy": 0.75, "val/roc_auc": None}
        record_kept(session, job_id, 1, {"step": 2, "epoch": 1, "metrics": metrics}, counts)
    end_job(database, job_id, State.SUCCEEDED)
    export_all(exporter)
    run = run_of(database, mlflow, job_id)
    run_id = run["info"]["run_id"]

    def points(name: str) -> list[tuple[int, str]]:
        return [(point["step"], str(point["value"])) for point in mlflow.history(run_id, name)]

    assert points("train/loss") == [(2, "0.75"), (4, "0.25")]
    assert [step for step, _ in points("train/loss_step")] == [1, 2, 3, 4]
    assert points("train/loss_epoch") == []
    assert points("kept/val/accuracy") == [(2, "0.75")]
    assert points("kept/val/roc_auc") == [(2, "NaN")]
    assert {entry["key"]: entry["value"] for entry in run["data"]["metrics"]}["val/accuracy"] == 0.5
    note = tags_of(run)["mlflow.note.content"]
    of_kept = "- val/accuracy: **0.75** with the kept parameters, those after epoch 1; last value **0.5**"
    assert of_kept in note
    query = {"run_id": run_id, "path": "model/evaluation.json"}
    evaluation = httpx.get(f"{mlflow.url}/get-artifact", params=query).json()
    assert evaluation == {"step": 2, "epoch": 1, "metrics": metrics, "classes": list("0123456789"), **counts}


@pytest.mark.usefixtures("digits")
def test_the_exported_spec_can_be_submitted_again(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, api: httpx.Client
) -> None:
    # The shortest form of 1e-07 has no decimal point; unquoted in YAML, the texts would be a date and a boolean.
    first = api.post("/v1/jobs", json=hinge_job(name="2024-01-01", experiment="no", **{"regularization.l2": 1e-07}))
    assert first.status_code == 201, first.text
    job = first.json()
    with database.writing() as session:
        apply_action(session, job["id"], Action.CANCEL)
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
    history = history_of(0, 20_000)
    for step in range(1, 20_001):
        history.record_step(step, (1 / step,) * len(STEP_SERIES))
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
        set_aside = list(session.scalars(select(Event.data).where(Event.kind == "mlflow_set_aside")))
    if damaged:
        assert not answer.is_success
        assert [data and data["entry"] for data in set_aside] == ["history"]
    else:
        assert pq.read_table(io.BytesIO(answer.content)).equals(table)
        assert set_aside == []


def test_a_job_is_not_exported_while_it_is_starting(
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


def test_without_mlflow_the_exporter_does_not_start(database: Database, tmp_path: Path) -> None:
    exporter = MlflowExporter(database, Settings(data_dir=tmp_path))
    exporter.start()
    exporter.stop()


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_another_process_loads_the_model_from_the_mlflow_server(
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
