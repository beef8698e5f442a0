from __future__ import annotations

import json
import logging
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.service.fixtures.support import hinge_job, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # requests are rejected before the database is used


JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def service(shared_app: FastAPI) -> Iterator[httpx.Client]:
    with served(shared_app) as url, httpx.Client(base_url=url, timeout=10) as client:
        answer = client.post("/v1/datasets", json={"name": "digits", "path": "digits.parquet", "label": "label"})
        assert answer.status_code == 201, answer.text
        yield client


def check_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
    return problem


def assert_still_responds(service: httpx.Client) -> None:
    answer = service.post("/v1/jobs", json=hinge_job())
    assert answer.status_code == 201, answer.text
    service.post(f"/v1/jobs/{answer.json()['id']}/cancel")


WIDE = {"type": "linear", "units": 12}

# The change to the example job, the field that the error names, and words in its message.
BAD_FIELDS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "unknown layer": (
        {"model.layers.1": {"type": "rellu"}}, "model.layers.1", ["'rellu'", "linear", "did you mean 'relu'"],
    ),
    "unknown loss": ({"loss": {"type": "l1"}}, "loss", ["'l1'", "hinge"]),
    "layer without type": ({"model.layers.0": {"units": 3}}, "model.layers.0.type", ["required", "linear"]),
    "layer that is not an object": ({"model.layers.0": "relu"}, "model.layers.0", ["must be an object, not 'relu'"]),
    "wrong type": ({"training.epochs": "10"}, "training.epochs", ["must be an integer, not '10'"]),
    "boolean for a number": ({"optimizer.lr": True}, "optimizer.lr", ["must be a number, not true"]),
    "fraction for an integer": ({"training.epochs": 1.5}, "training.epochs", ["must be an integer, not 1.5"]),
    "negative epochs": ({"training.epochs": -3}, "training.epochs", ["must be at least 1, not -3"]),
    "nested bound": ({"model.layers.0.units": -3}, "model.layers.0.units", ["must be at least 1, not -3"]),
    "unknown dataset": ({"data.dataset": "digit"}, "data.dataset", ["'digit'", "did you mean 'digits'"]),
    "shapes that do not fit": ({"model.inputs": 9}, "model.inputs", ["9", "must be 8"]),
    "a size of 0": ({"model.inputs": [8, 0]}, "model.inputs.1", ["must be at least 1, not 0"]),
    "a size that is not a number": ({"model.inputs": [8, "1"]}, "model.inputs.1", ["must be an integer, not '1'"]),
    "too many sizes": ({"model.inputs": [1] * 9}, "model.inputs", ["must have at most 8 entries, not 9"]),
    "neither a number nor a list": ({"model.inputs": "8"}, "model.inputs", ["must be an integer or a list, not '8'"]),
    "a window of the wrong size": (
        {"model.layers.0": {"type": "conv2d", "filters": 2, "kernel": [1, 0]}}, "model.layers.0.kernel.1",
        ["must be at least 1, not 0"],
    ),
    "images that are not there": (
        {"model.layers.0": {"type": "conv2d", "filters": 2, "kernel": 1}}, "model.layers.0",
        ["0_conv2d", "(batch, height, width, channels)", "model.inputs"],
    ),
    "last layer of the wrong width": ({"model.layers.2": WIDE}, "model.layers.2", ["12", "must give 10"]),
    "unknown input": (
        {"model.layers.1": {"type": "relu", "inputs": ["0_linaer"]}}, "model.layers.1.inputs",
        ["'0_linaer'", "features, 0_linear", "did you mean '0_linear'"],
    ),
    "misspelt field of a layer": (
        {"model.layers.1": {"type": "relu", "input": ["features"]}}, "model.layers.1.input", ["did you mean 'inputs'"],
    ),
    "input that is not a string": (
        {"model.layers.1": {"type": "relu", "inputs": [3]}}, "model.layers.1.inputs.0", ["must be a string, not 3"],
    ),
    "misspelt nested field": (
        {"loss": {"type": "weighted_sum", "losses": [{"type": "hinge", "margins": 1}], "weights": [1.0]}},
        "loss.losses.0.margins", ["did you mean 'margin'"],
    ),
    "empty list of losses": (
        {"loss": {"type": "weighted_sum", "losses": [], "weights": []}}, "loss", ["at least one loss"],
    ),
    "labels beyond the limit": (
        {"labels": {str(number): "x" for number in range(64)}}, "labels", ["must have at most 32 entries, not 64"],
    ),
    "labels that are a list": ({"labels": ["a"]}, "labels", ["must be an object, not a list"]),
    "list beyond the limit": (
        {"model.layers": [{"type": "relu"}] * 1100}, "model.layers", ["must have at most 1,024 entries, not 1100"],
    ),
    "long name": ({"name": "a" * 201}, "name", ["must have at most 200 characters"]),
    "zero shards": ({"training.shards": 0}, "training.shards", ["must be at least 1, not 0"]),
    "more shards than rows in a batch": (
        {"training.shards": 64, "training.batch_size": 32}, "training.shards", ["64", "must be at most 32"],
    ),
    "batch larger than the data": ({"training.batch_size": 1000}, "training.batch_size", ["must be at most 240"]),
    "no layers": ({"model.layers": []}, "model.layers", ["at least 1"]),
    "unknown field": ({"training.epoch": 3}, "training.epoch", ["did you mean 'epochs'", "batch_size"]),
    "unknown field of a layer": ({"model.layers.0.unit": 3}, "model.layers.0.unit", ["units"]),
    "unknown field at the top": ({"models": {}}, "models", ["did you mean 'model'"]),
    "null": ({"model": None}, "model", ["must be an object, not null"]),
    "empty name": ({"name": ""}, "name", ["must have at least 1 character, not ''"]),
    "unprintable name": ({"name": "a\tb"}, "name", ["printable"]),
    "NUL": ({"name": "a\0b"}, "name", ["NUL"]),
    "lone surrogate": ({"name": "a\ud800b"}, "name", ["surrogate"]),
    "lone surrogate as a key": ({"data.a\udfff": 1}, "data", ["surrogate"]),
    "NaN": ({"optimizer.lr": float("nan")}, "optimizer.lr", ["finite"]),
    "infinity": ({"regularization.l2": float("inf")}, "regularization.l2", ["finite"]),
    "huge integer": ({"training.seed": 2**64}, "training.seed", ["64"]),
    "very huge integer": ({"training.epochs": 10**30}, "training.epochs", ["64"]),
    "more steps than a SQL integer can hold": ({"training.epochs": 2**63 - 1}, "training.epochs", ["must be at most"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_the_error_of_a_bad_spec_names_the_field(service: httpx.Client, case: str) -> None:
    changes, field, words = BAD_FIELDS[case]
    content = json.dumps(hinge_job(**changes)).encode()
    problem = check_problem(service.post("/v1/jobs", content=content, headers=JSON_TYPE), 422)
    error = problem["errors"][0]
    assert error["field"] == field
    for word in words:
        assert word in error["message"]
    assert problem["detail"].startswith(f"{field}: {error['message']}")
    assert problem["instance"] == "/v1/jobs"
    assert_still_responds(service)


def test_every_wrong_field_is_named(service: httpx.Client) -> None:
    body = hinge_job(**{"training.epochs": 0, "model.layers.0.units": 0, "extra": 1})
    del body["loss"]
    problem = check_problem(service.post("/v1/jobs", json=body), 422)
    assert {error["field"] for error in problem["errors"]} == {
        "training.epochs",
        "model.layers.0.units",
        "extra",
        "loss",
    }
    assert "(and 3 more)" in problem["detail"]


@pytest.mark.parametrize("name", ["attention", "transformer", "lstm"])
def test_a_name_that_is_not_close_to_any_has_no_suggestion(service: httpx.Client, name: str) -> None:
    problem = check_problem(service.post("/v1/jobs", json=hinge_job(**{"model.layers.1": {"type": name}})), 422)
    (error,) = problem["errors"]
    assert error["message"].startswith(f"{name!r} is not a known type; known: abs, add, average_pool1d, ")
    assert "did you mean" not in error["message"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (list(range(13)), "must be left out, or the dataset registered with its split_column"),
        ([1.5] * 13, "must be a string, not 1.5"),
        ([None] * 13, "must be a string, not null"),
    ],
)
def test_a_list_of_wrong_values_has_one_error(service: httpx.Client, values: list[Any], words: str) -> None:
    body = hinge_job(data={"dataset": "digits", "split": {"train": values, "validation": []}})
    problem = check_problem(service.post("/v1/jobs", json=body), 422)
    (error,) = problem["errors"]
    assert words in error["message"]


DEEP = 100_000
BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "invalid JSON": (b'{"name": "x",\n  "data" 3}', 400, "line 2, column 10"),
    "truncated": (b'{"name": "x"', 400, "line 1"),
    "empty": (b"", 400, "empty"),
    "invalid UTF-8": (b'{"name": "\xff"}', 400, "UTF-8"),
    "deep lists": (b"[" * DEEP + b"]" * DEEP, 400, "nested"),
    "deep objects": (b'{"a":' * 900 + b"1" + b"}" * 900, 400, "nested"),
    "nested a little too deeply": (b"[" * 40 + b"]" * 40, 400, "nested"),
    "duplicate key": (b'{"name": "a", "name": "b"}', 400, "'name' occurs twice"),
    "a number of 5000 digits": (b'{"name": ' + b"9" * 5000 + b"}", 422, "name"),
    "a float beyond float64": (b'{"name": 1e999}', 422, "finite"),
    "a list": (b"[]", 422, "must be an object, not a list"),
    "a string": (b'"job"', 422, "must be an object"),
    "null": (b"null", 422, "must be an object, not null"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_body_is_rejected(service: httpx.Client, case: str) -> None:
    content, status, words = BAD_BODIES[case]
    problem = check_problem(service.post("/v1/jobs", content=content, headers=JSON_TYPE), status)
    assert words in problem["detail"]
    assert_still_responds(service)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_only_json_is_accepted(service: httpx.Client, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    problem = check_problem(service.post("/v1/jobs", content=json.dumps(hinge_job()), headers=headers), 415)
    assert "application/json" in problem["detail"]


def test_unknown_paths_and_methods(service: httpx.Client) -> None:
    assert "/v2/jobs" in check_problem(service.get("/v2/jobs"), 404)["detail"]
    assert "job_x" in check_problem(service.get("/v1/jobs/job_x"), 404)["detail"]
    check_problem(service.get("/v1/jobs/job_x/metrics"), 404)
    check_problem(service.get("/v1/datasets/x"), 404)
    check_problem(service.get("/v1/jobs/"), 404)
    answer = service.put("/v1/jobs")
    assert "GET, HEAD, POST" in check_problem(answer, 405)["detail"]
    assert answer.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("query", ["from_step=-1", "to_step=x", f"from_step={2**63}"])
def test_a_bad_query_names_its_parameter(service: httpx.Client, query: str) -> None:
    problem = check_problem(service.get(f"/v1/jobs/job_x/metrics?{query}"), 422)
    assert problem["errors"][0]["field"] == query.partition("=")[0]


def test_a_too_long_idempotency_key(service: httpx.Client) -> None:
    answer = service.post("/v1/jobs", json=hinge_job(), headers={"Idempotency-Key": "k" * 300})
    assert check_problem(answer, 422)["errors"][0]["field"] == "Idempotency-Key"


MEGABYTES_50 = 50 * 1024 * 1024


@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_of_50_megabytes_is_rejected_while_it_is_sent(service: httpx.Client, streamed: bool) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * (MEGABYTES_50 // 50)

    answer = service.post("/v1/jobs", content=chunks() if streamed else b" " * MEGABYTES_50, headers=JSON_TYPE)
    assert "1048576" in check_problem(answer, 413)["detail"]
    assert_still_responds(service)


@pytest.mark.parametrize(("path", "length"), [("/v1/jobs", MEGABYTES_50), ("/v1/datasets/upload?name=x", 5 * 10**9)])
def test_a_large_content_length_is_rejected_before_the_body_is_sent(
    service: httpx.Client, path: str, length: int
) -> None:
    address = urlsplit(str(service.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 413")
    assert_still_responds(service)


def test_a_client_that_sends_a_large_body_first_can_read_the_response(service: httpx.Client) -> None:
    address = urlsplit(str(service.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MEGABYTES_50}\r\n\r\n"
        connection.sendall(head.encode() + b" " * MEGABYTES_50)
        assert connection.recv(1024).startswith(b"HTTP/1.1 413")


def test_a_body_of_the_largest_size_is_accepted(service: httpx.Client) -> None:
    content = json.dumps(hinge_job()).encode()
    answer = service.post("/v1/jobs", content=content + b" " * (2**20 - len(content)), headers=JSON_TYPE)
    assert answer.status_code == 201


def test_an_unexpected_error_is_logged_and_not_in_the_response(
    app: FastAPI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail in /some/path")

    monkeypatch.setattr("service.jobs.routes.list_jobs", fail)
    with caplog.at_level(logging.ERROR), served(app) as url:
        answer = httpx.get(f"{url}/v1/jobs")
    assert "secret" not in answer.text
    assert "path" not in answer.text
    check_problem(answer, 500)
    assert "GET /v1/jobs failed" in caplog.text
    assert "secret detail" in caplog.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
PATHS = [
    "name", "experiment", "data", "data.dataset", "data.validation", "data.standardize", "data.scale",
    "data.shuffle", "data.augmentation", "data.stratify", "data.split", "model", "model.layers",
    "model.layers.0", "model.layers.0.type", "model.layers.0.units", "model.layers.1", "loss", "loss.type",
    "loss.margin", "regularization.l2", "optimizer", "optimizer.lr", "optimizer.momentum", "optimizer.schedule",
    "optimizer.schedule.type", "training.epochs", "training.batch_size", "training.seed", "training.shards",
    "resources.workers", "resources.cpus_per_worker", "something", "model.layers.0.something", "training.something",
]  # fmt: skip
BODIES = JSON_VALUES | st.builds(
    lambda path, value: hinge_job(**{path: value}),
    st.sampled_from(PATHS),
    JSON_VALUES | st.integers(-1, 10**6) | st.floats(0, 1) | st.sampled_from(["linear", "hinge", "cosine", "digits"]),
)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
def test_no_json_body_causes_an_internal_error(service: httpx.Client, body: Any) -> None:
    answer = service.post("/v1/jobs", content=json.dumps(body).encode(), headers=JSON_TYPE)
    if answer.status_code != 201:
        problem = check_problem(answer, answer.status_code)
        assert answer.status_code in {400, 422}, answer.text
        assert answer.status_code == 400 or problem["errors"]


@hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_no_bytes_cause_an_internal_error(service: httpx.Client, content: bytes) -> None:
    answer = service.post("/v1/datasets", content=content, headers=JSON_TYPE)
    check_problem(answer, answer.status_code)
    assert answer.status_code in {400, 422}
