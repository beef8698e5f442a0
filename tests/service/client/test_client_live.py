"""A client that follows a running job through the event streams of the service."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import update

from service.client import Client, Job, retries
from service.jobs.repository import move, record_progress, start_attempt
from service.jobs.states import State
from service.stack.app import create_app
from service.store.models import Job as JobRow
from service.store.models import MlflowRun
from tests.service.fakes.flaky_proxy import Cut, Disconnect, FlakyProxy, Respond, flaky
from tests.service.fixtures.support import hinge_job, served, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from service.settings import Settings
    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the client does not depend on the database


pytestmark = pytest.mark.usefixtures("digits")

LIFE = [State.STARTING, State.RUNNING, State.PAUSING, State.PAUSED, State.QUEUED, State.STARTING, State.RUNNING]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Collects the items of an iterable on a thread."""

    def __init__(self, source: Iterable[Any]) -> None:
        super().__init__()
        self.source, self.taken = source, list[Any]()
        self.start()

    def run(self) -> None:
        for item in self.source:
            self.taken.append(item)

    def all(self) -> list[Any]:
        self.join(20)
        assert not self.is_alive(), f"the iterator did not end after {self.taken[-1:]}"
        return self.taken


class Training:
    """Writes what the scheduler writes for a job."""

    def __init__(self, database: Database, job_id: str) -> None:
        self.database, self.job_id, self.state = database, job_id, State.QUEUED
        with database.writing() as session:
            self.attempt = start_attempt(session, job_id, "supervisor")

    def move(self, to: State) -> None:
        with self.database.writing() as session:
            assert move(session, self.job_id, from_=self.state, to=to, reason=f"it is {to} – as requested")
        self.state = to

    def progress(self, step: int) -> None:
        with self.database.writing() as session:
            assert record_progress(session, self.job_id, self.attempt, epoch=0, step=step)


def streams(proxy: FlakyProxy) -> list[str | None]:
    """The Last-Event-ID of each request for a stream."""
    return [headers.get("last-event-id") for _, _, headers in proxy.seen if headers["accept"] == "text/event-stream"]


def test_every_event_is_received_once_despite_broken_connections(
    client: Client, proxy: FlakyProxy, database: Database
) -> None:
    job = client.submit(hinge_job())
    training = Training(database, job.id)
    # A message has about 250 bytes, so each stream ends within its first messages.
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
    assert len(set(streams(proxy))) > 3, "the streams were resumed after different events"


def test_waiting_uses_one_stream(client: Client, proxy: FlakyProxy, database: Database) -> None:
    job = client.submit(hinge_job())
    training = Training(database, job.id)
    reader = Reader((job.state, job.progress["step"]) for job in client.job(job.id).watch())
    training.move(State.STARTING)
    training.move(State.RUNNING)
    wait_until(lambda: reader.taken and reader.taken[-1][0] == "running", "the client sees that the job runs")
    before = len(proxy.seen)
    for step in (3, 8):
        training.progress(step)
        wait_until(lambda step=step: reader.taken[-1] == ("running", step), f"step {step}")
    assert len(proxy.seen) - before <= 1, "progress is received through the open stream"
    training.move(State.SUCCEEDED)
    assert reader.all()[-1] == ("succeeded", 8)
    assert len(set(reader.taken)) == len(reader.taken), "no state is reported twice"
    assert job.wait(timeout=5).state == "succeeded"


def test_waiting_for_the_run_in_mlflow(client: Client, database: Database) -> None:
    job = client.submit(hinge_job())
    training = Training(database, job.id)
    waiting = Reader(map(Job.wait_for_mlflow, [client.job(job.id)]))
    for state in (State.STARTING, State.RUNNING, State.SUCCEEDED):
        training.move(state)
    assert job.wait()["mlflow"] is None
    record = MlflowRun(
        job_id=job.id,
        experiment_id="1",
        run_id="2",
        status="RUNNING",
        metric_cursor=0,
        params_logged=True,
        artifacts_logged=False,
    )
    problem = "MLflow refuses the name"
    with database.writing() as session:
        session.add(record)
        session.execute(update(JobRow).where(JobRow.id == job.id).values(mlflow_problem=problem))
    with pytest.raises(TimeoutError, match=rf"{job.id} is not complete after 0\.3 s: {problem}"):
        job.wait_for_mlflow(timeout=0.3)
    assert waiting.is_alive()
    with database.writing() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(mlflow_finished=True))
    (complete,) = waiting.all()
    assert complete["mlflow"] == {"run_id": "2", "url": complete["mlflow"]["url"], "complete": True}
    assert job.wait_for_mlflow(timeout=0.3) is job


def test_a_timeout_ends_waiting_while_no_events_arrive(client: Client, proxy: FlakyProxy) -> None:
    job = client.submit(hinge_job())
    with pytest.raises(TimeoutError, match=r"is queued after 0\.3 s"):
        job.wait(timeout=0.3)
    # A stream may be silent for 15 s, so the client polls the service instead.
    assert streams(proxy) == []
    assert len(proxy.seen) < 8


def test_a_service_without_streams_is_polled(settings: Settings, database: Database) -> None:
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


def test_a_client_continues_after_a_restart_of_the_service(settings: Settings, database: Database) -> None:
    with flaky("") as proxy, Client(proxy.url) as client:
        with served(create_app(settings, database=database)) as proxy.upstream:
            job = client.submit(hinge_job())
            training = Training(database, job.id)
            events, waiting = Reader(client.job(job.id).events()), Reader(map(Job.wait, [job]))
            training.move(State.STARTING)
            wait_until(lambda: events.taken and events.taken[-1]["to_state"] == "starting", "the job starts")
        training.move(State.RUNNING)  # while the service is stopped
        before = len(proxy.seen)
        wait_until(lambda: len(proxy.seen) > before + 2, "the client has retried")
        with served(create_app(settings, database=database)) as proxy.upstream:
            training.move(State.SUCCEEDED)
            assert [event["to_state"] for event in events.all() if event["to_state"]] == [
                "queued", "starting", "running", "succeeded"
            ]  # fmt: skip
            assert waiting.all() == [job]
