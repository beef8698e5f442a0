"""What the door passes on to MLflow's application, here one that records its requests."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import ValidationError

from service.access.tokens import Role, revoke_token
from service.dashboard.door import GATEWAY
from service.dashboard.server import MAX_BODY_BYTES, behind_door
from service.jobs.repository import new_id
from service.settings import Settings
from service.tracking.mlflow.experiment_view import EXPERIMENT, TAG
from tests.service.dashboard.test_routes import MODEL, RUN, allowed
from tests.service.fakes.recording_mlflow import EXPORT, SECRET, RecordingMlflow
from tests.service.fixtures.support import served, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.store import Database

SEARCH = "/api/2.0/mlflow/runs/search"


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{token}".encode()).decode()}


def routes() -> Iterator[tuple[str, str, str, Any]]:
    """Every allowed route as a request: method, path, role, body."""
    for (method, template), role in allowed().items():
        path = template.replace("<path:artifact_path>", RUN).replace("<path:path>", "main.js")
        body = {"query": "{ __typename }"} if path == "/graphql" else {}
        yield method, path.replace("<model_id>", MODEL), role, body if method != "GET" else None


def test_without_tokens_everyone_may_do_all_but_what_the_export_writes(
    door: httpx.Client, mlflow: RecordingMlflow
) -> None:
    for method, path, role, body in routes():
        answer = door.request(method, path, json=body)
        assert answer.status_code == (403 if role == "export" else 200), (method, path)
        assert door.request(method, path, json=body, headers=EXPORT).status_code == 200, (method, path)
    assert len(mlflow.requests) == 2 * len(allowed()) - sum(role == "export" for role in allowed().values())


@pytest.mark.parametrize("require_token", [True])
def test_with_tokens_every_route_needs_the_token_of_its_role(
    door: httpx.Client, mlflow: RecordingMlflow, tokens: dict[Role, str]
) -> None:
    for method, path, role, body in routes():
        mlflow.requests.clear()
        anonymous = door.request(method, path, json=body)
        if path == "/health":
            assert anonymous.status_code == 200
            continue
        assert anonymous.status_code == (403 if role == "export" else 401), (method, path)
        if role != "export":
            assert anonymous.headers["www-authenticate"] == 'Basic realm="gradfleet"'  # browsers ask for a password
        assert mlflow.requests == []
        for own, token in tokens.items():
            expected = 200 if role != "export" and own.includes(Role(role)) else 403
            for headers in (basic(token), {"Authorization": f"Bearer {token}"}):
                assert door.request(method, path, json=body, headers=headers).status_code == expected, (path, own)
        assert door.request(method, path, json=body, headers=EXPORT).status_code == 200
    for method, path in (GATEWAY, ("PUT", "/ajax-api/3.0/mlflow/assistant/config")):
        assert door.request(method, path, headers=basic(tokens[Role.ADMIN])).status_code in {200, 404}


@pytest.mark.parametrize("require_token", [True])
def test_invalid_and_revoked_tokens_are_rejected(
    door: httpx.Client, database: Database, mlflow: RecordingMlflow, tokens: dict[Role, str]
) -> None:
    token = tokens[Role.READ]
    encoded = base64.b64encode(token.encode()).decode()
    for header in (
        "Basic", "Basic ?", "Basic é", f"Basic {token}", f"Basic {encoded}", f"Digest {token}", token, "Bearer",
        f"Bearer {SECRET}x", f"bearer {SECRET}", f"Bearer {SECRET[:-1]}",
        f"Basic {base64.b64encode(f'x:{SECRET}'.encode()).decode()}", "Basic eDoA", "Basic eDr/",
    ):  # fmt: skip
        answer = door.post(SEARCH, json={}, headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401, header
        assert token not in answer.text
    assert mlflow.requests == []
    assert door.post(SEARCH, json={}, headers=basic(token)).status_code == 200
    with database.writing() as session:
        assert revoke_token(session, token.partition(".")[0]) is not None
    rejected = lambda: door.post(SEARCH, json={}, headers=basic(token)).status_code == 401  # noqa: E731
    wait_until(rejected, "a revoked token is rejected", 3)


@pytest.mark.parametrize("require_token", [False, True])
@pytest.mark.parametrize(
    "host",
    ["10.evil.com", "192.168.1.1.evil.com", "10.0.0.1", "172.16.0.1", "mlflow", "localhost.evil.com", "", "0.0.0.0"],
)
def test_other_host_names_are_rejected(door: httpx.Client, mlflow: RecordingMlflow, host: str) -> None:
    for path in ("/", "/health", "/static-files/main.js", "/nothing"):
        assert door.get(path, headers={"Host": host} | EXPORT).status_code == 421
    assert mlflow.requests == []


def test_allowed_host_names_are_exact(mlflow: RecordingMlflow, settings: Settings) -> None:
    named = settings.model_copy(update={"allowed_hosts": ["mlflow"]})
    with served(behind_door(mlflow, named)) as url:
        for host, status in {
            "mlflow:5000": 200,
            "MLFLOW": 200,
            "xmlflow": 421,
            "mlflow.evil.com": 421,
            "*": 421,
        }.items():
            assert httpx.get(url + "/version", headers={"Host": host}).status_code == status, host


@pytest.mark.parametrize("require_token", [False, True])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:1234"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_other_origins_write_nothing_and_read_nothing(
    door: httpx.Client, mlflow: RecordingMlflow, tokens: dict[Role, str], headers: dict[str, str]
) -> None:
    # A browser that has been given the password sends it with every request.
    headers = headers | basic(tokens[Role.ADMIN])
    for method, path, _, body in routes():
        if method == "GET":
            answer = door.get(path, headers=headers)
            assert not any(name.startswith("access-control") for name in answer.headers), path
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
            preflight = door.options(path, headers=headers | {"Access-Control-Request-Method": "POST"})
            assert preflight.status_code == 404
            assert not any(name.startswith("access-control") for name in preflight.headers), path
        else:
            assert door.request(method, path, json=body, headers=headers).status_code == 403, (method, path)
    assert {method for method, *_ in mlflow.requests} == {"GET"}
    own = str(door.base_url).rstrip("/")
    assert door.post(SEARCH, json={}, headers=headers | {"Sec-Fetch-Site": "same-origin", "Origin": own}).is_success


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("experiments/create", {"name": "x", "artifact_location": "file:///tmp"}),
        ("experiments/create", {"name": "x", "artifactLocation": "file:///tmp"}),
        ("experiments/create", {"name": "x", "tags": []}),
        ("experiments/create", [{"name": "x"}]),
        ("experiments/create", json.dumps({"name": "x", "artifact_location": "file:///tmp"})),
        ("runs/create", {"experiment_id": "1", "artifact_uri": "file:///tmp"}),
        ("logged-models", {"experiment_id": "1", "artifact_location": "file:///tmp"}),
        ("model-versions/create", {"name": "x", "source": "file:///etc"}),
        ("model-versions/create", {"name": "x", "source": "/etc"}),
        ("model-versions/create", {"name": "x", "source": "mlflow-artifacts:/../.."}),
        ("model-versions/create", {"name": "x", "source": f"models:/{MODEL}/../.."}),
        ("model-versions/create", {"name": "x", "source": "runs:/1/model"}),
        ("model-versions/create", {"name": "x", "source": None}),
    ],
)
def test_not_even_the_export_sets_the_location_of_files(
    door: httpx.Client, mlflow: RecordingMlflow, path: str, body: object
) -> None:
    answer = door.post(f"/api/2.0/mlflow/{path}", json=body, headers=EXPORT)
    assert answer.status_code == 422, answer.text
    assert mlflow.requests == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs/update", {"run_id": "1", "status": "FAILED"}),
        ("runs/update", {"run_id": "1", "end_time": 1}),
        ("runs/update", {"run_id": "1", "endTime": 1}),
        ("runs/set-tag", {"run_id": "1", "key": "gradfleet.job_id", "value": "x"}),
        ("runs/set-tag", {"run_id": "1", "key": "gradfleet.\n", "value": "x"}),
        ("runs/set-tag", {"run_id": "1", "key": "mlflow.parentRunId", "value": "x"}),
        ("runs/set-tag", {"run_id": "1", "key": "mlflow.note.content.x", "value": "x"}),
        ("runs/set-tag", {"run_id": "1", "key": ["mlflow.parentRunId"], "value": "x"}),
        ("runs/delete-tag", {"run_id": "1", "key": "gradfleet.job_id"}),
        ("experiments/set-experiment-tag", {"experiment_id": "1", "key": "mlflow.artifactLocation", "value": "x"}),
        ("experiments/set-experiment-tag", {"experiment_id": "1", "key": TAG + EXPERIMENT, "value": "x"}),
        ("experiments/delete-experiment-tag", {"experiment_id": "1", "key": TAG + EXPERIMENT}),
        ("experiments/set-experiment-tag", {"experiment_id": "1", "key": TAG + new_id("sweep")[0], "value": "x"}),
        ("experiments/delete-experiment-tag", {"experiment_id": "1", "key": TAG + new_id("sweep")[0]}),
        ("registered-models/set-tag", {"name": "x", "key": "mlflow.prompt.is_prompt", "value": "true"}),
        ("runs/set-tag", "x"),
    ],
)
def test_users_change_notes_and_tags_of_their_own_only(
    door: httpx.Client, mlflow: RecordingMlflow, path: str, body: object
) -> None:
    answer = door.post(f"/ajax-api/2.0/mlflow/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert mlflow.requests == []


@pytest.mark.parametrize(
    "key", ["mine", "mlflow.note.content", "mlflow.experimentKind", f"{TAG}0f3a", f"{TAG}gradfleet2", f"{TAG}sweeps"]
)
def test_users_set_and_delete_notes_and_views_of_their_own(
    door: httpx.Client, mlflow: RecordingMlflow, key: str
) -> None:
    body = {"experiment_id": "1", "key": key}
    for route, value in (("set-experiment-tag", {"value": "x"}), ("delete-experiment-tag", {})):
        assert door.post(f"/ajax-api/2.0/mlflow/experiments/{route}", json=body | value).status_code == 200
    assert [json.loads(sent) for *_, sent in mlflow.requests] == [body | {"value": "x"}, body]


def test_bodies_are_passed_on_as_they_were_checked(door: httpx.Client, mlflow: RecordingMlflow) -> None:
    path = "/api/2.0/mlflow/runs/set-tag"
    twice = b'{"run_id": "1", "key": "gradfleet.x", "key": "mlflow.note.content", "value": "\\u00e9"}'
    for body in (twice, twice.decode().encode("utf-16")):
        assert door.post(path, content=body, headers={"Content-Encoding": "identity"}).status_code == 200
    seen = {"run_id": "1", "key": "mlflow.note.content", "value": "é"}
    assert [json.loads(body) for *_, body in mlflow.requests] == [seen, seen]
    for body in (b"{", b"\xff", b"[" * 10000, b'{"run_id": "1"} x', b"1"):
        assert door.post(path, content=body).status_code == 422
    assert len(mlflow.requests) == 2


def files(path: object) -> dict[str, object]:
    """GraphQL's question for the files of a run at a path."""
    query = "query F($data: MlflowListArtifactsInput!) { mlflowListArtifacts(input: $data) { files { path } } }"
    return {"query": query, "variables": {"data": {"runId": "1", "path": path}}}


