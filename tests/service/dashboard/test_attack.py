"""Attacks on a real MLflow server of the stack, and what the export, a browser and MLflow's client still can do."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException, RestException

from service.access.tokens import Role, add_token
from service.settings import Settings
from service.stack.mlflow_server import MlflowServer
from service.store import Database, migrate
from service.tracking.mlflow.api import MlflowApi, RejectedError, Run, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

API, AJAX = "/api/2.0/mlflow", "/ajax-api/2.0/mlflow"
ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
MOST_CONNECTIONS = 50


@pytest.fixture(scope="module", params=[False, True], ids=["open", "tokens"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, ...]]:
    """A server without and one with tokens, and the headers of a user."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), require_token=request.param, max_connections=MOST_CONNECTIONS
    )
    migrate(settings.database)
    database = Database(settings.database)
    with database.writing() as session:
        token = add_token(session, "attacker", Role.SUBMIT)[1]
    database.close()
    with patch("service.stack.mlflow_server.USUAL_PORT", 0), MlflowServer(settings) as server:
        server.wait_until_ready(100)
        yield server, settings.data_dir, token if request.param else ""


@pytest.fixture
def server(stack: tuple[Any, ...]) -> MlflowServer:
    return stack[0]  # type: ignore[no-any-return]


@pytest.fixture
def attacker(stack: tuple[Any, ...]) -> Iterator[httpx.Client]:
    """A user of the machine; with tokens, one who has a token."""
    server, _, token = stack
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30, verify=False) as client:
        yield client


@pytest.fixture
def export(server: MlflowServer) -> Iterator[MlflowApi]:
    api = MlflowApi(server.url, server.secret)
    yield api
    api.close()


@pytest.fixture
def run(export: MlflowApi) -> Run:
    return export.create_run(export.experiment("attacked"), "victim", 1, {"gradfleet.job_id": "job_1"})


def test_the_assistant_runs_no_program(attacker: httpx.Client, tmp_path: Path) -> None:
    """The attack: a provider of the attacker's that answers with a command of the shell."""
    with socket.create_server(("127.0.0.1", 0)) as provider:
        provider.setblocking(False)
        base_url = f"http://127.0.0.1:{provider.getsockname()[1]}/v1"
        config = {"providers": {"ollama": {"model": "x", "base_url": base_url, "selected": True}}}
        for origin in ({}, {"Origin": "http://localhost:1234"}):
            assert attacker.put(f"{ASSISTANT}/config", json=config, headers=origin).status_code in {403, 404}
            message = {"message": f"touch {tmp_path / 'pwned'}"}
            assert attacker.post(f"{ASSISTANT}/message", json=message, headers=origin).status_code in {403, 404}
        assert attacker.get(f"{ASSISTANT}/config").status_code == 404
        with pytest.raises(BlockingIOError):
            provider.accept()
    for method, path in (
        ("POST", f"{ASSISTANT}/skills/install"), ("GET", f"{ASSISTANT}/providers/ollama/health"),
        ("POST", "/ajax-api/3.0/jobs/"), ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
        ("POST", f"{API}/webhooks"), ("POST", f"{AJAX}/gateway-proxy"), ("POST", "/gateway/mlflow/v1/chat/completions"),
        ("POST", "/api/3.0/mlflow/scorers/register"), ("POST", "/api/3.0/mlflow/gateway/secrets/create"),
        ("POST", "/api/3.0/mlflow/mcp-servers"), ("POST", "/v1/traces"), ("POST", f"{AJAX}/upload-artifact"),
        ("POST", "/ajax-api/3.0/mlflow/demo/generate"), ("POST", "/ajax-api/3.0/mlflow/ui-telemetry"),
    ):  # fmt: skip
        assert attacker.request(method, path, json={}).status_code == 404, path


def test_a_head_that_does_not_end_is_refused(server: MlflowServer) -> None:
    """Before a token is asked for; the server would keep all of it."""
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=60) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 64 * 1024)
        assert connection.recv(1024).startswith(b"HTTP/1.1 431 ")


def test_the_longest_idle_connection_makes_room(server: MlflowServer) -> None:
    """Otherwise connections without a request use all files of the process, and the export cannot connect."""
    address = httpx.URL(server.url)
    with ExitStack() as opened:

        def connect() -> socket.socket:
            return opened.enter_context(socket.create_connection((address.host, address.port), timeout=60))

        first = connect()
        for _ in range(MOST_CONNECTIONS):
            connect()
        assert first.recv(1) == b""
        assert httpx.get(f"{server.url}/health", timeout=60).status_code == 200


def test_files_are_written_nowhere(attacker: httpx.Client, stack: tuple[Any, ...], tmp_path: Path, run: Run) -> None:
    server, data_dir, _ = stack
    location = {"name": "x", "artifact_location": tmp_path.as_uri()}
    artifacts = "/api/2.0/mlflow-artifacts/artifacts"
    below = run.artifact_uri.removeprefix("mlflow-artifacts:/")
    before = sorted(data_dir.rglob("*"))
    for secret, refused in ((None, {403, 404}), (server.secret, {400, 404, 422})):
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        assert attacker.post(f"{API}/experiments/create", json=location, headers=headers).status_code in refused
        for path in (
            "../../x", "..%2f..%2fx", "%252e%252e/x", "/x", "x", f"{below}/../../x", f"{below}/%2e%2e/x",
            f"{below}/..%252f..%252fx", f"{below}//x", tmp_path.as_uri(),
        ):  # fmt: skip
            url = httpx.URL(f"{server.url}{artifacts}").copy_with(raw_path=f"{artifacts}/{path}".encode())
            assert attacker.put(url, content=b"x", headers=headers).status_code in refused, path
    assert attacker.put(f"{artifacts}/{below}/x", content=b"x").status_code == 403
    mine = {"name": "x", "source": Path("/etc").as_uri()}
    assert attacker.post(f"{API}/model-versions/create", json=mine).status_code == 403
    assert list(tmp_path.iterdir()) == []
    assert {
        path for path in sorted(data_dir.rglob("*")) if path not in before and "mlflow.db" not in path.name
    } == set()


