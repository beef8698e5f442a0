"""Requests that are too many, too large or too slow are rejected, and the service stays responsive."""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.rate import RateLimit
from service.access.tokens import Role, add_token
from service.http import limits
from service.stack.app import create_app
from tests.service.fixtures.support import hinge_job, served, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.settings import Settings
    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # requests are rejected before the database is used


CLOCK = "service.access.rate.monotonic"


@given(rate=st.floats(1, 50), gaps=st.lists(st.floats(0, 0.5), max_size=200))
def test_no_interval_has_more_requests_than_the_rate_allows(rate: float, gaps: list[float]) -> None:
    now, accepted = 1000.0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLOCK, lambda: now)
        limit = RateLimit(rate)
        for gap in gaps:
            now += gap
            wait = limit.take("a")
            if not wait:
                accepted.append(now)
                continue
            # After the returned wait the next request is accepted.
            now += wait + 1e-9
            assert limit.take("a") == 0
            accepted.append(now)
    for first, begin in enumerate(accepted):
        for count, end in enumerate(accepted[first:], 1):
            assert count <= rate * (end - begin + 1) + 1e-5


def test_bursts_are_limited_for_each_key(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(CLOCK, lambda: now)
    limit = RateLimit(4)
    assert [limit.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.25]
    assert limit.take("b") == 0
    now += 0.25
    assert [limit.take("a") for _ in range(2)] == [0, 0.25]


def test_old_keys_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(CLOCK, lambda: now)
    limit = RateLimit(10)
    for key in range(50_000):
        limit.take(str(key))
        now += 0.001
    assert len(limit._full_at) <= 10_000


def test_requests_with_a_token_are_limited(settings: Settings, database: Database) -> None:
    settings.require_token, settings.requests_per_second = True, 3
    with database.writing() as session:
        busy, other = ({"Authorization": f"Bearer {add_token(session, 'x', Role.READ)[1]}"} for _ in range(2))
    with served(create_app(settings, database=database)) as url, httpx.Client(base_url=url) as client:
        answers = [client.get("/v1/jobs", headers=busy) for _ in range(20)]
        rejected = [answer for answer in answers if answer.status_code == 429]
        assert len(rejected) >= 10, "20 requests take less than 3 seconds"
        assert rejected[0].headers["retry-after"] == "1"
        assert rejected[0].headers["content-type"] == "application/problem+json"
        assert "3 requests per second" in rejected[0].json()["detail"]
        assert client.get("/v1/jobs", headers=other).status_code == 200
        assert client.get("/healthz").status_code == 200
        wait_until(lambda: client.get("/v1/jobs", headers=busy).is_success, "requests are accepted again")


def test_without_tokens_there_is_no_limit(settings: Settings, database: Database) -> None:
    settings.requests_per_second = 1
    with served(create_app(settings, database=database)) as url, httpx.Client(base_url=url) as client:
        assert {client.get("/v1/jobs").status_code for _ in range(20)} == {200}


@pytest.mark.usefixtures("digits")
def test_a_model_or_batch_that_is_too_large_is_rejected(api: httpx.Client, settings: Settings) -> None:
    job = hinge_job()
    parameters = 8 * 128 + 128 + 128 * 10 + 10
    settings.max_parameters = parameters
    response = api.post("/v1/jobs", json=job)
    assert response.status_code == 201
    settings.max_worker_bytes = needed = api.post("/v1/jobs/validate", json=job).json()["memory_per_worker_bytes"]
    assert api.post("/v1/jobs", json=job).status_code == 201
    settings.max_worker_bytes -= 1
    (error,) = api.post("/v1/jobs", json=job).json()["errors"]
    assert error["field"] == "model.layers"
    assert f"take {needed:,} bytes of memory in a worker, more than the limit of {needed - 1:,}" in error["message"]
    assert "'0_linear' takes most" in error["message"]
    settings.max_parameters = parameters - 1
    settings.max_batch_bytes = 4 * 128 * 8
    rejected = api.post("/v1/jobs", json=job)
    assert rejected.status_code == 422
    problems = {error["message"] for error in rejected.json()["errors"]}
    assert f"has {parameters:,} parameters, more than the limit of {parameters - 1:,}; 'scores' has most" in problems
    assert any("for a batch of 128 rows of 8 features, more than the limit of 4,096" in text for text in problems)
    assert any("'0_linear' takes most" in text for text in problems)
    assert {error["field"] for error in rejected.json()["errors"]} == {"model.layers"}


HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@contextmanager
def connected(api: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as connection:
        yield connection


def status_after(api: httpx.Client, sent: bytes) -> int:
    with connected(api) as connection:
        connection.sendall(sent)
        return int(connection.recv(65536).split(b" ")[1])


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


# The rest of the request after `HEAD`, and the allowed statuses of the response.
FRAMINGS: dict[str, tuple[bytes, set[int]]] = {
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"{}") + chunk(b""), {422}),
    "chunks beyond the limit": (b"Transfer-Encoding: chunked\r\n\r\n" + 40 * chunk(b" " * 2**15) + chunk(b""), {413}),
    "a chunk with a huge size": (b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}", {400}),
    "a chunk with an invalid size": (b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n", {400}),
    "an invalid length": (b"Content-Length: 1x\r\n\r\n{}", {400}),
    "a negative length": (b"Content-Length: -2\r\n\r\n{}", {400}),
    "a length of 5000 digits": (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}", {400, 413}),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", {400}),
    # A proxy that uses the length and a server that uses the chunks would see different requests.
    "a length and chunks": (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
}  # fmt: skip


@pytest.mark.parametrize("case", FRAMINGS)
def test_inconsistent_framing_is_rejected(api: httpx.Client, case: str) -> None:
    sent, expected = FRAMINGS[case]
    assert status_after(api, HEAD + sent) in expected
    assert api.get("/healthz").status_code == 200


def test_bytes_after_the_content_length_are_not_part_of_the_body(api: httpx.Client) -> None:
    with connected(api) as connection:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}" + b' "name": "smuggled"}\r\n\r\n')
        received = b""
        while more := connection.recv(65536):
            received += more
    assert received.startswith(b"HTTP/1.1 422")
    assert received.count(b"HTTP/1.1") == 1, "the rest is not a valid request: the connection is closed"
    assert b"smuggled" not in received


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_slow_body_times_out(settings: Settings, database: Database, framing: bytes) -> None:
    settings.max_body_seconds = 0.5
    with served(create_app(settings, database=database)) as url, httpx.Client(base_url=url) as client:
        with connected(client) as connection:
            connection.sendall(HEAD + framing)
            connection.settimeout(0.05)
            answer = b""
            while not answer:
                # Received bytes do not extend the time limit; otherwise this loop would not end.
                connection.sendall(b"1" if framing.startswith(b"Content") else chunk(b"1"))
                with suppress(TimeoutError):
                    answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"0.5 seconds" in answer
        assert client.get("/healthz").status_code == 200