@pytest.mark.parametrize("path", [["../x"], {"path": "../x"}, 1, "pictures\n", ".hidden"])
def test_paths_in_graphql_are_relative(door: httpx.Client, mlflow: RecordingMlflow, path: object) -> None:
    assert door.post("/graphql", json=files(path)).status_code == 400
    assert mlflow.requests == []


@pytest.mark.parametrize(
    "query",
    [
        "path=..", "path=../x", "path=/etc/passwd", "path=%2fetc", "path=%252e%252e/x", "path=file:///etc",
        "path=a&path=../b", "p%61th=../b", "path=a%5cb", "artifact_file_path=../x", "artifact_directory_path=/x",
        "path=a%00", "path=a/../b",
    ],
)  # fmt: skip
def test_paths_in_queries_are_relative(door: httpx.Client, mlflow: RecordingMlflow, query: str) -> None:
    for headers in ({}, EXPORT):
        assert door.get(f"/get-artifact?run_id=1&{query}", headers=headers).status_code == 422
    assert door.request("GET", "/api/2.0/mlflow/artifacts/list", json={"path": "../x"}).status_code == 422
    for path in parse_qs(query).values():
        answer = door.post("/graphql", json=files(path[-1]))
        assert answer.status_code == 400
        assert "must be the relative path of an artifact" in answer.json()["detail"]
    assert mlflow.requests == []
    for path in ("", "pictures", "pictures/", "pictures/learning_curves.png", None):
        assert door.post("/graphql", json=files(path)).status_code == 200
    assert door.get("/get-artifact?run_id=1&path=pictures/learning_curves.png").status_code == 200
    assert door.get("/get-artifact?run_id=1&path=").status_code == 200


