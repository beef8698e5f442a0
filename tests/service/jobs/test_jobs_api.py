from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from service.jobs.recording import record_events
from service.jobs.repository import finish_attempt, move, record_progress, record_result, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import State
from service.settings import Settings
from service.stack.app import create_app
from service.store import Database
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job, served
from workers.record.events import Evaluated

JOB_FIELDS = {
    "id", "name", "experiment", "state", "reason", "spec", "progress", "metrics", "attempts", "created_at",
    "labels", "priority", "restarts", "started_at", "finished_at", "mlflow", "mlflow_problem", "params_sha256",
    "sweep", "dataset", "kept", "verification", "task", "positive_class", "ranked_by",
}  # fmt: skip


@pytest.mark.usefixtures("digits")
def test_a_submitted_job_is_queued_and_resolved(api: httpx.Client, notifications: list[str]) -> None:
    body = hinge_job()
    del body["training"]["shards"], body["regularization"], body["resources"], body["optimizer"]["schedule"]
    answer = api.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert set(job) == JOB_FIELDS
    assert job["state"] == "queued"
    assert job["progress"] == {"epoch": 0, "step": 0, "total_steps": 20 * 2}
    assert job["spec"]["training"]["shards"] == 4
    assert job["spec"]["optimizer"]["schedule"] == {"type": "constant"}
    assert job["metrics"] == {}
    assert job["attempts"] == []
    assert job["mlflow"] is None
    assert notifications == ["change"]
    assert api.get(answer.headers["location"]).json() == job | {"dataset": job["dataset"] | {"deleted": False}}
    assert api.get("/v1/jobs").json() == {"data": [job], "has_more": False}


@pytest.mark.usefixtures("digits")
def test_an_idempotency_key_creates_one_job(api: httpx.Client, notifications: list[str]) -> None:
    headers = {"Idempotency-Key": "first-try"}
    first = api.post("/v1/jobs", json=hinge_job(), headers=headers)
    again = api.post("/v1/jobs", json=hinge_job(), headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert notifications == ["change"]
    other = api.post("/v1/jobs", json=hinge_job(name="other"), headers=headers)
    assert other.status_code == 422
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"
    without_key = api.post("/v1/jobs", json=hinge_job())
    assert without_key.status_code == 201
    assert without_key.json()["id"] != first.json()["id"]


@pytest.mark.usefixtures("digits")
def test_pages_have_every_job_once_newest_first(api: httpx.Client) -> None:
    ids = [api.post("/v1/jobs", json=hinge_job(name=f"job {n}")).json()["id"] for n in range(5)]
    seen: list[str] = []
    more = True
    while more:
        query = {"limit": 2} | ({"starting_after": seen[-1]} if seen else {})
        page = api.get("/v1/jobs", params=query).json()
        assert len(page["data"]) <= 2
        seen += [job["id"] for job in page["data"]]
        more = page["has_more"]
    assert seen == ids[::-1]
    assert api.get("/v1/jobs", params={"state": "failed"}).json()["data"] == []
    assert len(api.get("/v1/jobs", params={"experiment": "hinge-vs-softmax"}).json()["data"]) == 5
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"state": "sleeping"}):
        problem = api.get("/v1/jobs", params=query)
        assert problem.status_code == 422
        assert problem.json()["errors"][0]["field"] == next(iter(query))