def test_dns_rebinding_and_other_origins_read_nothing(attacker: httpx.Client, run: Run) -> None:
    query = {"run_id": run.run_id}
    for host in ("10.evil.com", "192.168.1.1.evil.com", "evil.com", "mlflow"):
        assert attacker.get(f"{API}/runs/get", params=query, headers={"Host": host}).status_code == 421
    for origin in ("http://localhost:1234", "http://127.0.0.1:8000", "null", "http://evil.com"):
        answer = attacker.get(f"{API}/runs/get", params=query, headers={"Origin": origin})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        search = attacker.post(f"{API}/runs/search", json={"experiment_ids": ["1"]}, headers={"Origin": origin})
        assert search.status_code == 403


def test_the_secret_is_in_no_command_line_and_in_no_log(stack: tuple[Any, ...], run: Run) -> None:
    server, data_dir, _ = stack
    commands = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK))
    assert b"mlflow.db" in commands
    assert server.secret.encode() not in commands
    log = (data_dir / "logs" / "mlflow.log").read_text()
    assert run.active
    assert "Uvicorn running" in log
    assert server.secret not in log


def test_an_export_with_another_secret_waits_until_it_is_mended(server: MlflowServer) -> None:
    export = MlflowApi(server.url, "another" * 6)
    with pytest.raises(UnavailableError, match=r"401|403"):
        export.experiment("not yet there")
    export.close()


def test_with_tokens_every_page_needs_one(stack: tuple[Any, ...]) -> None:
    server, _, token = stack
    for path in ("/", f"{API}/experiments/get?experiment_id=0", "/static-files/x.js", "/version"):
        answer = httpx.get(server.url + path)
        assert (answer.status_code == 401) == bool(token), path
        if token:
            assert answer.headers["www-authenticate"] == 'Basic realm="gradfleet"'
            assert httpx.get(server.url + path, auth=("anyone", token)).status_code != 401
    assert httpx.get(server.url + "/health").text == "OK"


def test_the_export_the_dashboard_and_mlflows_client_work(
    stack: tuple[Any, ...], export: MlflowApi, attacker: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server, _, token = stack
    experiment = export.experiment(f"works {time.time()}")
    run = export.create_run(experiment, "run", 1, {"gradfleet.job_id": "job_2"})
    export.log_params(run.run_id, [("lr", "0.1")])
    export.set_tags(run.run_id, [("mlflow.note.content", "exported")])
    export.upload(run, "pictures/curves.png", b"picture")
    model = export.create_model(experiment, run.run_id, "model")
    export.upload(model, "MLmodel", b"artifact_path: model")
    export.finish_model(run.run_id, model.model_id)
    export.register_model("digits", run.run_id, model.model_id)
    export.alias_model("digits", "best", run.run_id)
    export.set_status(run.run_id, "FINISHED", 2)
    assert export.find_run(experiment, "gradfleet.job_id", "job_2") == export.get_run(run.run_id)
    with pytest.raises(RejectedError):
        export.upload(run, "../curves.png", b"picture")

    page = attacker.get("/")
    assert '<div id="root"' in page.text
    script = next(part for part in page.text.split('"') if part.endswith(".js"))
    assert attacker.get(f"/{script}").status_code == 200
    query = {"query": "query GetRun($d: MlflowGetRunInput!) { mlflowGetRun(input: $d) { run { info { runName } } } }",
             "variables": {"d": {"runId": run.run_id}}}  # fmt: skip
    answer = attacker.post("/graphql", json=query)
    assert answer.json()["data"] == {"mlflowGetRun": {"run": {"info": {"runName": "run"}}}}
    picture = attacker.get("/get-artifact", params={"run_uuid": run.run_id, "path": "pictures/curves.png"})
    assert picture.content == b"picture"
    note = {"run_uuid": run.run_id, "run_id": run.run_id, "key": "mlflow.note.content", "value": "noted"}
    assert attacker.post(f"{AJAX}/runs/set-tag", json=note).status_code == 200

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    if token:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    client = MlflowClient(server.url)
    found = client.search_runs([experiment])[0].data
    assert (found.params, found.tags["mlflow.note.content"]) == ({"lr": "0.1"}, "noted")
    assert client.get_model_version_by_alias("digits", "best").run_id == run.run_id
    file = download_artifacts("models:/digits@best", dst_path=str(tmp_path), tracking_uri=server.url)
    assert Path(file, "MLmodel").read_bytes() == b"artifact_path: model"
    assert [file.path for file in client.list_artifacts(run.run_id, "pictures")] == ["pictures/curves.png"]
    for forbidden in (lambda: client.log_metric(run.run_id, "loss", 0.0), lambda: client.create_experiment("mine")):
        with pytest.raises((MlflowException, RestException), match="Gradfleet"):
            forbidden()
