"""A sweep in MLflow: the parent of its members' runs."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.analysis.artist import Artist, DrawingError, SweepRequest
from service.jobs.metrics import Point, record_points
from service.jobs.repository import move
from service.jobs.requests import delete_job, make_request
from service.jobs.states import STOPPED_BY_SWEEP, Request, State
from service.settings import Settings
from service.store.models import Job, MlflowRun, Sweep
from service.sweeps.repository import create_sweep
from service.tracking import MlflowExporter, sweep_note
from service.tracking.mlflow_api import MlflowApi, RejectedError, UnavailableError
from tests.service.models import CLASSES, SPEC, checkpoint_in
from tests.service.support import free_port, hinge_job, train

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.analysis.artist import Request as PictureRequest
    from service.store import Database
    from tests.service.mlflow_server import MlflowServer

DATASET = {"digest": "0f" * 32, "path": "x", "rows": 1797, "features": 64, "classes": list("0123456789")}
LOSSES = [{"type": "hinge", "margin": 1.0}, {"type": "softmax"}]


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None, mlflow: MlflowServer) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url, mlflow_url=mlflow.url)


@pytest.fixture
def exporter(database: Database, settings: Settings) -> Iterator[MlflowExporter]:
    exporter = MlflowExporter(database, settings)
    yield exporter
    exporter.stop()


def make_sweep(database: Database, seeds: int = 2, **changes: Any) -> tuple[str, list[str]]:
    """Ids of a sweep over two losses and some seeds, and of its jobs, all queued."""
    experiment = f"experiment of {free_port()}"
    members = [
        {
            "spec": hinge_job(experiment=experiment, loss=loss, **{"training.seed": seed, **changes}),
            "dataset": DATASET,
            "total_steps": 100,
            "body_sha256": "b",
            "overrides": {"loss": loss, "training.seed": seed},
        }
        for loss in LOSSES
        for seed in range(seeds)
    ]
    spec = {
        "name": "losses",
        "experiment": experiment,
        "base": {"optimizer": {"type": "sgd", "lr": 0.1}, "bad!name": 1},
        "over": {"grid": {"loss": LOSSES}, "list": None, "random": None},
        "seeds": list(range(seeds)),
        "parallel": 2,
    }
    with database.writing() as session:
        sweep, _ = create_sweep(session, spec=spec, members=members, body_sha256="b")
        jobs = session.query(Job.id).where(Job.sweep_id == sweep.id).order_by(Job.id)
        return sweep.id, [job_id for (job_id,) in jobs]


def sweep_of(database: Database, sweep_id: str) -> Sweep:
    with database.reading() as session:
        return session.get_one(Sweep, sweep_id)


def run_of(database: Database, mlflow: MlflowServer, sweep_id: str) -> dict[str, Any]:
    """The sweep's run, of which there is one."""
    experiment_id = sweep_of(database, sweep_id).mlflow_experiment_id
    body = {"experiment_ids": [experiment_id], "filter": f"tags.`gradfleet.sweep_id` = '{sweep_id}'"}
    (run,) = mlflow.call("POST", "runs/search", json=body)["runs"]
    assert run["info"]["run_id"] == sweep_of(database, sweep_id).mlflow_run_id
    return dict(run)


def entries(run: dict[str, Any], kind: str) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in run["data"].get(kind, [])}


def succeed(database: Database, job_id: str, accuracy: float) -> None:
    train(database, job_id, None)
    with database.writing() as session:
        record_points(session, job_id, 1, [Point("val/accuracy", 40, accuracy, 2), Point("val/loss", 40, 0.25, 2)])
        move(session, job_id, from_=State.RUNNING, to=State.SUCCEEDED)


def artifact(mlflow: MlflowServer, run_id: str, path: str) -> str:
    return httpx.get(f"{mlflow.url}/get-artifact", params={"run_id": run_id, "path": path}).raise_for_status().text


