"""A client that follows a job while connections break, tested with a service in memory."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.client import Client, JobCancelledError, JobFailedError, UnreachableError
from service.client import client as client_module
from service.client import handle as handle_module
from service.client import job as job_module
from service.client import stream as stream_module
from service.client.stream import HEARTBEAT, Message, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
MESSAGES = st.lists(
    st.builds(
        Message,
        id=st.none() | st.integers(1, 10**6).map(str),
        event=LINE.filter(lambda text: text and not text.startswith(" ")),
        data=st.lists(LINE, min_size=1, max_size=3).map("\n".join),
    )
    | st.just(Message(None, HEARTBEAT, "")),
    max_size=6,
)


def encoded(message: Message, end: str = "\n") -> bytes:
    if message.event == HEARTBEAT:
        return f": still here{end}{end}".encode()
    lines = [] if message.id is None else [f"id: {message.id}"]
    lines += [f"event: {message.event}", *(f"data: {line}" for line in message.data.split("\n")), "", ""]
    return end.join(lines).encode()


def parts(content: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(content[:size])
        content = content[size:]
    return [*found, content]


@given(MESSAGES, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 30), max_size=10))
def test_decoding_does_not_depend_on_the_chunks(messages: list[Message], end: str, sizes: list[int]) -> None:
    content = b"".join(encoded(message, end) for message in messages)
    # After a carriage return the decoder needs another byte, because a line feed could follow.
    assert list(decode([*parts(content, sizes), b":" if end == "\r" else b""])) == messages


@given(MESSAGES, st.integers(0, 200))
def test_an_incomplete_message_is_ignored(messages: list[Message], cut: int) -> None:
    whole = [encoded(message) for message in messages]
    ends = [sum(map(len, whole[: count + 1])) for count in range(len(whole))]
    read = list(decode([b"".join(whole)[:cut]]))
    complete = sum(end <= cut for end in ends)
    assert read[:complete] == messages[:complete]
    assert [message for message in read[complete:] if message.event != HEARTBEAT] == []


def test_fields_of_messages() -> None:
    content = b"retry: 5\n\ndata\n\nid: 7\ndata:  two\ndata:lines\nnews\n\nevent: empty\n\n"
    assert list(decode([content])) == [Message(None, "message", ""), Message("7", "message", " two\nlines")]


@dataclass
class Connection:
    """One request for a stream: how many events occur during it, after how many bytes it ends, and how.

    With `ignores_id` the stream starts with the first event, whatever Last-Event-ID the request has.
    """

    events: int = 0
    stream: bool = True
    cut: int | None = None
    error: bool = False
    ignores_id: bool = False


class Body(httpx.SyncByteStream):
    """The body of a response, which ends as its connection specifies."""

    def __init__(self, content: bytes, connection: Connection) -> None:
        self.content, self.connection = content, connection

    def __iter__(self) -> Iterator[bytes]:
        yield self.content[: self.connection.cut]
        if self.connection.error:
            raise httpx.ReadError("the connection broke")


@dataclass
class OneJobService:
    """A service with one job. The first `occurred` of `events` have occurred. `connections` are the next streams."""

    events: list[dict[str, Any]]
    connections: list[Connection] = field(default_factory=list)
    occurred: int = 0
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def state(self) -> str:
        states = [event["to_state"] for event in self.events[: self.occurred] if event["to_state"]]
        return states[-1] if states else "queued"

    @property
    def status(self) -> dict[str, Any]:
        done = {"epoch": 0, "step": self.occurred, "total_steps": len(self.events)}
        return {"state": self.state, "progress": done, "metrics": {"train/loss": 1 / (1 + self.occurred)}}

    def respond(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            self.occurred = min(self.occurred + 1, len(self.events))
            return httpx.Response(200, json={"id": "job_1", "name": "story", "reason": None, "new": 1} | self.status)
        self.requests.append((request.headers["accept"], request.headers.get("last-event-id")))
        if request.headers["accept"] != "text/event-stream":
            after, limit = int(request.url.params["starting_after"]), 2
            page = [event for event in self.events[: self.occurred] if event["id"] > after]
            return httpx.Response(200, json={"data": page[:limit], "has_more": len(page) > limit})
        connection = self.connections.pop(0) if self.connections else Connection(len(self.events))
        if not connection.stream:
            return httpx.Response(503)
        before, self.occurred = self.occurred, min(self.occurred + connection.events, len(self.events))
        after = 0 if connection.ignores_id else int(request.headers.get("last-event-id", 0))
        progress = Message(None, "progress", json.dumps(self.status))
        if self.state == "succeeded" and after >= self.events[-1]["id"]:
            return httpx.Response(204)
        content = encoded(progress) + encoded(Message(None, HEARTBEAT, ""))
        for number, event in enumerate(self.events[: self.occurred]):
            if event["id"] > after:
                content += encoded(Message(str(event["id"]), event["kind"], json.dumps(event)))
            if number >= before:
                content += encoded(progress)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(content, connection))

    def client(self, patch: pytest.MonkeyPatch) -> Client:
        transport = httpx.MockTransport(self.respond)
        patch.setattr(client_module, "http_client", lambda url, *_: httpx.Client(base_url=url, transport=transport))
        patch.setattr(job_module, "POLL_SECONDS", 0)
        patch.setattr(stream_module, "RETRY_SECONDS", 0)
        return Client("http://story")


def event(number: int, to_state: str | None = None) -> dict[str, Any]:
    kind = "state" if to_state else "restarted"
    return {"id": number, "kind": kind, "to_state": to_state, "reason": "because\u2028so"}


@st.composite
def services(draw: st.DrawFn) -> OneJobService:
    ids = sorted(draw(st.sets(st.integers(1, 1000), min_size=1, max_size=15)))
    states = st.sampled_from([None, "starting", "running", "queued"])
    end = draw(st.sampled_from(["succeeded", "failed", "cancelled"]))
    events = [event(number, draw(states)) for number in ids[:-1]] + [event(ids[-1], end)]
    connections = st.builds(
        Connection,
        events=st.integers(0, 3),
        stream=st.booleans(),
        cut=st.none() | st.integers(0, 400),
        error=st.booleans(),
        ignores_id=st.booleans(),
    )
    return OneJobService(
        events, draw(st.lists(connections, max_size=8)), occurred=draw(st.just(0) | st.integers(0, len(ids)))
    )


@settings(max_examples=300)
@given(services(), st.just(0) | st.integers(0, 1000))
def test_no_event_is_lost_or_duplicated_by_broken_connections(service: OneJobService, after: int) -> None:
    with pytest.MonkeyPatch.context() as patch, service.client(patch) as client:
        job = client.job("job_1")
        assert list(job.events(after=after)) == [event for event in service.events if event["id"] > after]
        assert job.state == service.events[-1]["to_state"]


@given(services())
def test_watching_reports_progress_until_the_end(service: OneJobService) -> None:
    with pytest.MonkeyPatch.context() as patch, service.client(patch) as client:
        job = client.job("job_1")
        seen = [(seen.state, seen.progress["step"], seen["new"]) for seen in job.watch()]
    assert seen[-1] == (service.events[-1]["to_state"], len(service.events), 1)
    assert [step for _, step, _ in seen] == sorted(step for _, step, _ in seen)
    assert len(set(seen)) == len(seen), "no state is reported twice"


@pytest.mark.parametrize(("end", "error"), [("failed", JobFailedError), ("cancelled", JobCancelledError)])
def test_waiting_for_a_job_that_does_not_succeed(
    end: str, error: type[JobFailedError | JobCancelledError], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OneJobService([event(1, end)]).client(monkeypatch) as client:
        job = client.job("job_1")
        with pytest.raises(error, match=rf"^job job_1 \(story\) {end}$") as caught:
            job.wait()
        assert caught.value.job is job
        assert job.wait(raise_on_failure=False).state == end


def test_a_broken_stream_is_resumed_after_its_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    service = OneJobService([*[event(number) for number in range(10, 30)], event(30, "succeeded")])
    service.connections = [Connection(events=3, error=True), Connection(events=2), Connection(events=0)]
    with service.client(monkeypatch) as client:
        assert list(client.job("job_1").events()) == service.events
    # Each request for the job, one before the first stream and one after each, lets one more event occur.
    last_ids = [last_id for accept, last_id in service.requests if accept == "text/event-stream"]
    assert last_ids == [None, "14", "17", "18"]


def test_a_service_that_rejects_streams_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    service = OneJobService(
        [event(number) for number in range(1, 9)] + [event(9, "succeeded")], [Connection(stream=False)] * 9
    )
    with service.client(monkeypatch) as client:
        monkeypatch.setattr(stream_module, "RETRY_SECONDS", 60)
        job = client.job("job_1")
        assert list(job.events()) == service.events
        assert job.wait().state == "succeeded"
    assert [accept for accept, _ in service.requests].count("text/event-stream") == 1


def test_a_timeout_ends_waiting_while_the_stream_has_only_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()  # each reading of the clock advances it by 10 ms

    class HeartbeatStream(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b": still here\n\n"

    class Endless(OneJobService):
        def respond(self, request: httpx.Request) -> httpx.Response:
            self.occurred = -1  # the next request for the job increases it to 0: no event occurs
            if request.headers["accept"] == "text/event-stream":
                self.requests.append(("text/event-stream", None))
                return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=HeartbeatStream())
            return super().respond(request)

    service = Endless([event(1), event(2, "succeeded")])
    with service.client(monkeypatch) as client:
        monkeypatch.setattr(job_module, "SILENCE_SECONDS", 0.1)
        clock = SimpleNamespace(monotonic=lambda: next(ticks) / 100, sleep=time.sleep)
        for module in (handle_module, job_module):
            monkeypatch.setattr(module, "time", clock)
        job = client.job("job_1")
        with pytest.raises(TimeoutError, match=r"job job_1 is queued after 0\.3 s"):
            job.wait(timeout=0.3)
    assert 30 < next(ticks) < 40
    assert service.requests


def test_waiting_ends_if_the_service_stays_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return sum(slept)

        sleep = staticmethod(slept.append)

    service = OneJobService([event(1, "succeeded")])
    with service.client(monkeypatch) as client:
        job = client.job("job_1")
        monkeypatch.setattr("service.client.retries.time", Clock)

        def refuse_connection(_request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        monkeypatch.setattr(client._http, "_transport", httpx.MockTransport(refuse_connection))
        with pytest.raises(UnreachableError, match="no service responds at http://story"):
            job.wait()
        assert 50 < sum(slept) <= 60, "retries last as long as the patience, longer than for a single request"
        assert len(slept) > 5
        slept.clear()
        for module in (handle_module, job_module):
            monkeypatch.setattr(module, "time", Clock)
        with pytest.raises(UnreachableError):
            job.wait(timeout=20)
        assert 10 < sum(slept) <= 20
