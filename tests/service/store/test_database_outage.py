"""The API responds with 503 during an outage of the database and recovers without a restart."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.access import lookup
from service.access.tokens import Role, add_token
from service.store import migrate
from tests.fixtures.postgres import running_server
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from service.settings import Settings
    from service.store import Database
    from tests.fixtures.postgres import PostgresServer


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A separate server that the test can kill."""
    with running_server(durable=True) as server:
        yield server


@pytest.fixture
def database_url(server: PostgresServer) -> str:
    url = server.create_database()
    migrate(url)
    return url


@pytest.fixture(params=[False, True], ids=["without tokens", "with tokens"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update={"require_token": request.param})


@pytest.fixture
def api(api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """The API with a client whose token is read from the database for every request."""
    monkeypatch.setattr(lookup, "CACHED_SECONDS", 0)
    with database.writing() as session:
        api.headers["Authorization"] = f"Bearer {add_token(session, 'a caller', Role.SUBMIT)[1]}"
    return api


def test_a_server_that_was_killed_starts_again(server: PostgresServer) -> None:
    """A stopped backend process of the killed server does not prevent the new start."""
    with psycopg.connect(server.create_database()) as connection:
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        server.kill()
        server.start()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.usefixtures("digits")
def test_the_api_reports_an_outage_of_the_database(api: httpx.Client, server: PostgresServer) -> None:
    def submit() -> httpx.Response:
        return api.post("/v1/jobs", json=hinge_job(), headers={"Idempotency-Key": "one"})

    first = submit()
    server.kill()
    answers: list[Any] = [api.get("/v1/jobs"), api.get(f"/v1/jobs/{first.json()['id']}"), submit(), submit()]
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
        assert "database" in answer.json()["detail"]
    server.start()
    again = submit()
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