def test_bodies_of_users_are_limited_and_those_of_the_export_are_not(
    door: httpx.Client, mlflow: RecordingMlflow
) -> None:
    large = b'{"filter": "' + b"x" * MAX_BODY_BYTES + b'"}'
    assert door.post(SEARCH, content=large).status_code == 413
    assert door.post(SEARCH, content=iter([large])).status_code == 413
    assert mlflow.requests == []
    assert door.post(SEARCH, content=large, headers=EXPORT).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/ajax-api/3.0/mlflow/assistant/config", "/api/2.0/mlflow/runs/search/../../assistant", "//ajax-api/3.0/jobs/",
        "/api/2.0/mlflow/runs%2fsearch%2f..%2f..%2fx", "/API/2.0/mlflow/runs/search", "http://127.0.0.1/ajax-api/3.0/jobs/",
        "/api/2.0/mlflow/runs/search/", "/api/2.0/mlflow/runs/search%00", "/api/2.0/mlflow/runs/search%0a", "*",
    ],
)  # fmt: skip
def test_raw_request_targets_outside_the_list_are_not_found(
    door: httpx.Client, mlflow: RecordingMlflow, target: str
) -> None:
    with socket.create_connection((door.base_url.host, door.base_url.port or 0), timeout=10) as connection:
        lines = [
            f"POST {target} HTTP/1.1", "Host: 127.0.0.1", "X-HTTP-Method-Override: GET", "X-Forwarded-Prefix: /x",
            "X-Original-URL: /api/2.0/mlflow/runs/search", "Content-Length: 2", "Connection: close",
        ]  # fmt: skip
        connection.sendall("\r\n".join([*lines, "", "{}"]).encode())
        assert connection.recv(1024).split()[1] in {b"404", b"400"}
    assert mlflow.requests == []


def test_only_http_requests_reach_mlflow(settings: Settings) -> None:
    sent: list[dict[str, Any]] = []

    async def never(*_: object) -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(dict(message))

    application = behind_door(never, settings)
    asyncio.run(application({"type": "websocket", "path": SEARCH, "headers": []}, never, send))
    asyncio.run(application({"type": "lifespan"}, never, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_the_dashboards_question_for_a_gateway_is_answered(door: httpx.Client, mlflow: RecordingMlflow) -> None:
    method, path = GATEWAY
    assert door.request(method, path, params={"gateway_path": "api/2.0/endpoints/"}).json() == {"endpoints": []}
    assert door.post(path).status_code == 404
    assert mlflow.requests == []


def test_a_long_secret_is_needed(settings: Settings) -> None:
    with pytest.raises(ValueError, match="GRADFLEET_MLFLOW_SECRET"):
        behind_door(RecordingMlflow(), settings.model_copy(update={"mlflow_secret": None}))
    with pytest.raises(ValidationError, match="at least 32"):
        Settings(mlflow_secret="short")
