from __future__ import annotations

import asyncio
import json
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from service.access import guard, lookup
from service.access.lookup import TokenLookup
from service.access.tokens import Role, add_token, revoke_token
from service.client import ApiError, Client, Job
from service.jobs.live import streams
from service.jobs.live.streams import EventStreams, News, Watcher
from service.jobs.repository import finish_attempt, move, record_event, record_progress, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import State
from service.stack.app import create_app
from service.telemetry.instruments import EVENT_STREAMS
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job, served, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

    from service.settings import Settings
    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")

LIVE = {"Accept": "text/event-stream"}


def submit(api: httpx.Client) -> str:
    return str(api.post("/v1/jobs", json=hinge_job()).json()["id"])


def begin(database: Database, job_id: str) -> int:
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
    return attempt


def train(database: Database, job_id: str, attempt: int, step: int, value: float) -> None:
    with database.writing() as session:
        record_points(session, job_id, attempt, [Point("train/loss", step, value, step)])
        record_progress(session, job_id, attempt, epoch=0, step=step)


def end(database: Database, job_id: str, attempt: int) -> None:
    with database.writing() as session:
        finish_attempt(session, job_id, attempt, outcome="succeeded")
        move(session, job_id, from_=State.RUNNING, to=State.SUCCEEDED, reason="completed", attempt=attempt)