def test_the_bodies_of_all_requests_are_limited_together(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BYTES", 1000)
    with connected(api) as slow:
        slow.sendall(HEAD + b"Content-Length: 2000\r\n\r\n" + b" " * 900)
        answer = wait_until(
            lambda: (found := api.post("/v1/jobs", json=hinge_job())).status_code == 503 and found,
            "the slow body counts",
        )
        assert answer.headers["retry-after"] == "5"
        assert api.get("/v1/jobs").status_code == 200
    wait_until(lambda: api.post("/v1/jobs", content=b" " * 900).status_code == 415, "the slow body has gone")


def test_many_slow_bodies_do_not_block_other_requests(api: httpx.Client) -> None:
    slow = [socket.create_connection((api.base_url.host, api.base_url.port or 0)) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        assert api.get("/v1/jobs").status_code == 200
    finally:
        for connection in slow:
            connection.close()


def test_numbers_and_nesting(api: httpx.Client) -> None:
    """Numbers that take long to convert, and nesting that exceeds the recursion limit."""
    job: dict[str, Any] = hinge_job()
    for content in (b"9" * 1_000_000, b"1e" + b"9" * 500_000, b"-" * 500_000, b"[" * 500_000, b'{"a":' * 150_000):
        answer = api.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}
    assert api.post("/v1/jobs/x/cancel", json=job).status_code == 404


@pytest.mark.parametrize("streamed", [False, True])
def test_an_unauthorised_client_that_sends_a_large_body_can_read_the_response(
    settings: Settings, database: Database, streamed: bool
) -> None:
    settings.require_token = True
    content = (b" " * 2**20 for _ in range(20)) if streamed else b" " * 20 * 2**20
    with served(create_app(settings, database=database)) as url:
        assert httpx.post(f"{url}/v1/jobs", content=content).status_code == 401