@pytest.mark.usefixtures("digits")
def test_a_job_shows_what_its_attempt_recorded(api: httpx.Client, database: Database) -> None:
    job_id = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    nan = float("nan")
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
        points = [Point("train/loss", step, 1 / step, 1000 + step) for step in range(1, 6)]
        points += [Point("val/loss", 5, nan, 2000), Point("val/accuracy", 5, 0.1, 2000)]
        record_points(session, job_id, attempt, points)
        record_progress(session, job_id, attempt, epoch=1, step=5)
        record_result(session, job_id, attempt, params_sha256="ab" * 32)
        finish_attempt(session, job_id, attempt, outcome="succeeded")
        move(session, job_id, from_=State.RUNNING, to=State.SUCCEEDED, attempt=attempt)
    job = api.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "succeeded"
    assert job["metrics"] == {"train/loss": 0.2, "val/accuracy": 0.1, "val/loss": None}
    assert job["progress"] | {"epoch": 1, "step": 5} == job["progress"]
    assert job["params_sha256"] == "ab" * 32
    assert job["kept"] is None
    assert [(entry["number"], entry["outcome"]) for entry in job["attempts"]] == [(1, "succeeded")]
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert job["created_at"].endswith("Z")

    series = api.get(f"/v1/jobs/{job_id}/metrics").json()["data"]
    assert series["train/loss"] == {"steps": [1, 2, 3, 4, 5], "values": [1 / step for step in range(1, 6)]}
    assert series["val/loss"] == {"steps": [5], "values": [None]}
    some = api.get(f"/v1/jobs/{job_id}/metrics?name=train/loss&name=val/accuracy&from_step=2&to_step=4").json()["data"]
    assert some == {"train/loss": {"steps": [2, 3, 4], "values": [1 / 2, 1 / 3, 1 / 4]}}
    text = api.get(f"/v1/jobs/{job_id}/metrics", headers={"Accept": "text/csv"})
    assert text.headers["content-type"].startswith("text/csv")
    rows = text.text.splitlines()
    assert rows[0] == "step,name,value"
    assert rows[1:6] == [f"{step},train/loss,{1 / step!r}" for step in range(1, 6)]
    assert rows[-1] == "5,val/loss,nan"


