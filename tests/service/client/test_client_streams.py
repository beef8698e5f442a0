"""A client's view of a job that goes on while connections break, against a service in memory."""

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


def pieces(content: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(content[:size])
        content = content[size:]
    return [*found, content]


@given(MESSAGES, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 30), max_size=10))
def test_a_stream_is_read_alike_however_it_is_cut_in_pieces(
    messages: list[Message], end: str, sizes: list[int]
) -> None:
    content = b"".join(encoded(message, end) for message in messages)
    # A lone carriage return could be half of a line's end until something follows.
    assert list(decode([*pieces(content, sizes), b":" if end == "\r" else b""])) == messages


@given(MESSAGES, st.integers(0, 200))
def test_a_message_that_is_cut_off_is_none(messages: list[Message], cut: int) -> None:
    whole = [encoded(message) for message in messages]
    ends = [sum(map(len, whole[: count + 1])) for count in range(len(whole))]
    read = list(decode([b"".join(whole)[:cut]]))
    complete = sum(end <= cut for end in ends)
    assert read[:complete] == messages[:complete]
    assert [message for message in read[complete:] if message.event != HEARTBEAT] == []


def test_data_of_several_kinds() -> None:
    content = b"retry: 5\n\ndata\n\nid: 7\ndata:  two\ndata:lines\nnews\n\nevent: empty\n\n"
    assert list(decode([content])) == [Message(None, "message", ""), Message("7", "message", " two\nlines")]


@dataclass
class Visit:
    """What becomes of one stream: how much happens in it, after how many bytes it ends, and how.

    `forgetful` is one that begins at the beginning, whatever it was asked for.
    """

    events: int = 0
    stream: bool = True
    cut: int | None = None
    error: bool = False
    forgetful: bool = False


class Body(httpx.SyncByteStream):
    """The body of an answer, with what becomes of it."""

    def __init__(self, content: bytes, visit: Visit) -> None:
        self.content, self.visit = content, visit

    def __iter__(self) -> Iterator[bytes]:
        yield self.content[: self.visit.cut]
        if self.visit.error:
            raise httpx.ReadError("the connection broke")


@dataclass
class Story:
    """A service with one job, that is told by its events; each connection goes as the next of `visits` says."""

    events: list[dict[str, Any]]
    visits: list[Visit] = field(default_factory=list)
    told: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def state(self) -> str:
        states = [event["to_state"] for event in self.events[: self.told] if event["to_state"]]
        return states[-1] if states else "queued"

    @property
    def news(self) -> dict[str, Any]:
        done = {"epoch": 0, "step": self.told, "total_steps": len(self.events)}
        return {"state": self.state, "progress": done, "metrics": {"train/loss": 1 / (1 + self.told)}}

    def answer(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            self.told = min(self.told + 1, len(self.events))
            return httpx.Response(200, json={"id": "job_1", "name": "story", "reason": None, "new": 1} | self.news)
        self.asked.append((request.headers["accept"], request.headers.get("last-event-id")))
        if request.headers["accept"] != "text/event-stream":
            after, limit = int(request.url.params["starting_after"]), 2
            page = [event for event in self.events[: self.told] if event["id"] > after]
            return httpx.Response(200, json={"data": page[:limit], "has_more": len(page) > limit})
        visit = self.visits.pop(0) if self.visits else Visit(len(self.events))
        if not visit.stream:
            return httpx.Response(503)
        before, self.told = self.told, min(self.told + visit.events, len(self.events))
        after = 0 if visit.forgetful else int(request.headers.get("last-event-id", 0))
        news = Message(None, "progress", json.dumps(self.news))
        if self.state == "succeeded" and after >= self.events[-1]["id"]:
            return httpx.Response(204)
        content = encoded(news) + encoded(Message(None, HEARTBEAT, ""))
        for number, event in enumerate(self.events[: self.told]):
            if event["id"] > after:
                content += encoded(Message(str(event["id"]), event["kind"], json.dumps(event)))
            if number >= before:
                content += encoded(news)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(content, visit))

    def client(self, patch: pytest.MonkeyPatch) -> Client:
        transport = httpx.MockTransport(self.answer)
        patch.setattr(client_module, "http_client", lambda url, *_: httpx.Client(base_url=url, transport=transport))
        patch.setattr(job_module, "POLL_SECONDS", 0)
        patch.setattr(stream_module, "RETRY_SECONDS", 0)
        return Client("http://story")


def event(number: int, to_state: str | None = None) -> dict[str, Any]:
    kind = "state" if to_state else "restarted"
    return {"id": number, "kind": kind, "to_state": to_state, "reason": "because\u2028so"}


