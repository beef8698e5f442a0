"""Nothing of a request is ignored: unknown and repeated parameters, unknown cursors; HEAD is answered like GET."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fixtures.support import hinge_job, operations, wait_until

if TYPE_CHECKING:
    from fastapi import FastAPI


pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def errors(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["field"]: error["message"] for error in answer.json()["errors"]}


@pytest.fixture
def job_id(api: httpx.Client) -> str:
    return str(api.post("/v1/jobs", json=hinge_job()).raise_for_status().json()["id"])


def test_no_route_accepts_an_unknown_parameter(app: FastAPI, api: httpx.Client) -> None:
    for method, path in operations(app, "get", "post", "patch", "delete"):
        assert "unknown_one" in errors(api.request(method, f"{path}?unknown_one=1")), (method, path)


def test_an_unknown_parameter_is_named_with_the_nearest_one(api: httpx.Client) -> None:
    assert errors(api.get("/v1/jobs?limitt=3&state=failed")) == {
        "limitt": "'limitt' is not a known parameter; known: limit, starting_after, state, experiment, sweep, label, "
        "created_after, created_before; did you mean 'limit'?"
    }


def test_a_parameter_is_given_once(api: httpx.Client) -> None:
    found = errors(api.get("/v1/jobs?limit=3&limit=4&state=failed"))
    assert found == {"limit": "is given 2 times; must be given once"}
    assert api.get("/v1/jobs?label=a:b&label=c:d").status_code == 200


def test_a_page_starts_after_an_id_of_its_kind(api: httpx.Client, job_id: str) -> None:
    sweep_id = api.post("/v1/sweeps", json=LOSSES_SWEEP).raise_for_status().json()["id"]
    assert api.get(f"/v1/jobs?starting_after={job_id}").status_code == 200
    assert api.get(f"/v1/sweeps?starting_after={sweep_id}").json()["data"] == []
    deleted = f"{job_id[:-1]}{'0' if job_id[-1] != '0' else '1'}"
    assert api.get(f"/v1/jobs?starting_after={deleted}").status_code == 200
    for path, unknown in (("jobs", sweep_id), ("jobs", "zzz"), ("sweeps", job_id), ("sweeps", "")):
        assert "starting_after" in errors(api.get(f"/v1/{path}?starting_after={unknown}"))


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_events_start_after_an_event_of_the_job(api: httpx.Client, job_id: str, accept: str) -> None:
    other = api.post("/v1/jobs", json=hinge_job()).raise_for_status().json()["id"]
    event = api.get(f"/v1/jobs/{other}/events").json()["data"][0]["id"]
    url, headers = f"/v1/jobs/{job_id}/events", {"Accept": accept}
    assert "starting_after" in errors(api.get(f"{url}?starting_after={event}", headers=headers))
    assert "starting_after" in errors(api.get(f"{url}?starting_after=123456", headers=headers))
    if accept == "text/event-stream":
        assert "Last-Event-ID" in errors(api.get(url, headers=headers | {"Last-Event-ID": str(event)}))


def test_head_is_like_get_without_a_body(app: FastAPI, api: httpx.Client, job_id: str) -> None:
    for path in [*(path for _, path in operations(app, "get")), "/docs", "/openapi.json"]:
        url = path.replace("{job_id}", job_id).replace("{name}", "digits").replace("{sweep_id}", "sweep_x")
        get, head = api.get(url), api.head(url)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics":  # which counts requests
            # A streamed response has none.
            assert head.headers.get("content-length") == get.headers.get("content-length"), path


def test_head_of_a_stream_ends(app: FastAPI, api: httpx.Client, job_id: str) -> None:
    answer = api.head(f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    wait_until(lambda: len(app.state.streams) == 0, "the stream has ended")


def test_the_connection_can_be_used_after_head(api: httpx.Client, job_id: str) -> None:
    for _ in range(3):
        api.head("/v1/jobs")
        assert api.get(f"/v1/jobs/{job_id}").json()["id"] == job_id