@pytest.mark.usefixtures("digits")
def test_cancelling(api: httpx.Client, database: Database, notifications: list[str]) -> None:
    queued = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    answer = api.post(f"/v1/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert (answer.json()["reason"], answer.json()["finished_at"] is None) == ("cancel_requested", False)

    running = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    with database.writing() as session:
        attempt = start_attempt(session, running, "supervisor")
        move(session, running, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
    answer = api.post(f"/v1/jobs/{running}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    again = api.post(f"/v1/jobs/{running}/cancel")
    assert (again.status_code, again.json()) == (200, answer.json())
    assert notifications == ["change"] * 4

    with database.writing() as session:
        assert move(session, running, from_=State.CANCELLING, to=State.SUCCEEDED, attempt=attempt)
    answer = api.post(f"/v1/jobs/{running}/cancel")
    assert answer.status_code == 409
    assert "succeeded" in answer.json()["detail"]
    assert api.post("/v1/jobs/job_nothing/cancel").status_code == 404


@pytest.mark.usefixtures("digits")
def test_pausing_and_resuming(api: httpx.Client, database: Database, notifications: list[str]) -> None:
    job_id = api.post("/v1/jobs", json=hinge_job()).json()["id"]

    def apply(action: str) -> tuple[int, str]:
        answer = api.post(f"/v1/jobs/{job_id}/{action}")
        return answer.status_code, answer.json().get("state") or answer.json()["detail"]

    assert apply("resume") == (200, "queued")
    assert apply("pause") == (200, "paused")
    assert apply("pause") == (200, "paused")
    assert apply("resume") == (202, "queued")
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
    assert apply("pause") == (202, "pausing")
    assert apply("pause") == (200, "pausing")
    assert apply("resume") == (409, f"Job {job_id} is pausing: wait until it is paused, then resume it.")
    with database.writing() as session:
        assert move(session, job_id, from_=State.PAUSING, to=State.PAUSED, attempt=attempt)
    assert apply("resume") == (202, "queued")
    assert apply("cancel") == (200, "cancelled")
    for request in ("pause", "resume"):
        assert apply(request) == (409, f"Job {job_id} has ended: cancelled. It can no longer be {request}d.")
        assert api.post(f"/v1/jobs/job_nothing/{request}").status_code == 404
    assert notifications == ["change"] * 6, "an action without effect does not notify the scheduler"


@pytest.mark.usefixtures("digits")
def test_changing_the_resources_of_a_job(api: httpx.Client, notifications: list[str]) -> None:
    job = api.post("/v1/jobs", json=hinge_job()).json()
    path = f"/v1/jobs/{job['id']}"
    changed = api.patch(path, json={"resources": {"workers": 1}})
    assert changed.status_code == 200
    assert changed.json() == job | {"spec": job["spec"] | {"resources": job["spec"]["resources"] | {"workers": 1}}}
    assert api.patch(path, json={"resources": {"cpus_per_worker": 4}}).json()["spec"]["resources"] == {
        "workers": 1, "cpus_per_worker": 4, "gpus_per_worker": 0,
    }  # fmt: skip
    assert notifications == ["change"] * 3
    for nothing in ({}, {"workers": 1}, {"workers": None, "cpus_per_worker": 4}):
        unchanged = api.patch(path, json={"resources": nothing}).json()
        assert api.get(path).json() == unchanged | {"dataset": unchanged["dataset"] | {"deleted": False}}
    assert notifications == ["change"] * 3
    rejections: list[tuple[dict[str, Any], str, str]] = [
        ({"resources": {"workers": 0}}, "resources.workers", "must be at least 1, not 0"),
        ({"resources": {"workers": "2"}}, "resources.workers", "must be an integer, not '2'"),
        (
            {"resources": {"gpus_per_worker": 1}},
            "resources.gpus_per_worker",
            "'gpus_per_worker' is not a known field; known: workers, cpus_per_worker; did you mean 'cpus_per_worker'?",
        ),
        ({"resources": {}, "name": "x"}, "name", "'name' is not a known field; known: resources"),
        ({}, "resources", "is required"),
    ]
    for body, field, message in rejections:
        answer = api.patch(path, json=body)
        assert (answer.status_code, answer.json()["errors"]) == (422, [{"field": field, "message": message}])
    assert api.patch("/v1/jobs/job_nothing", json={"resources": {}}).status_code == 404
    api.post(f"{path}/cancel")
    rejected = api.patch(path, json={"resources": {"workers": 3, "cpus_per_worker": 1}})
    assert rejected.status_code == 409
    assert "has ended: cancelled" in rejected.json()["detail"]


@pytest.mark.usefixtures("digits")
def test_resources_beyond_the_cluster_are_rejected(settings: Settings, database: Database) -> None:
    app = create_app(settings.model_copy(update={"cluster_cpus": 2}), database=database)
    with served(app) as url, httpx.Client(base_url=url) as client:
        job_id = client.post("/v1/jobs", json=hinge_job()).json()["id"]
        answer = client.patch(f"/v1/jobs/{job_id}", json={"resources": {"workers": 3}})
    assert answer.status_code == 422
    assert "but the cluster has 2" in answer.json()["errors"][0]["message"]


@pytest.mark.usefixtures("digits")
def test_the_events_of_a_job_in_pages(api: httpx.Client) -> None:
    other = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    job_id = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    for request in ("pause", "resume", "pause"):
        api.post(f"/v1/jobs/{job_id}/{request}")
    api.patch(f"/v1/jobs/{job_id}", json={"resources": {"workers": 1}})
    seen: list[dict[str, Any]] = []
    more = True
    while more:
        query = {"limit": 2} | ({"starting_after": seen[-1]["id"]} if seen else {})
        page = api.get(f"/v1/jobs/{job_id}/events", params=query).json()
        assert 1 <= len(page["data"]) <= 2
        seen += page["data"]
        more = page["has_more"]
    assert [(event["kind"], event["from_state"], event["to_state"], event["reason"]) for event in seen] == [
        ("state", None, "queued", None),
        ("state", "queued", "paused", "pause_requested"),
        ("state", "paused", "queued", "resume_requested"),
        ("state", "queued", "paused", "pause_requested"),
        ("resources_changed", None, None, None),
    ]
    assert seen[-1]["data"]["to"]["workers"] == 1
    assert set(seen[0]) == {"id", "time", "kind", "attempt", "from_state", "to_state", "reason", "data"}
    assert len(api.get(f"/v1/jobs/{other}/events").json()["data"]) == 1
    assert api.get("/v1/jobs/job_nothing/events").status_code == 404
    for query in ({"limit": 0}, {"starting_after": "x"}, {"starting_after": -1}):
        assert api.get(f"/v1/jobs/{job_id}/events", params=query).status_code == 422


@pytest.mark.usefixtures("digits")
def test_a_job_larger_than_the_cluster_is_rejected(settings: Settings, database: Database) -> None:
    app = create_app(settings.model_copy(update={"cluster_cpus": 2}), database=database)
    with served(app) as url, httpx.Client(base_url=url) as client:
        assert client.post("/v1/jobs", json=hinge_job()).status_code == 201
        answer = client.post("/v1/jobs", json=hinge_job(**{"resources.workers": 3}))
    assert answer.status_code == 422
    assert answer.json()["errors"][0] == {
        "field": "resources.workers",
        "message": "with cpus_per_worker requires 3 CPUs, but the cluster has 2: "
        "workers x cpus_per_worker must be at most 2",
    }


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(("gpus", "field"), [(None, "resources.gpus_per_worker"), (1, "resources.workers")])
def test_a_job_is_rejected_if_the_cluster_has_too_few_gpus(
    settings: Settings, database: Database, gpus: int | None, field: str
) -> None:
    app = create_app(settings.model_copy(update={"cluster_gpus": gpus}), database=database)
    with served(app) as url, httpx.Client(base_url=url) as client:
        on_gpus = {"resources.workers": 2, "resources.gpus_per_worker": 1}
        answer = client.post("/v1/jobs", json=hinge_job(**on_gpus))
        one = client.post("/v1/jobs", json=hinge_job(**{**on_gpus, "resources.workers": 1}))
    assert one.status_code == (201 if gpus else 422)
    assert answer.json()["errors"] == [
        {
            "field": field,
            "message": f"with gpus_per_worker requires 2 GPUs, but the cluster has {gpus or 0}: "
            f"workers x gpus_per_worker must be at most {gpus or 0}",
        }
    ]


def test_openapi_describes_the_job_with_an_example(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    assert document["info"]["title"] == "Gradfleet"
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["examples"][0] == hinge_job()
    assert {"HingeSpec", "LinearLayer", "JobRequest"} <= set(document["components"]["schemas"])
    problem = document["paths"]["/v1/jobs"]["post"]["responses"]["422"]["content"]["application/problem+json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/Problem"}
    assert set(document["components"]["schemas"]["FieldProblemView"]["properties"]) == {"field", "message"}
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    for reference in references:
        target = document
        for part in reference.split("/"):
            target = target[part]
    assert references
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_docs_page_loads_only_local_files(api: httpx.Client) -> None:
    assert api.get("/").headers["location"] == "/docs"
    page = api.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/"), link
        assert api.get(link).status_code == 200, link


def test_health(api: httpx.Client) -> None:
    assert api.get("/healthz").status_code == 200
    assert api.get("/readyz").status_code == 200


def test_every_post_accepts_an_idempotency_key(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    posts = [methods["post"] for methods in paths.values() if "post" in methods]
    for post in posts:
        (key,) = (entry for entry in post["parameters"] if entry["name"].lower() == "idempotency-key")
        assert (key["in"], key["required"]) == ("header", False)
        assert "repeated" in key["description"]
    assert len(posts) >= 6


@pytest.mark.usefixtures("digits")
def test_the_latest_metrics_of_training_are_those_of_the_last_whole_epoch(
    api: httpx.Client, database: Database
) -> None:
    job_id = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        record_points(session, job_id, attempt, [Point("train/loss", step, 1 / step, 0) for step in (1, 2)])
    assert api.get(f"/v1/jobs/{job_id}").json()["metrics"] == {"train/loss": 0.5}
    with database.writing() as session:
        later = [Point("train/loss_epoch", 2, 0.75, 0), Point("train/loss", 3, 1 / 3, 0), Point("grad/norm", 3, 9.0, 0)]
        record_points(session, job_id, attempt, later)
    assert api.get(f"/v1/jobs/{job_id}").json()["metrics"] == {"grad/norm": 9.0, "train/loss": 0.75}
    series = api.get(f"/v1/jobs/{job_id}/metrics").json()["data"]
    assert series["train/loss"]["values"] == [1, 1 / 2, 1 / 3]
    assert series["train/loss_epoch"] == {"steps": [2], "values": [0.75]}


@pytest.mark.usefixtures("digits")
def test_a_job_shows_the_evaluation_of_its_kept_parameters(api: httpx.Client, database: Database) -> None:
    job_id = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    counts = {"confusion": [[3, 1], [0, 2]]}
    named = {"classes": [str(digit) for digit in range(10)]}
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        metrics = {"val/loss": 0.5, "val/roc_auc": float("nan")}
        # Like every write of an attempt, it counts only while the job is live.
        record_events(session, job_id, attempt, [(1, Evaluated(step=8, epoch=4, metrics=metrics, details=counts))])
    kept = {"step": 8, "epoch": 4, "metrics": {"val/loss": 0.5, "val/roc_auc": None}}
    assert api.get(f"/v1/jobs/{job_id}").json()["kept"] is None
    with database.writing() as session:
        move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        record_events(session, job_id, attempt, [(2, Evaluated(step=8, epoch=4, metrics=metrics, details=counts))])
    assert api.get(f"/v1/jobs/{job_id}").json()["kept"] == kept | {"details": named | counts}
    assert [job["kept"] for job in api.get("/v1/jobs").json()["data"]] == [kept | {"details": None}]
