"""Export of a sweep to MLflow: a parent run of the runs of its members."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from service.analysis.artist import Artist, SweepDrawing
from service.jobs.states import STOPPED_BY_SWEEP, State
from service.settings import Settings
from service.store.models import Job, MlflowRun
from service.tracking import MlflowExporter
from service.tracking.markdown import GAP
from tests.service.fixtures.exported_sweeps import (
    DATASET,
    LOSSES,
    artifact,
    cancel,
    entries,
    make_sweep,
    run_of,
    succeed,
    sweep_of,
)
from tests.service.fixtures.models import CLASSES, SPEC, checkpoint_in
from tests.service.fixtures.support import free_port, train

if TYPE_CHECKING:
    from service.analysis.artist import JobDrawing
    from service.store import Database
    from tests.service.fakes.mlflow_server import MlflowServer


@pytest.fixture
def mlflow_url(mlflow: MlflowServer) -> str:
    return mlflow.url


def test_members_are_children_of_their_sweep(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    sweep_id, jobs = make_sweep(database)
    exporter.step()
    run = run_of(database, mlflow, sweep_id)
    assert (run["info"]["run_name"], run["info"]["status"]) == ("losses", "RUNNING")
    params = entries(run, "params")
    assert params == {
        "base.optimizer.type": "sgd",
        "base.optimizer.lr": "0.1",
        "over.loss": json.dumps(LOSSES),
        "seeds": "[0, 1]",
        "parallel": "2",
    }, "only the rejected parameter is left out"
    note = entries(run, "tags")["mlflow.note.content"]
    for text in ("at most 2 at once", "- loss: hinge (margin 1.0), softmax", "- training.seed: 0, 1"):
        assert text in note
    with database.reading() as session:
        members = [session.get_one(MlflowRun, job_id) for job_id in jobs]
    for member in members:
        (child,) = mlflow.runs_of(member.job_id, member.experiment_id)
        assert entries(child, "tags")["mlflow.parentRunId"] == run["info"]["run_id"]

    for job_id in jobs[1:]:
        train(database, job_id, State.SUCCEEDED)
    exporter.step()
    exporter.step()
    assert run_of(database, mlflow, sweep_id)["info"]["status"] == "RUNNING"
    train(database, jobs[0], State.SUCCEEDED)
    exporter.step()
    exporter.step()
    run = run_of(database, mlflow, sweep_id)
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["end_time"] >= run["info"]["start_time"]
    assert sweep_of(database, sweep_id).mlflow_finished


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("ends", "reason", "status"),
    [
        (State.FAILED, None, "FAILED"),
        (State.CANCELLED, "cancel_requested", "KILLED"),
        (State.CANCELLED, f"{STOPPED_BY_SWEEP}: worse than the median", "FINISHED"),
    ],
)
def test_the_status_of_the_run_follows_from_the_members(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, ends: State, reason: str | None, status: str
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    train(database, jobs[0], State.SUCCEEDED)
    with database.writing() as session:
        session.get_one(Job, jobs[1]).reason = reason
        session.get_one(Job, jobs[1]).state = ends
    exporter.step()
    exporter.step()
    assert run_of(database, mlflow, sweep_id)["info"]["status"] == status


def test_the_comparison_is_in_the_run(database: Database, mlflow: MlflowServer, exporter: MlflowExporter) -> None:
    sweep_id, jobs = make_sweep(database)
    for job_id, accuracy in zip(jobs, (0.5, 0.75, 0.875, 0.875), strict=True):
        succeed(database, job_id, accuracy)
    exporter.step()
    exporter.step()
    run = run_of(database, mlflow, sweep_id)
    run_id = run["info"]["run_id"]
    assert run["info"]["status"] == "FINISHED"
    metrics = entries(run, "metrics")
    assert (metrics["hinge/val/accuracy"], metrics["softmax/val/accuracy"]) == (0.625, 0.875)
    assert (metrics["hinge/kept/val/accuracy"], metrics["softmax/kept/val/accuracy"]) == (0.625, 0.875)
    assert metrics["softmax/val/loss"] == 0.25
    assert json.loads(artifact(mlflow, run_id, "comparison.json"))["best"] == 1
    rows = list(csv.DictReader(io.StringIO(artifact(mlflow, run_id, "comparison.csv"))))
    assert [(row["loss.type"], row["training.seed"], float(row["val/accuracy"])) for row in rows] == [
        ("hinge", "0", 0.5),
        ("hinge", "1", 0.75),
        ("softmax", "0", 0.875),
        ("softmax", "1", 0.875),
    ]
    table = json.loads(artifact(mlflow, run_id, "groups.json"))
    groups = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(group["loss.type"], group["n"], group["val/accuracy"]) for group in groups] == [
        ("hinge", 2, 0.625),
        ("softmax", 2, 0.875),
    ]
    assert groups[0]["val/accuracy std"] == pytest.approx(0.125 * 2**0.5)
    assert json.loads(entries(run, "tags")["mlflow.loggedArtifacts"]) == [{"path": "groups.json", "type": "table"}]
    note = entries(run, "tags")["mlflow.note.content"].replace(GAP, "").splitlines()
    assert note[0].startswith("**Succeeded**: 4 jobs: 4 succeeded. [Compare them in charts](#/experiments/")
    softmax, hinge = (line for line in note if line.startswith(("| softmax", "| hinge")))
    assert softmax.startswith("| softmax | **0.875 ± 0** | 0.875 ± 0 | 0.25 ± 0 |"), "the best is first"
    assert hinge.startswith("| hinge (margin 1.0) | **0.625 ± 0.18** | 0.625 ± 0.18 | 0.25 ± 0 |")
    with database.reading() as session:
        assert f"/runs/{session.get_one(MlflowRun, jobs[0]).run_id}?" in hinge


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_note_that_is_too_long_keeps_whole_rows(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tracking.sweeps.note.LONGEST_TAG", 1100)
    sweep_id, jobs = make_sweep(database)
    for job_id in jobs:
        succeed(database, job_id, 0.5)
    exporter.step()
    exporter.step()
    note = entries(run_of(database, mlflow, sweep_id), "tags")["mlflow.note.content"]
    assert 700 < len(note) < 1100
    assert "in `comparison.csv` among the artifacts" in note
    assert all(line.endswith("|") for line in note.splitlines() if line.startswith("|"))
    assert f"gradfleet compare {sweep_id}" in note


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("no_pictures")
def test_the_best_model_of_a_sweep_has_an_alias(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    name = f"digits {free_port()}"
    sweep_id, jobs = make_sweep(database, registered_model_name=name)
    # The alias follows the parameters that are kept, since the models have these.
    accuracies = zip(jobs, (0.5, 0.9, 0.7, 0.8), (0.6, 0.7, 0.95, 0.8), strict=True)
    for job_id, accuracy, kept in accuracies:
        with database.writing() as session:
            job = session.get_one(Job, job_id)
            job.spec = SPEC.model_dump(mode="json") | {
                "experiment": job.spec["experiment"],
                "registered_model_name": name,
            }
            job.dataset = DATASET | {"digest": "0" * 64, "classes": list(CLASSES)}
        checkpoint_in(settings.job_dir(job_id), job=job_id)
        succeed(database, job_id, accuracy, kept)
    exporter.step()
    exporter.step()
    assert sweep_of(database, sweep_id).mlflow_finished
    answer = mlflow.call("GET", "registered-models/alias", params={"name": name, "alias": "best"})
    with database.reading() as session:
        assert answer["model_version"]["run_id"] == session.get_one(MlflowRun, jobs[2]).run_id


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_the_experiment_and_the_sweep_have_saved_views(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, api: httpx.Client
) -> None:
    sweep_id, jobs = make_sweep(database)
    assert api.get(f"/v1/sweeps/{sweep_id}").json()["mlflow"] is None
    exporter.step()
    sweep = sweep_of(database, sweep_id)
    page = f"{mlflow.url}/#/experiments/{sweep.mlflow_experiment_id}/runs"
    links = {
        "run_id": sweep.mlflow_run_id,
        "url": f"{page}/{sweep.mlflow_run_id}?workflowType=machine_learning",
        "complete": False,
        "compare_url": f"{page}?workflowType=machine_learning&viewStateShareKey={sweep_id}&compareRunsMode=CHART",
    }
    assert api.get(f"/v1/sweeps/{sweep_id}").json()["mlflow"] == links
    assert api.get(f"/v1/sweeps/{sweep_id}/comparison").json()["mlflow"] == links
    assert api.get("/v1/sweeps").json()["data"][0]["mlflow"] == links

    query = {"experiment_id": sweep.mlflow_experiment_id}
    experiment = mlflow.call("GET", "experiments/get", params=query)["experiment"]
    views = {tag["key"].removeprefix("mlflow.sharedViewState."): tag["value"] for tag in experiment["tags"]}
    columns = ["kept/val/accuracy", "val/accuracy", "kept/val/loss", "train/loss"]
    assert json.loads(views["gradfleet"])["selectedColumns"][:4] == [f"metrics.`{name}`" for name in columns]
    view = json.loads(views[sweep_id])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`kept/val/accuracy`", False)
    assert view["groupBy"]["groupByKeys"] == [
        {"mode": "param", "groupByData": "loss.type"},
        {"mode": "param", "groupByData": "loss.margin"},
    ]
    body = {"experiment_ids": [sweep.mlflow_experiment_id], "filter": view["searchFilter"]}
    assert len(mlflow.call("POST", "runs/search", json=body)["runs"]) == len(jobs)
    params = entries(mlflow.runs_of(jobs[0], str(sweep.mlflow_experiment_id))[0], "params")
    assert {key["groupByData"] for key in view["groupBy"]["groupByKeys"]} <= params.keys()


def test_the_picture_is_uploaded_once_it_is_drawn(
    database: Database,
    settings: Settings,
    mlflow: MlflowServer,
    exporter: MlflowExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawing: dict[str, Future[None]] = {}
    requests: list[SweepDrawing] = []

    def draw(_: Artist, request: JobDrawing | SweepDrawing) -> Future[None]:
        place = Path(request.directory) / "pictures"
        place.mkdir()
        (place / "failures.json").write_text("{}")
        done: Future[None] = Future()
        if isinstance(request, SweepDrawing):
            requests.append(request)
            (place / "comparison.png").write_bytes(b"a picture")
            drawing[request.sweep] = done
        else:
            done.set_result(None)
        return done

    monkeypatch.setattr(Artist, "draw", draw)
    sweep_id, jobs = make_sweep(database)
    for job_id, accuracy in zip(jobs[:-1], (0.8, 0.9, 0.95), strict=True):
        settings.job_dir(job_id).mkdir(parents=True)
        succeed(database, job_id, accuracy)
    cancel(database, jobs[-1])
    exporter.step()
    exporter.step()
    # The export continues meanwhile and requests no drawing twice.
    exporter.step()
    assert not sweep_of(database, sweep_id).mlflow_finished
    (request,) = requests
    assert [member.value for member in request.members] == [0.8, 0.9, 0.95]
    assert [member.subject.job for member in request.members] == jobs[:-1]
    assert request.members[2].overrides == {"loss": LOSSES[1], "training.seed": 0}

    drawing[sweep_id].set_result(None)
    exporter.step()
    assert sweep_of(database, sweep_id).mlflow_finished
    assert artifact(mlflow, run_of(database, mlflow, sweep_id)["info"]["run_id"], "comparison.png") == "a picture"


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_the_views_of_a_regression_show_its_errors(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    sweep_id, jobs = make_sweep(database, seeds=1)
    errors = ["val/r2", "val/loss", "val/mean_absolute_error", "val/mean_squared_error"]
    with database.writing() as session:
        for job_id in jobs:
            job = session.get_one(Job, job_id)
            job.task, job.validation_metrics = "regression", errors
    exporter.step()
    query = {"experiment_id": sweep_of(database, sweep_id).mlflow_experiment_id}
    tags = mlflow.call("GET", "experiments/get", params=query)["experiment"]["tags"]
    for view in (json.loads(tag["value"]) for tag in tags if tag["key"].startswith("mlflow.sharedViewState.")):
        assert view["selectedColumns"][:6] == [
            "metrics.`kept/val/r2`", "metrics.`val/r2`", "metrics.`kept/val/loss`",
            "metrics.`kept/val/mean_absolute_error`", "metrics.`kept/val/mean_squared_error`", "metrics.`train/loss`",
        ]  # fmt: skip
        charts = [chart["metricKey"] for chart in view["compareRunCharts"]]
        assert charts[:4] == errors
        assert not [name for name in charts if "accuracy" in name or "kept" in name]
