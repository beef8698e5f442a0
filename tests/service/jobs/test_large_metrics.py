"""The metrics of long jobs are read and written in pages, a few at a time, without a connection in between."""

from __future__ import annotations

import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pytest

from service.http.connections import Connections
from service.jobs.repository import create_job, move, start_attempt
from service.jobs.series import formats, stored
from service.jobs.series.formats import ARROW
from service.jobs.series.points import Point
from service.jobs.states import State
from service.stack.app import create_app
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job, served, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.settings import Settings
    from service.store import Database

STEPS = 50
VALUES = [math.nan if step % 9 == 0 else 1 / step for step in range(1, STEPS + 1)]


@pytest.fixture(params=["sqlite"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """`test_metrics_api.py` reads from both databases."""
    return str(request.param)


@pytest.fixture
def path(database: Database) -> str:
    """Path of the metrics of a job with two series of 50 points, and one of one point."""
    with database.writing() as session:
        job, _ = create_job(session, spec=hinge_job(), dataset={"digest": "00"}, total_steps=STEPS, body_sha256="b")
        attempt = start_attempt(session, job.id, "supervisor")
        move(session, job.id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        points = [Point(name, step, value, 0) for name in ("a", "c") for step, value in enumerate(VALUES, 1)]
        assert record_points(session, job.id, attempt, [*points, Point("b", 1, 0.5, 0)])
        return f"/v1/jobs/{job.id}/metrics"


@pytest.mark.parametrize("page", [1, 7, STEPS, STEPS + 1])
def test_pages_together_are_the_whole(
    api: httpx.Client, database: Database, path: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, used = [], []
    listed = formats._listed

    def watched(column: Any) -> str:
        sizes.append(len(column))
        used.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return listed(column)

    monkeypatch.setattr(stored, "PAGE", page)
    monkeypatch.setattr(formats, "_listed", watched)
    series = {"steps": list(range(1, STEPS + 1)), "values": [None if math.isnan(value) else value for value in VALUES]}
    assert api.get(path).json() == {"data": {"a": series, "b": {"steps": [1], "values": [0.5]}, "c": series}}
    assert max(sizes) == min(page, STEPS)
    assert set(used) == {0}, "no connection is held while points are formatted"
    ranged = api.get(path, params={"name": ["b", "c"], "from_step": 2, "to_step": 20}).json()["data"]
    assert ranged == {"c": {"steps": series["steps"][1:20], "values": series["values"][1:20]}}
    rows = [("a", step, value) for step, value in enumerate(VALUES, 1)] + [("b", 1, 0.5)]
    rows += [("c", step, value) for step, value in enumerate(VALUES, 1)]
    text = "".join(f"{step},{name},{value!r}\n" for name, step, value in rows)
    assert api.get(path, headers={"Accept": "text/csv"}).text == f"step,name,value\n{text}"
    table = pa.ipc.open_stream(api.get(path, headers={"Accept": ARROW}).content).read_all()
    assert str([tuple(row.values()) for row in table.to_pylist()]) == str(rows)


class Gate:
    """Blocks the pages of series until `open` is set, and counts them."""

    def __init__(self) -> None:
        self.pages = 0
        self.open = threading.Event()
        self._read = stored.StoredSeries._pages

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def pages(series: stored.StoredSeries, name: str) -> Iterator[stored.Page]:
            for page in self._read(series, name):
                self.pages += 1
                assert self.open.wait(30)
                yield page

        monkeypatch.setattr(stored.StoredSeries, "_pages", pages)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    gate.install(monkeypatch)
    yield gate
    gate.open.set()


def test_few_are_computed_at_a_time(
    api: httpx.Client, database: Database, path: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.room.WAIT", 0.05)
    with ThreadPoolExecutor() as pool:
        try:
            working = [pool.submit(api.get, path) for _ in range(2)]
            wait_until(lambda: gate.pages == 2, "two requests are served")
            refused = [api.get(path) for _ in range(20)]
            assert {(answer.status_code, answer.headers["Retry-After"]) for answer in refused} == {(503, "5")}
            assert "already computes 2 responses with metrics" in refused[0].json()["detail"]
            assert gate.pages == 2
            assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            assert api.get("/v1/jobs").status_code == 200, "other requests are served meanwhile"
        finally:
            gate.open.set()
        assert [answer.result().status_code for answer in working] == [200, 200]
    assert api.get(path).status_code == 200


def test_the_work_ends_when_the_client_disconnects(
    settings: Settings, database: Database, path: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PAGE", 1)
    monkeypatch.setattr("service.http.room.PIECE_BYTES", 1)
    connections = Connections(10)
    app = create_app(settings, database=database)
    with served(app, connections) as url:
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            wait_until(lambda: gate.pages == 1, "the first page is read")
        wait_until(lambda: not connections._open, "the server knows that the client has left")
        gate.open.set()
        room = app.state.rooms.metrics
        wait_until(lambda: room._places._value == room.most, "the place is free")
        assert gate.pages <= 2, "of more than 200"


def test_the_leader_has_connections_of_its_own(database: Database) -> None:
    own = database.beside()
    held = []
    try:
        pool: Any = database.engine.pool
        held = [database.engine.connect() for _ in range(pool.size() + pool._max_overflow)]
        with own.reading() as session:
            assert session.connection().exec_driver_sql("SELECT 1").scalar() == 1
        assert own.name == database.name, "PostgreSQL shows the same process"
    finally:
        for connection in held:
            connection.close()
        own.close()
