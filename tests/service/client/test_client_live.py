"""A client beside a job that goes on, with the service's own streams."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.client import Client, Job, retries
from service.jobs.repository import move, record_progress, start_attempt
from service.jobs.states import State
from service.stack.app import create_app
from tests.service.fakes.flaky_proxy import Cut, Disconnect, FlakyProxy, Respond, flaky
from tests.service.fixtures.support import hinge_job, served, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from service.settings import Settings
    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the client sees the API only


pytestmark = pytest.mark.usefixtures("digits")

LIFE = [State.STARTING, State.RUNNING, State.PAUSING, State.PAUSED, State.QUEUED, State.STARTING, State.RUNNING]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)


@pytest.fixture
def proxy(api: httpx.Client) -> Iterator[FlakyProxy]:
    with flaky(str(api.base_url).rstrip("/")) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FlakyProxy) -> Iterator[Client]:
    with Client(proxy.url) as client:
        yield client


class Reader(threading.Thread):
    """Takes what comes, on a thread of its own."""

    def __init__(self, source: Iterable[Any]) -> None:
        super().__init__()
        self.source, self.taken = source, list[Any]()
        self.start()

    def run(self) -> None:
        for item in self.source:
            self.taken.append(item)

    def all(self) -> list[Any]:
        self.join(20)
        assert not self.is_alive(), f"it waits on after {self.taken[-1:]}"
        return self.taken


class Training:
    """What a scheduler writes about a job."""

    def __init__(self, database: Database, job_id: str) -> None:
        self.database, self.job_id, self.state = database, job_id, State.QUEUED
        with database.writing() as session:
            self.attempt = start_attempt(session, job_id, "supervisor")

    def move(self, to: State) -> None:
        with self.database.writing() as session:
            assert move(session, self.job_id, from_=self.state, to=to, reason=f"it is {to} – as told")
        self.state = to

    def go_on(self, step: int) -> None:
        with self.database.writing() as session:
            assert record_progress(session, self.job_id, self.attempt, epoch=0, step=step)


def streams(proxy: FlakyProxy) -> list[str | None]:
    """Of each stream that was asked for, the id of the last event before it."""
    return [headers.get("last-event-id") for _, _, headers in proxy.seen if headers["accept"] == "text/event-stream"]


def test_events_come_once_each_through_connections_that_break(
    client: Client, proxy: FlakyProxy, database: Database
) -> None:
    job = client.submit(hinge_job())
    training = Training(database, job.id)
    # A message has some 250 bytes: a stream breaks off within its first ones, and so do the questions that follow it.
    proxy.faults = [
        fault for size in range(200, 1100, 30) for fault in (Cut(size), Disconnect(), None, Respond(502), None)
    ]
    reader = Reader(client.job(job.id).events())
    for state in LIFE:
        training.move(state)
        wait_until(lambda state=state: reader.taken and reader.taken[-1]["to_state"] == state, f"the move to {state}")
    training.move(State.SUCCEEDED)
    events = reader.all()
    assert events == list(job.history())
    moves = [event["to_state"] for event in events if event["kind"] == "state"]
    assert moves == ["queued", *LIFE, "succeeded"]
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))
    assert len(set(streams(proxy))) > 3, "it went on from several places"


def test_waiting_asks_once_and_then_listens(client: Client, proxy: FlakyProxy, database: Database) -> None:
    job = client.submit(hinge_job())
    training = Training(database, job.id)
    reader = Reader((job.state, job.progress["step"]) for job in client.job(job.id).watch())
    training.move(State.STARTING)
    training.move(State.RUNNING)
    wait_until(lambda: reader.taken and reader.taken[-1][0] == "running", "it is seen to run")
    before = len(proxy.seen)
    for step in (3, 8):
        training.go_on(step)
        wait_until(lambda step=step: reader.taken[-1] == ("running", step), f"step {step}")
    assert len(proxy.seen) - before <= 1, "progress came by the stream that was open"
    training.move(State.SUCCEEDED)
    assert reader.all()[-1] == ("succeeded", 8)
    assert len(set(reader.taken)) == len(reader.taken), "nothing is shown twice"
    assert job.wait(timeout=5).state == "succeeded"


def test_a_timeout_is_kept_while_nothing_happens(client: Client, proxy: FlakyProxy) -> None:
    job = client.submit(hinge_job())
    with pytest.raises(TimeoutError, match=r"is queued after 0\.3 s"):
        job.wait(timeout=0.3)
    # A stream would say nothing for 15 s, so the service is asked instead, now and then.
    assert streams(proxy) == []
    assert len(proxy.seen) < 8


def test_a_service_without_streams_is_asked_instead(settings: Settings, database: Database) -> None:
    settings = settings.model_copy(update={"max_event_streams": 0})
    with served(create_app(settings, database=database)) as url, flaky(url) as proxy, Client(proxy.url) as client:
        job = client.submit(hinge_job())
        training = Training(database, job.id)
        reader = Reader(client.job(job.id).events())
        for state in (State.STARTING, State.RUNNING, State.FAILED):
            training.move(state)
            wait_until(
                lambda state=state: reader.taken and reader.taken[-1]["to_state"] == state, f"the move to {state}"
            )
        assert reader.all() == list(job.history())
        assert job.wait(timeout=5, raise_on_failure=False).state == "failed"
        assert len(streams(proxy)) == 1


def test_a_client_outlasts_a_service_that_is_started_again(settings: Settings, database: Database) -> None:
    with flaky("") as proxy, Client(proxy.url) as client:
        with served(create_app(settings, database=database)) as proxy.upstream:
            job = client.submit(hinge_job())
            training = Training(database, job.id)
            events, waiting = Reader(client.job(job.id).events()), Reader(map(Job.wait, [job]))
            training.move(State.STARTING)
            wait_until(lambda: events.taken and events.taken[-1]["to_state"] == "starting", "it starts")
        training.move(State.RUNNING)  # while nobody is there
        asked = len(proxy.seen)
        wait_until(lambda: len(proxy.seen) > asked + 2, "somebody asks in vain")
        with served(create_app(settings, database=database)) as proxy.upstream:
            training.move(State.SUCCEEDED)
            assert [event["to_state"] for event in events.all() if event["to_state"]] == [
                "queued", "starting", "running", "succeeded"
            ]  # fmt: skip
            assert waiting.all() == [job]