@st.composite
def stories(draw: st.DrawFn) -> Story:
    ids = sorted(draw(st.sets(st.integers(1, 1000), min_size=1, max_size=15)))
    states = st.sampled_from([None, "starting", "running", "queued"])
    end = draw(st.sampled_from(["succeeded", "failed", "cancelled"]))
    events = [event(number, draw(states)) for number in ids[:-1]] + [event(ids[-1], end)]
    visits = st.builds(
        Visit,
        events=st.integers(0, 3),
        stream=st.booleans(),
        cut=st.none() | st.integers(0, 400),
        error=st.booleans(),
        forgetful=st.booleans(),
    )
    return Story(events, draw(st.lists(visits, max_size=8)), told=draw(st.just(0) | st.integers(0, len(ids))))


@settings(max_examples=300)
@given(stories(), st.just(0) | st.integers(0, 1000))
def test_no_event_is_lost_or_doubled_however_often_the_connection_breaks(story: Story, after: int) -> None:
    with pytest.MonkeyPatch.context() as patch, story.client(patch) as client:
        job = client.job("job_1")
        assert list(job.events(after=after)) == [event for event in story.events if event["id"] > after]
        assert job.state == story.events[-1]["to_state"]


@given(stories())
def test_watching_sees_the_job_come_along_to_its_end(story: Story) -> None:
    with pytest.MonkeyPatch.context() as patch, story.client(patch) as client:
        job = client.job("job_1")
        seen = [(seen.state, seen.progress["step"], seen["new"]) for seen in job.watch()]
    assert seen[-1] == (story.events[-1]["to_state"], len(story.events), 1)
    assert [step for _, step, _ in seen] == sorted(step for _, step, _ in seen)
    assert len(set(seen)) == len(seen), "nothing is shown twice"


@pytest.mark.parametrize(("end", "error"), [("failed", JobFailedError), ("cancelled", JobCancelledError)])
def test_waiting_for_a_job_that_does_not_succeed(
    end: str, error: type[JobFailedError | JobCancelledError], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Story([event(1, end)]).client(monkeypatch) as client:
        job = client.job("job_1")
        with pytest.raises(error, match=rf"^job job_1 \(story\) {end}$") as caught:
            job.wait()
        assert caught.value.job is job
        assert job.wait(raise_on_failure=False).state == end


def test_a_stream_is_taken_up_where_it_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story([*[event(number) for number in range(10, 30)], event(30, "succeeded")])
    story.visits = [Visit(events=3, error=True), Visit(events=2), Visit(events=0)]
    with story.client(monkeypatch) as client:
        assert list(client.job("job_1").events()) == story.events
    # Each look at the job, one before the first stream and one after each, makes one more event happen.
    assert [last_id for accept, last_id in story.asked if accept == "text/event-stream"] == [None, "14", "17", "18"]


def test_a_service_that_rejects_streams_is_not_asked_for_one_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story([event(number) for number in range(1, 9)] + [event(9, "succeeded")], [Visit(stream=False)] * 9)
    with story.client(monkeypatch) as client:
        monkeypatch.setattr(stream_module, "RETRY_SECONDS", 60)
        job = client.job("job_1")
        assert list(job.events()) == story.events
        assert job.wait().state == "succeeded"
    assert [accept for accept, _ in story.asked].count("text/event-stream") == 1


def test_a_timeout_is_kept_while_the_stream_tells_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count()  # at the clock, on which 10 ms go by from one to the next

    class Silence(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b": still here\n\n"

    class Endless(Story):
        def answer(self, request: httpx.Request) -> httpx.Response:
            self.told = -1  # the next look makes it 0: nothing happens
            if request.headers["accept"] == "text/event-stream":
                self.asked.append(("text/event-stream", None))
                return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Silence())
            return super().answer(request)

    story = Endless([event(1), event(2, "succeeded")])
    with story.client(monkeypatch) as client:
        monkeypatch.setattr(job_module, "SILENCE_SECONDS", 0.1)
        monkeypatch.setattr(job_module, "time", SimpleNamespace(monotonic=lambda: next(looks) / 100, sleep=time.sleep))
        job = client.job("job_1")
        with pytest.raises(TimeoutError, match=r"job job_1 is queued after 0\.3 s"):
            job.wait(timeout=0.3)
    assert 30 < next(looks) < 40
    assert story.asked


def test_a_service_that_is_away_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return sum(slept)

        sleep = staticmethod(slept.append)

    story = Story([event(1, "succeeded")])
    with story.client(monkeypatch) as client:
        job = client.job("job_1")
        monkeypatch.setattr("service.client.retries.time", Clock)

        def away(_request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        monkeypatch.setattr(client._http, "_transport", httpx.MockTransport(away))
        with pytest.raises(UnreachableError, match="nothing answers at http://story"):
            job.wait()
        assert 50 < sum(slept) <= 60, "for as long as the patience lasts, and more often than a single call"
        assert len(slept) > 5
        slept.clear()
        monkeypatch.setattr(job_module, "time", Clock)
        with pytest.raises(UnreachableError):
            job.wait(timeout=20)
        assert 10 < sum(slept) <= 20