def cancel(database: Database, *jobs: str) -> None:
    with database.writing() as session:
        for job_id in jobs:
            make_request(session, job_id, Request.CANCEL)


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
    }, "and what MLflow does not take is left out alone"
    note = entries(run, "tags")["mlflow.note.content"]
    for said in ("at most 2 at once", "- loss: hinge (margin 1.0), softmax", "- training.seed: 0, 1"):
        assert said in note
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
def test_how_the_members_ended_is_told(
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


def test_the_comparison_stands_on_the_run(database: Database, mlflow: MlflowServer, exporter: MlflowExporter) -> None:
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
    note = entries(run, "tags")["mlflow.note.content"].replace(sweep_note.GAP, "").splitlines()
    assert note[0].startswith("**Succeeded**: 4 jobs: 4 succeeded. [Compare them in charts](#/experiments/")
    softmax, hinge = (line for line in note if line.startswith(("| softmax", "| hinge")))
    assert softmax.startswith("| softmax | **0.875 ± 0** | 0.25 ± 0 |"), "the best stands first"
    assert hinge.startswith("| hinge (margin 1.0) | **0.625 ± 0.18** | 0.25 ± 0 |")
    with database.reading() as session:
        assert f"/runs/{session.get_one(MlflowRun, jobs[0]).run_id}?" in hinge


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_note_that_is_too_long_keeps_whole_rows(
    database: Database, mlflow: MlflowServer, exporter: MlflowExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_note, "LONGEST_TAG", 1100)
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


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("nothing_is_drawn")
def test_the_best_model_of_a_sweep_has_an_alias(
    database: Database, settings: Settings, mlflow: MlflowServer, exporter: MlflowExporter
) -> None:
    name = f"digits {free_port()}"
    sweep_id, jobs = make_sweep(database, registered_model_name=name)
    for job_id, accuracy in zip(jobs, (0.5, 0.9, 0.7, 0.8), strict=True):
        with database.writing() as session:
            job = session.get_one(Job, job_id)
            job.spec = SPEC.model_dump(mode="json") | {
                "experiment": job.spec["experiment"],
                "registered_model_name": name,
            }
            job.dataset = DATASET | {"digest": "0" * 64, "classes": list(CLASSES)}
        checkpoint_in(settings.job_dir(job_id), job=job_id)
        succeed(database, job_id, accuracy)
    exporter.step()
    exporter.step()
    assert sweep_of(database, sweep_id).mlflow_finished
    answer = mlflow.call("GET", "registered-models/alias", params={"name": name, "alias": "best"})
    with database.reading() as session:
        assert answer["model_version"]["run_id"] == session.get_one(MlflowRun, jobs[1]).run_id


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_views_are_prepared_for_the_experiment_and_the_sweep(
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
    assert "metrics.`val/accuracy`" in json.loads(views["gradfleet"])["selectedColumns"]
    view = json.loads(views[sweep_id])
    assert view["groupBy"]["groupByKeys"] == [
        {"mode": "param", "groupByData": "loss.type"},
        {"mode": "param", "groupByData": "loss.margin"},
    ]
    body = {"experiment_ids": [sweep.mlflow_experiment_id], "filter": view["searchFilter"]}
    assert len(mlflow.call("POST", "runs/search", json=body)["runs"]) == len(jobs)
    params = entries(mlflow.runs_of(jobs[0], str(sweep.mlflow_experiment_id))[0], "params")
    assert {key["groupByData"] for key in view["groupBy"]["groupByKeys"]} <= params.keys()


def test_the_picture_stands_on_the_run_once_it_is_drawn(
    database: Database,
    settings: Settings,
    mlflow: MlflowServer,
    exporter: MlflowExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawing: dict[str, Future[None]] = {}
    requests: list[SweepRequest] = []

    def draw(_: Artist, request: PictureRequest | SweepRequest) -> Future[None]:
        place = Path(request.directory) / "pictures"
        place.mkdir()
        (place / "failures.json").write_text("{}")
        done: Future[None] = Future()
        if isinstance(request, SweepRequest):
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
    # Meanwhile it goes on, and nothing is asked twice.
    exporter.step()
    assert not sweep_of(database, sweep_id).mlflow_finished
    (request,) = requests
    assert [member.accuracy for member in request.members] == [0.8, 0.9, 0.95]
    assert [member.subject.job for member in request.members] == jobs[:-1]
    assert request.members[2].overrides == {"loss": LOSSES[1], "training.seed": 0}

    drawing[sweep_id].set_result(None)
    exporter.step()
    assert sweep_of(database, sweep_id).mlflow_finished
    assert artifact(mlflow, run_of(database, mlflow, sweep_id)["info"]["run_id"], "comparison.png") == "a picture"


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
