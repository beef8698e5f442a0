"""Authentication and roles of every route, and the commands for tokens."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from service.access.guard import OPEN, needed_role
from service.access.lookup import CACHED_SECONDS, Caller, TokenLookup
from service.access.tokens import Role, find_token, has_token, revoke_token
from service.cli.main import app as command_line
from service.client import ApiError, Client, TokenFormError
from service.settings import Settings
from service.stack.app import create_app
from tests.service.fixtures.support import hinge_job, run, served, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from service.store import Database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", require_token=True)
    settings.allowed_roots[0].mkdir(parents=True)
    return settings


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def all_routes(settings: Settings, database: Database) -> list[tuple[str, str]]:
    """Every method and path of the OpenAPI document, and some that no route has."""
    paths = create_app(settings, database=database).openapi()["paths"]
    found = [(method.upper(), re.sub(r"\{.*?\}", "x", path)) for path, methods in paths.items() for method in methods]
    assert len([path for _, path in found if path.startswith("/v1/")]) >= 12
    return [*found, ("DELETE", "/v1/jobs/x"), ("GET", "/v1/nothing"), ("GET", "/nothing")]


def test_every_route_needs_a_token_of_its_role(
    api: httpx.Client, settings: Settings, database: Database, tokens: dict[Role, str]
) -> None:
    for method, path in all_routes(settings, database):
        if path in OPEN:
            assert api.request(method, path).status_code == 200, path
            continue
        answer = api.request(method, path)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == 'Bearer realm="gradfleet"'
        assert answer.headers["content-type"] == "application/problem+json"
        assert "gradfleet tokens add" in answer.json()["detail"]
        for role, token in tokens.items():
            answer = api.request(method, path, headers=bearer(token))
            allowed = role.includes(needed_role(method))
            assert (answer.status_code not in {401, 403}) == allowed, (method, path, role, answer.text)
            if not allowed:
                assert answer.status_code == 403
                assert f'scope="{needed_role(method)}"' in answer.headers["www-authenticate"]
                assert f"role is {role}" in answer.json()["detail"]


def test_roles_are_in_order() -> None:
    assert [needed_role(method) for method in ("GET", "POST", "PATCH", "DELETE", "BREW")] == [
        Role.READ, Role.SUBMIT, Role.SUBMIT, Role.ADMIN, Role.SUBMIT,
    ]  # fmt: skip
    for lower, higher in pairwise(Role):
        assert higher.includes(lower)
        assert higher.includes(higher)
        assert not lower.includes(higher)


def test_invalid_tokens_are_rejected(api: httpx.Client, database: Database, tokens: dict[Role, str]) -> None:
    token = tokens[Role.ADMIN]
    token_id, secret = token.split(".")
    other_id = tokens[Role.READ].split(".")[0]
    wrong = [
        f"Bearer {token}x", f"Bearer {token[:-1]}", f"Bearer {token_id}", f"Bearer {token_id}.", f"Bearer .{secret}",
        f"Bearer {other_id}.{secret}", f"Bearer {secret}", "Bearer", "Bearer é.é", f"Basic {token}", token,
    ]  # fmt: skip
    for header in wrong:
        answer = api.get("/v1/jobs", headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401, header
        assert 'error="invalid_token"' in answer.headers["www-authenticate"], header
        assert secret not in answer.text
    assert api.get("/v1/jobs", headers={"Authorization": f"bearer  {token}"}).is_success
    with database.writing() as session:
        assert revoke_token(session, token_id) is not None
    wait_until(lambda: api.get("/v1/jobs", headers=bearer(token)).status_code == 401, "a revoked token is rejected", 3)


def test_a_token_is_cached_for_a_second(
    database: Database, tokens: dict[Role, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("service.access.lookup.monotonic", lambda: clock)
    lookup, token = TokenLookup(database), tokens[Role.READ]
    token_id = token.split(".")[0]

    def find(text: str) -> Caller | None:
        return asyncio.run(lookup.find(text))

    assert find(token) == Caller(token_id, Role.READ)
    with database.writing() as session:
        revoke_token(session, token_id)
    clock += 0.9 * CACHED_SECONDS
    assert find(token) == Caller(token_id, Role.READ)
    assert find(token + "x") is None
    clock += 0.2 * CACHED_SECONDS  # using a cached token does not extend its time in the cache
    assert find(token) is None
    clock -= 0.2 * CACHED_SECONDS
    assert find(token) is None, "a rejected token stays out of the cache"


def test_the_database_does_not_contain_secrets(settings: Settings, database: Database, tokens: dict[Role, str]) -> None:
    database.close()
    with sqlite3.connect(settings.database.removeprefix("sqlite:///")) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    for token in tokens.values():
        token_id, secret = token.split(".")
        assert len(secret) == 43  # 256 bits in base64
        assert token_id in dump
        assert secret not in dump
    (digest, *_) = re.findall(r"\b[0-9a-f]{64}\b", dump)
    with database.reading() as session:
        assert find_token(session, f"{token_id}.{digest}") is None


@pytest.mark.parametrize(
    ("host", "require_token", "expected"),
    [("127.0.0.1", False, False), ("localhost", True, True), ("::1", False, False), ("0.0.0.0", False, True),
     ("::", False, True), ("machine.example", False, True)],
)  # fmt: skip
def test_when_a_token_is_required(database: Database, host: str, require_token: bool, expected: bool) -> None:
    settings = Settings(host=host, require_token=require_token)
    with served(create_app(settings, database=database)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/jobs").status_code == (401 if expected else 200)


def test_the_client_reads_its_token_from_the_environment(
    url: str, tokens: dict[Role, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRADFLEET_TOKEN", raising=False)
    with Client(url) as client, pytest.raises(ApiError, match="A token is needed"):
        list(client.jobs())
    with Client(url, token=tokens[Role.READ]) as client:
        assert list(client.jobs()) == []
        with pytest.raises(ApiError, match="needs a token with the role submit; this one's role is read") as caught:
            client.submit(hinge_job())
        assert caught.value.problem["status"] == 403
    monkeypatch.setenv("GRADFLEET_TOKEN", tokens[Role.SUBMIT] + "\n")
    with Client(url) as client, pytest.raises(ApiError, match=r"data\.dataset"):
        client.submit(hinge_job())
    assert run(url, "jobs").exit_code == 0


def test_an_invalid_token_is_not_in_the_error_message(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TokenFormError) as caught:
        Client(url, token="half\nsecret")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("GRADFLEET_TOKEN", "hidden é")
    done = run(url, "jobs")
    assert done.exit_code == 1
    assert "the token contains invalid characters" in done.stderr
    assert "hidden" not in done.stderr


def test_no_secret_is_logged(
    url: str, tokens: dict[Role, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpcore").setLevel(logging.INFO)  # the test's own client
    monkeypatch.setattr("service.jobs.routes.list_jobs", lambda *_arguments, **_named: 1 / 0)
    for token in [*tokens.values(), "tok_0.unknown-secret"]:
        # No shared client: the server closes the connection after an unexpected error.
        failed = httpx.get(f"{url}/v1/jobs", headers=bearer(token), trust_env=False)
        assert "Traceback" not in failed.text
    assert "ZeroDivisionError" in caplog.text
    assert "unknown-secret" not in caplog.text
    assert not any(token.split(".")[1] in caplog.text for token in tokens.values())


def run_tokens(*arguments: Any) -> Any:
    return CliRunner().invoke(command_line, ["tokens", *map(str, arguments)])


def test_tokens_are_created_listed_and_revoked(tmp_path: Path) -> None:
    data_dir = tmp_path / "new"
    url = Settings(data_dir=data_dir).database
    assert not has_token(url)
    assert not data_dir.exists()
    made = run_tokens("add", "the laptop", "--role", "read", "--data-dir", data_dir)
    token_id, secret = made.stdout.strip().split(".")
    assert secret not in made.stderr
    assert f"tokens revoke {token_id}" in made.stderr
    assert has_token(url)
    listed = run_tokens("list", "--data-dir", data_dir).stdout
    assert all(word in listed for word in (token_id, "read", "valid", "the laptop"))
    assert secret not in listed
    for _ in range(2):
        assert run_tokens("revoke", token_id, "--data-dir", data_dir).stdout == f"{token_id} revoked\n"
    assert not has_token(url)
    assert "revoked 20" in run_tokens("list", "--data-dir", data_dir).stdout
    unknown = run_tokens("revoke", "tok_x", "--data-dir", data_dir)
    assert (unknown.exit_code, "no token with this id" in unknown.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["a", "--role", "root"], "read, submit, admin"), (["a\nb"], "printable"), ([" "], "printable")],
)
def test_invalid_tokens_are_not_created(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run_tokens("add", *arguments, "--data-dir", tmp_path / "new")
    assert done.exit_code == 2
    assert words in done.stderr
    assert not (tmp_path / "new").exists()


def test_the_openapi_document_describes_tokens(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method in methods.values():
            assert ("security" in method) == (path not in OPEN), path


@pytest.fixture(autouse=True)
def _no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADFLEET_TOKEN", raising=False)
