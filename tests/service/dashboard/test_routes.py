"""Of all routes of the installed MLflow, exactly those listed here are allowed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from service.dashboard import routes
from service.dashboard.routes import find_route

# MLflow reads its environment when it is imported, so it is imported in a process of its own.
LIST_ROUTES = """
import json
from mlflow.server import app as flask
from mlflow.server.fastapi_app import app as fastapi
from mlflow.server.graphql.graphql_schema_extensions import schema

found = set()
for route in fastapi.routes:
    if hasattr(route, "effective_route_contexts"):  # an included router
        found |= {(method, context.path) for context in route.effective_route_contexts() for method in context.methods}
    else:
        assert (type(route).__name__, route.path, route.app.app) == ("Mount", "", flask), route
found |= {(method, str(rule)) for rule in flask.url_map.iter_rules() for method in rule.methods}
mutations = sorted(schema.graphql_schema.mutation_type.fields)
print(json.dumps({"routes": sorted(found), "mutations": mutations}))
"""

RUN = "1/" + "0123456789abcdef" * 2 + "/artifacts/model/MLmodel"
MODEL = "m-" + "0123456789abcdef" * 2

# API: below /api/ and below /ajax-api/. The words after the path are the role, `export` for Gradfleet alone.
ALLOWED = """
GET / read
GET /health read
GET /version read
GET /static-files/<path:path> read
GET /get-artifact read
GET /model-versions/get-artifact read
POST /graphql read
GET /ajax-api/2.0/mlflow/metrics/get-history-bulk read
GET /ajax-api/2.0/mlflow/logged-models/<model_id>/artifacts/files read
POST /ajax-api/2.0/mlflow/experiments/search-datasets read
GET /ajax-api/3.0/mlflow/ui-telemetry read
GET API/3.0/mlflow/server-info read
GET API/2.0/mlflow-artifacts/artifacts read
GET API/2.0/mlflow-artifacts/artifacts/<path:artifact_path> read
GET API/2.0/mlflow/artifacts/list read
GET API/2.0/mlflow/experiments/get read
GET API/2.0/mlflow/experiments/get-by-name read
GET API/2.0/mlflow/experiments/search read
POST API/2.0/mlflow/experiments/search read
GET API/2.0/mlflow/runs/get read
POST API/2.0/mlflow/runs/search read
GET API/2.0/mlflow/metrics/get-history read
GET API/2.0/mlflow/metrics/get-history-bulk-interval read
POST API/2.0/mlflow/logged-models/search read
GET API/2.0/mlflow/logged-models/<model_id> read
GET API/2.0/mlflow/logged-models/<model_id>/artifacts/directories read
GET API/2.0/mlflow/registered-models/get read
GET API/2.0/mlflow/registered-models/search read
GET API/2.0/mlflow/registered-models/alias read
GET API/2.0/mlflow/registered-models/get-latest-versions read
POST API/2.0/mlflow/registered-models/get-latest-versions read
GET API/2.0/mlflow/model-versions/get read
GET API/2.0/mlflow/model-versions/search read
GET API/2.0/mlflow/model-versions/get-download-uri read
POST API/2.0/mlflow/runs/update submit
POST API/2.0/mlflow/runs/set-tag submit
POST API/2.0/mlflow/runs/delete-tag submit
POST API/2.0/mlflow/experiments/set-experiment-tag submit
POST API/2.0/mlflow/experiments/delete-experiment-tag submit
PATCH API/2.0/mlflow/registered-models/update submit
POST API/2.0/mlflow/registered-models/set-tag submit
DELETE API/2.0/mlflow/registered-models/delete-tag submit
POST API/2.0/mlflow/registered-models/alias submit
DELETE API/2.0/mlflow/registered-models/alias submit
PATCH API/2.0/mlflow/model-versions/update submit
POST API/2.0/mlflow/model-versions/set-tag submit
DELETE API/2.0/mlflow/model-versions/delete-tag submit
POST API/2.0/mlflow/runs/delete admin
POST API/2.0/mlflow/runs/restore admin
POST API/2.0/mlflow/experiments/delete admin
POST API/2.0/mlflow/experiments/restore admin
DELETE API/2.0/mlflow/logged-models/<model_id> admin
DELETE API/2.0/mlflow/registered-models/delete admin
DELETE API/2.0/mlflow/model-versions/delete admin
POST API/2.0/mlflow/experiments/create export
POST API/2.0/mlflow/runs/create export
POST API/2.0/mlflow/runs/log-batch export
POST API/2.0/mlflow/runs/log-inputs export
POST API/2.0/mlflow/runs/outputs export
POST API/2.0/mlflow/logged-models export
PATCH API/2.0/mlflow/logged-models/<model_id> export
POST API/2.0/mlflow/registered-models/create export
POST API/2.0/mlflow/model-versions/create export
PUT API/2.0/mlflow-artifacts/artifacts/<path:artifact_path> export
"""


def listed(prefix: str) -> dict[str, Any]:
    own = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    result = subprocess.run(
        [sys.executable, "-c", LIST_ROUTES],
        env=own | {"MLFLOW_DISABLE_TELEMETRY": "true", "_MLFLOW_STATIC_PREFIX": prefix},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return dict(json.loads(result.stdout))


def allowed() -> dict[tuple[str, str], str]:
    found = {}
    for line in ALLOWED.strip().splitlines():
        method, path, role = line.split()
        for prefix in ("/api", "/ajax-api") if path.startswith("API") else ("",):
            found[method, path.replace("API", prefix)] = role
    return found


def examples(template: str) -> set[str]:
    """Paths of a route of Flask (`<path:name>`) or FastAPI (`{name:path}`)."""
    template = re.sub(r"\{(\w+)(?::(\w+))?\}", lambda match: f"<{match[2] or 'string'}:{match[1]}>", template)
    return {
        re.sub(r"<(?:(\w+):)?\w+>", path if "<path:" in template else word, template)
        for path in (RUN, "main.js", "search")
        for word in (MODEL, "1", "search")
    }


@pytest.fixture(scope="module")
def installed() -> dict[str, Any]:
    return listed("")


def test_exactly_these_routes_of_the_installed_mlflow_are_allowed(installed: dict[str, Any]) -> None:
    assert len(installed["routes"]) > 400
    found = {}
    for method, template in installed["routes"]:
        hits = {route for path in examples(template) if (route := find_route(method, path))}
        if hits:
            (route,) = hits
            # FastAPI's name of a parameter, where both have the route.
            found[method, re.sub(r"\{(\w+):path\}", r"<path:\1>", template)] = route.role or "export"
    assert found == allowed()


def test_every_entry_of_the_list_is_a_route_of_the_installed_mlflow(installed: dict[str, Any]) -> None:
    entries = [line.split() for table in (routes.READ, routes.SUBMIT, routes.ADMIN, routes.EXPORT)
               for line in table.strip().splitlines()]  # fmt: skip
    exists = {(method, re.sub(r"<.*?>|\{.*?\}", "*", path)) for method, path in installed["routes"]}
    assert [entry for entry in entries if (entry[0], re.sub(r"\{.*?\}", "*", entry[1])) not in exists] == []


def test_the_query_language_changes_nothing(installed: dict[str, Any]) -> None:
    assert installed["mutations"] == ["mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"]


def test_with_a_prefix_in_mlflows_environment_nothing_new_is_allowed() -> None:
    prefixed = [(method, path) for method, path in listed("/prefix")["routes"] if path.startswith("/prefix")]
    assert len(prefixed) > 300
    assert [(method, path) for method, path in prefixed if any(find_route(method, e) for e in examples(path))] == []


@pytest.mark.parametrize(
    "path",
    [
        "//api/2.0/mlflow/runs/get", "/api//2.0/mlflow/runs/get", "/api/2.0/mlflow/runs/get/",
        "/API/2.0/mlflow/runs/get",
        "/api/2.0/mlflow/runs/../runs/get", "/api/2.0/mlflow/./runs/get", "/api/2.0/mlflow/runs%2Fget",
        "/api/2.0/mlflow/runs/get\n", "/api/2.0/mlflow/runs/get?x", "/api/2.0/mlflow/runs/get;x",
        "api/2.0/mlflow/runs/get",
        "http://127.0.0.1/api/2.0/mlflow/runs/get", "/api/200/mlflow/runs/get", "/xajax-api/2.0/mlflow/runs/get",
        "/static-files/../mlflow.db", "/static-files//etc/passwd", "/static-files/.env", "", "*",
        "/api/2.0/mlflow/logged-models/..", "/api/2.0/mlflow/logged-models/" + MODEL + "/b",
    ],
)  # fmt: skip
def test_other_spellings_of_a_path_are_not_allowed(path: str) -> None:
    assert find_route("GET", "/api/2.0/mlflow/runs/get") is not None
    assert find_route("GET", path) is None


@pytest.mark.parametrize(
    "path",
    [
        "../../x", "1/../x", "x", "1/x", "/etc/passwd", "file:///etc/passwd", RUN + "/..", RUN + "/../x", RUN + "//x",
        RUN.replace("model/MLmodel", ".."), RUN.replace("model/MLmodel", ""), RUN.replace("model/MLmodel", "%2e%2e/x"),
        RUN.replace("model", "..%2f"), RUN.replace("model", "a\\b"), RUN.replace("model", "c:"),
        RUN.replace("1/", "1/1/"),
        RUN.replace("1/", "../"), RUN.replace("model", "#"), RUN.replace("model", ".hidden"), RUN + "\n", RUN + "\0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_artifacts_are_only_below_runs_and_models(method: str, path: str) -> None:
    prefix = "/api/2.0/mlflow-artifacts/artifacts/"
    assert find_route(method, prefix + RUN) is not None
    assert find_route(method, f"{prefix}1/models/{MODEL}/artifacts/data/weights.safetensors") is not None
    assert find_route(method, prefix + path) is None


@pytest.mark.parametrize("method", ["get", "GET ", "HEAD", "OPTIONS", "TRACE", "PROPFIND", ""])
def test_other_methods_are_not_allowed(method: str) -> None:
    assert find_route(method, "/api/2.0/mlflow/runs/get") is None