def messages(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The fields of each message, with `data` decoded from JSON. A comment is {":": text}."""
    fields: dict[str, Any] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name or ":"] = json.loads(value) if name == "data" else value
        elif fields:
            yield fields
            fields = {}
    assert not fields, "the stream ended within a message"


@contextmanager
def watching(api: httpx.Client, job_id: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=LIVE | headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (response.headers["cache-control"], response.headers["vary"]) == ("no-store", "Accept")
        yield messages(response)


def events(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message["data"] for message in found if "id" in message]


def page(api: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    return list(api.get(f"/v1/jobs/{job_id}/events", params={"limit": 100}).json()["data"])


async def read(watcher: Watcher) -> bytes:
    return b"".join([part async for part in watcher])


def test_the_stream_of_a_job_has_all_events(api: httpx.Client, database: Database) -> None:
    job_id = submit(api)
    with watching(api, job_id) as stream:
        first, queued = next(stream), next(stream)
        assert first == {
            "event": "progress",
            "data": {"state": "queued", "progress": {"epoch": 0, "step": 0, "total_steps": 40}, "metrics": {}},
        }
        assert (queued["event"], queued["data"]["to_state"]) == ("state", "queued")
        assert queued["id"] == str(queued["data"]["id"])
        attempt = begin(database, job_id)
        found = [first, queued]
        while found[-1].get("data", {}).get("to_state") != "running":
            found.append(next(stream))
        train(database, job_id, attempt, 7, 0.5)
        while found[-1]["event"] != "progress" or found[-1]["data"]["progress"]["step"] < 7:
            found.append(next(stream))
        assert found[-1]["data"]["metrics"] == {"train/loss": 0.5}
        end(database, job_id, attempt)
        found += stream
    assert events(found) == page(api, job_id)
    assert found[-1]["data"]["to_state"] == "succeeded", "the end is the last event"
    assert [message["event"] for message in found if "id" in message] == [event["kind"] for event in events(found)]
    assert all("id" not in message for message in found if message["event"] == "progress")


def test_a_stream_resumes_after_the_last_event_id(api: httpx.Client, database: Database) -> None:
    job_id = submit(api)
    end(database, job_id, begin(database, job_id))
    whole = page(api, job_id)
    for number, event in enumerate(whole[:-1], 1):
        with watching(api, job_id, **{"Last-Event-ID": str(event["id"])}) as stream:
            assert events(list(stream)) == whole[number:]
        after = {"starting_after": event["id"]}
        with api.stream("GET", f"/v1/jobs/{job_id}/events", params=after, headers=LIVE) as response:
            assert events(list(messages(response))) == whole[number:]
    over = api.get(f"/v1/jobs/{job_id}/events", headers=LIVE | {"Last-Event-ID": str(whole[-1]["id"])})
    assert (over.status_code, over.content) == (204, b""), "204 makes a browser stop reconnecting"


def test_invalid_requests_for_a_stream(api: httpx.Client) -> None:
    job_id = submit(api)
    for wrong in ("x", "-1", "1.5", str(2**63)):
        answer = api.get(f"/v1/jobs/{job_id}/events", headers=LIVE | {"Last-Event-ID": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Last-Event-Id")
    unknown = api.get("/v1/jobs/job_x/events", headers=LIVE)
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png", "application/json, text/event-stream"])
def test_other_clients_get_a_page(api: httpx.Client, accept: str) -> None:
    answer = api.get(f"/v1/jobs/{submit(api)}/events", headers={"Accept": accept})
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/json", "Accept")
    assert [event["to_state"] for event in answer.json()["data"]] == ["queued"]


def test_more_streams_than_threads(app: FastAPI, api: httpx.Client, database: Database) -> None:
    job_id = submit(api)
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=api.base_url, timeout=10)) for _ in range(60)]
        watched = [stack.enter_context(watching(client, job_id)) for client in clients]
        for stream in watched:
            assert next(stream)["event"] == "progress"
        assert database.engine.pool.checkedout() <= 1, "only the poller uses a connection"  # type: ignore[attr-defined]
        assert api.get(f"/v1/jobs/{job_id}").status_code == 200
        end(database, job_id, begin(database, job_id))
        for stream in watched:
            assert events(list(stream)) == page(api, job_id)
    wait_until(lambda: len(app.state.streams) == 0, "all streams are removed")


def test_streams_are_limited_and_a_closed_one_is_not_counted(settings: Settings, database: Database) -> None:
    app = create_app(settings.model_copy(update={"max_event_streams": 1}), database=database)
    with served(app) as url, httpx.Client(base_url=url) as api:
        job_id = submit(api)
        with watching(api, job_id) as stream:
            next(stream)
            rejected = api.get(f"/v1/jobs/{job_id}/events", headers=LIVE)
            assert (rejected.status_code, rejected.headers["retry-after"]) == (503, "5")
            assert "has 1 open event streams, its limit" in rejected.json()["detail"]
            assert api.get(f"/v1/jobs/{job_id}/events").status_code == 200, "pages are not limited"
        wait_until(lambda: len(app.state.streams) == 0, "the closed stream is removed")
        with watching(api, job_id) as stream:
            assert next(stream)["event"] == "progress"


def test_streams_end_when_the_server_stops(settings: Settings, database: Database) -> None:
    app = create_app(settings, database=database)
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        api = stack.enter_context(httpx.Client(base_url=server.enter_context(served(app)), timeout=30))
        stream = stack.enter_context(watching(api, submit(api)))
        next(stream)
        server.close()  # waits for all connections
        assert [message["data"]["kind"] for message in stream] == ["state"], "the stream has ended normally"
    assert app.state.streams.closed


def test_an_idle_stream_has_heartbeats(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_PERIOD", 0.05)
    with watching(api, submit(api)) as stream:
        heartbeats, others = 0, 0
        while heartbeats < 2 or others < 2:  # a heartbeat may be sent before the messages
            is_heartbeat = next(stream) == {":": "heartbeat"}
            heartbeats, others = heartbeats + is_heartbeat, others + (not is_heartbeat)
    assert others == 2


def test_a_database_error_delays_streams(
    api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(api)
    calls = []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise OperationalError("SELECT", None, OSError("gone"))
        return look(*arguments)

    look = streams.look
    monkeypatch.setattr(streams, "look", failing)
    end(database, job_id, begin(database, job_id))
    with watching(api, job_id) as stream:
        assert events(list(stream)) == page(api, job_id)
    assert len(calls) == 2


def test_a_late_event_is_sent_once(api: httpx.Client, database: Database) -> None:
    job_id = submit(api)
    attempt = begin(database, job_id)
    with watching(api, job_id) as early:
        while next(early).get("data", {}).get("to_state") != "running":
            pass
        with database.writing() as session:
            record_event(session, job_id, attempt, "room", data={"workers": 2})
        with httpx.Client(base_url=api.base_url) as other, watching(other, job_id) as late:
            end(database, job_id, attempt)
            assert events(list(late)) == page(api, job_id)
        assert [event["kind"] for event in events(list(early))] == ["room", "attempt_finished", "state"]


def test_a_slow_client_gets_the_latest_progress_until_its_stream_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "PROGRESS_PERIOD", 0)
    monkeypatch.setattr(streams, "MOST_BEHIND", 3)

    watcher = Watcher("job", 5)
    for step in range(10):
        watcher.receive(News(b"progress %d." % step, [], done=False))
    watcher.receive(News(b"progress 9.", [(5, b"old."), (6, b"six.")], done=False))
    watcher.receive(News(b"progress 10.", [(6, b"six."), (7, b"seven.")], done=True))
    assert asyncio.run(read(watcher)) == b"progress 9.six.progress 10.seven."
    behind = Watcher("job", 0)
    behind.receive(News(b"", [(number, b"%d." % number) for number in range(1, 5)], done=False))
    assert asyncio.run(read(behind)) == b"1.2.3.4.", "the stream ends, and the client reconnects for the rest"


def test_progress_is_limited_except_at_the_end() -> None:
    watcher = Watcher("job", 0)
    for step in range(3):
        watcher.receive(News(b"%d." % step, [(1, b"one.")], done=False))
    watcher.receive(News(b"3.", [(2, b"two.")], done=True))
    assert asyncio.run(read(watcher)) == b"0.one.3.two."


def test_a_stream_that_is_added_during_a_query_gets_all_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The query that runs at that moment asks only for events that the other stream does not have yet."""
    added = threading.Event()

    async def follow() -> bytes:
        loop, event_streams = asyncio.get_running_loop(), EventStreams(MagicMock(), 2)
        late = Watcher("job", 0)

        def add_late() -> None:
            event_streams.add(late)
            added.set()

        def query(_database: Database, cursors: dict[str, int]) -> dict[str, News]:
            if not added.is_set():
                loop.call_soon_threadsafe(add_late)
                assert added.wait(30)
            messages = [(number, b"%d." % number) for number in (1, 2, 3) if number > cursors["job"]]
            return {"job": News(b"", messages, done=True)}

        monkeypatch.setattr(streams, "look", query)
        event_streams.add(Watcher("job", 2))
        try:
            return await asyncio.wait_for(read(late), 30)
        finally:
            event_streams.close()

    assert asyncio.run(follow()) == b"1.2.3."


@pytest.fixture
def token(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token, which is then required; that of a stream is checked again soon."""
    settings.require_token = True
    monkeypatch.setattr(guard, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(streams, "HEARTBEAT_PERIOD", 0.05)
    with database.writing() as session:
        return add_token(session, "x", Role.ADMIN)[1]


def revoke(database: Database, token: str) -> None:
    with database.writing() as session:
        assert revoke_token(session, token.partition(".")[0])


@contextmanager
def guarded(settings: Settings, database: Database, token: str) -> Iterator[httpx.Client]:
    with served(create_app(settings, database=database)) as url:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
            yield client


@pytest.fixture
def job_of_digits(api: httpx.Client) -> str:
    return submit(api)


def test_a_stream_ends_when_its_token_is_revoked(
    job_of_digits: str, settings: Settings, database: Database, token: str
) -> None:
    with guarded(settings, database, token) as api, watching(api, job_of_digits) as stream:
        assert next(stream)["event"] == "progress"
        revoke(database, token)
        last = list(stream)[-1]
        assert (last["event"], last["data"]["status"]) == ("unauthorized", 401)
        assert api.get(f"/v1/jobs/{job_of_digits}/events", headers=LIVE).status_code == 401


def test_a_stream_outlives_the_checks_of_its_token(
    job_of_digits: str, settings: Settings, database: Database, token: str
) -> None:
    with guarded(settings, database, token) as api, watching(api, job_of_digits) as stream:
        heartbeats = 0
        while heartbeats < 10:
            message = next(stream)
            assert message.get("event") != "unauthorized"
            heartbeats += ":" in message


@pytest.mark.parametrize("follow", [Job.watch, Job.events, Job.wait])
def test_a_client_whose_token_is_revoked_gets_an_error(
    job_of_digits: str, settings: Settings, database: Database, token: str, follow: Callable[[Job], Any]
) -> None:
    with guarded(settings, database, token) as api, Client(str(api.base_url), token=token) as client:
        job = client.job(job_of_digits)
        found: list[Exception] = []

        def run() -> None:
            try:
                list(follow(job))
            except ApiError as error:
                found.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: EVENT_STREAMS._value.get() > 0, "the client opens a stream")
        revoke(database, token)
        thread.join(20)
        assert not thread.is_alive()
        assert [error.status for error in found if isinstance(error, ApiError)] == [401]


def test_an_upload_ends_when_its_token_is_revoked(settings: Settings, database: Database, token: str) -> None:
    def rows() -> Iterator[bytes]:
        yield b"a,label\n" + b"1,0\n" * 300_000  # more than a piece that is written
        # The service looks at the token before it receives the file.
        wait_until(lambda: [*settings.dataset_dir.glob("*/uploaded/x.csv")], "the upload begins")
        revoke(database, token)
        for _ in range(1000):
            yield b"1,0\n" * 300_000

    with guarded(settings, database, token) as api:
        headers = {"Content-Type": "application/octet-stream"}
        answer = api.post("/v1/datasets/upload?name=x&filename=x.csv", content=rows(), headers=headers)
        assert_unauthorized(answer)
    assert [*settings.dataset_dir.glob("*/uploaded/x.csv")] == []


def assert_unauthorized(answer: httpx.Response) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].endswith('error="invalid_token"')
    assert answer.headers["x-request-id"].startswith("req_")
    assert "revoked" in answer.json()["detail"]


def test_a_json_body_ends_when_its_token_is_revoked(
    settings: Settings,
    database: Database,
    token: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[str] = []
    ask = TokenLookup._ask
    monkeypatch.setattr(TokenLookup, "_ask", lambda self, text: (ask(self, text), asked.append(text))[0])
    monkeypatch.setattr(lookup, "CACHED_SECONDS", 0)
    monkeypatch.setattr(guard, "CHECK_SECONDS", 0)

    def pieces() -> Iterator[bytes]:
        yield b'{"name": "'
        wait_until(lambda: asked, "the service accepts the token")
        revoke(database, token)
        for _ in range(1000):
            yield b"x" * 64

    with guarded(settings, database, token) as api:
        headers = {"Content-Type": "application/json"}
        assert_unauthorized(api.post("/v1/jobs", content=pieces(), headers=headers))
    assert "without starting response" not in caplog.text
