from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from service.datasets.schemas import DIGITS, DatasetView
from service.jobs.schemas import END, RUNNING_JOB, EventView, JobRequest, JobView
from service.stack.app import create_app

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI
    from pydantic import BaseModel

    from service.settings import Settings
    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the OpenAPI document does not depend on the database


EMPTY = {"204"}


@pytest.fixture
def operations(app: FastAPI) -> dict[str, Any]:
    """Operations under /v1 by name."""
    paths = app.openapi()["paths"]
    found = {
        operation["operationId"]: operation
        for path, methods in paths.items()
        if path.startswith("/v1")
        for operation in methods.values()
    }
    assert len(found) == sum(len(methods) for path, methods in paths.items() if path.startswith("/v1"))
    return found


def test_every_response_is_described(operations: dict[str, Any]) -> None:
    for name, operation in operations.items():
        assert operation["description"], name
        assert {"400", "403", "408", "413", "421", "422", "431", "500", "503"} <= set(operation["responses"]), name
        assert "default" not in operation["responses"], name
        assert all(status.isdigit() for status in operation["responses"]), name
        assert any(status.startswith("2") for status in operation["responses"]), name
        for status, response in operation["responses"].items():
            assert response["description"] != "Successful Response", f"{name} {status}"
            assert bool(response.get("content")) != (status in EMPTY), f"{name} {status}"
            if status >= "400":
                schema = {"$ref": "#/components/schemas/Problem"}
                assert response["content"] == {"application/problem+json": {"schema": schema}}


def test_every_parameter_beyond_the_path_is_described(operations: dict[str, Any]) -> None:
    obvious = {"limit", "state", "experiment", "from_step", "to_step"}
    for name, operation in operations.items():
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "path" and parameter["name"] not in obvious:
                assert parameter.get("description"), f"{name} {parameter['name']}"


def test_the_allow_header_lists_the_methods(api: httpx.Client) -> None:
    allowed = {path: api.options(path).headers["allow"] for path in ("/v1/jobs/validate", "/v1/jobs/job_x", "/v1/jobs")}
    assert allowed == {
        "/v1/jobs/validate": "POST", "/v1/jobs/job_x": "DELETE, GET, HEAD, PATCH", "/v1/jobs": "GET, HEAD, POST",
    }  # fmt: skip


def test_all_media_types_of_a_response_are_described(operations: dict[str, Any]) -> None:
    assert set(operations["get_metrics"]["responses"]["200"]["content"]) == {
        "application/json", "text/csv", "application/vnd.apache.arrow.stream",
    }  # fmt: skip
    assert set(operations["get_events"]["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {parameter["name"] for parameter in operations["get_events"]["parameters"]} >= {"Last-Event-ID", "limit"}


def test_messages_of_a_stream_are_described(app: FastAPI, operations: dict[str, Any]) -> None:
    message = operations["get_events"]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]
    event, live = message["properties"]["data"]["contentSchema"]["anyOf"]
    assert set(live["properties"]) == {"state", "progress", "metrics"}
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps([event, live])))
    assert references == {"EventView", "ProgressView", "State"}
    assert references <= set(app.openapi()["components"]["schemas"])


def test_responses_of_probes_and_metrics_are_described(app: FastAPI) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        assert {"403", "421"} <= set(app.openapi()["paths"][path]["get"]["responses"]), "missing token or wrong host"


@pytest.mark.parametrize("required", [True, False])
def test_a_token_is_described_if_it_is_required(settings: Settings, database: Database, *, required: bool) -> None:
    document = create_app(settings.model_copy(update={"require_token": required}), database=database).openapi()
    assert ("security" in document["paths"]["/v1/jobs"]["get"]) == required
    assert ("securitySchemes" in document["components"]) == required


@pytest.mark.parametrize(
    ("model", "example"), [(JobView, RUNNING_JOB), (EventView, END), (DatasetView, DIGITS), (JobRequest, None)]
)
def test_examples_are_valid(app: FastAPI, model: type[BaseModel], example: Any) -> None:
    if example is None:
        body = app.openapi()["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
        for one in body["schema"]["examples"]:
            model.model_validate(one)
        return
    assert model.model_validate(example).model_dump(mode="json") == example
    assert app.openapi()["components"]["schemas"][model.__name__]["examples"], "without null values"


def test_names_of_schemas_are_short_and_unique(app: FastAPI) -> None:
    names = list(app.openapi()["components"]["schemas"])
    # FastAPI puts the module before the name of a model where two models share it, and "-Input" after it where a
    # model differs between requests and responses.
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name)] == []
    assert len({name.lower() for name in names}) == len(names)
