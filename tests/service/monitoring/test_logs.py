from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import StreamingResponse

from service.stack.app import create_app
from service.telemetry.instruments import REGISTRY
from service.telemetry.logs import JsonFormatter, log_to, request_id
from tests.service.fixtures.support import hinge_job, served, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from service.settings import Settings
    from service.store import Database


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.entries: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.entries.append(json.loads(self.format(record)))


@pytest.fixture
def log() -> Iterator[Lines]:
    lines, service = Lines(), logging.getLogger("service")
    level = service.level
    service.addHandler(lines)
    service.setLevel(logging.INFO)
    yield lines
    service.removeHandler(lines)
    service.setLevel(level)


def counted(route: str, status: int = 200, method: str = "GET", name: str = "requests_total") -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value(f"gradfleet_http_{name}", labels) or 0


def test_a_record_is_a_line_of_json_with_its_job_and_request() -> None:
    record = logging.LogRecord("service.x", logging.WARNING, "x.py", 1, "job %s\nfell", ("a",), None)
    record.job_id, record.attempt = "job_1", 2
    token = request_id.set("req_1")
    try:
        line = JsonFormatter().format(record)
    finally:
        request_id.reset(token)
    assert "\n" not in line
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "WARNING",
        "logger": "service.x",
        "message": "job a\nfell",
        "job_id": "job_1",
        "attempt": 2,
        "request_id": "req_1",
    }


def test_an_exception_is_in_the_line() -> None:
    try:
        int("planted")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info())
    entry = json.loads(JsonFormatter().format(record))
    assert "ValueError: invalid literal" in entry["exception"]
    assert "job_id" not in entry


def test_the_log_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.telemetry.logs.FILE_BYTES", 1000)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    for name in ("alembic.runtime.plugins", "httpx"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    log_to(tmp_path / "gradfleet.log")
    for number in range(100):
        logging.getLogger("service.x").info("line %d", number)
    (handler,) = root.handlers
    handler.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["gradfleet.log", *(f"gradfleet.log.{index}" for index in (1, 2, 3))]
    assert json.loads(files[0].read_text().splitlines()[-1])["message"] == "line 99"
    assert max(file.stat().st_size for file in files) <= 1000


def test_a_response_has_the_id_of_its_request(api: httpx.Client) -> None:
    ids = [api.get("/healthz").headers["x-request-id"] for _ in range(2)]
    assert ids[0].startswith("req_")
    assert ids[0] != ids[1]
    assert api.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    for other in ("two words", "a" * 129, "<b>", ""):
        assert api.get("/healthz", headers={"X-Request-ID": other}).headers["x-request-id"].startswith("req_")
    rejected = api.post("/v1/jobs", content=b"x" * 2_000_000, headers={"X-Request-ID": "large"})
    assert (rejected.status_code, rejected.headers["x-request-id"]) == (413, "large")


@pytest.mark.usefixtures("digits")
def test_requests_are_logged_by_route_without_secrets(api: httpx.Client, log: Lines) -> None:
    log.entries.clear()
    job_id = api.post("/v1/jobs", json=hinge_job(), headers={"Authorization": "Bearer hunter1"}).json()["id"]
    api.post(f"/v1/jobs/{job_id}/cancel?secret=hunter2", headers={"X-Request-ID": "mine"})
    api.get("/v1/jobs/none", headers={"Cookie": "hunter3"})
    api.get("/hunter4")
    wait_until(lambda: len(log.entries) >= 4, "four requests are logged")
    assert [(entry["method"], entry["route"], entry["status"]) for entry in log.entries] == [
        ("POST", "/v1/jobs", 201),
        ("POST", "/v1/jobs/{job_id}/cancel", 422),
        ("GET", "/v1/jobs/{job_id}", 404),
        ("GET", "unmatched", 404),
    ]
    assert log.entries[1]["job_id"] == job_id
    assert log.entries[1]["request_id"] == "mine"
    assert log.entries[1]["duration_ms"] > 0
    assert "hunter" not in json.dumps(log.entries)


def test_requests_are_counted_and_timed_by_route(api: httpx.Client) -> None:
    one_job, other = "/v1/jobs/{job_id}", counted("unmatched", 404, "other")
    before = counted(one_job, 404), counted(one_job, 404, name="request_duration_seconds_count")
    for number in range(3):
        api.get(f"/v1/jobs/job_{number}")
    api.request("PROPFIND", "/nowhere")
    wait_until(lambda: counted("unmatched", 404, "other") == other + 1, "all requests are counted")
    after = counted(one_job, 404), counted(one_job, 404, name="request_duration_seconds_count")
    assert after == (before[0] + 3, before[1] + 3)


def test_a_logged_error_has_the_request_id_of_its_response(settings: Settings, database: Database, log: Lines) -> None:
    app = create_app(settings, database=database)

    @app.get("/broken", include_in_schema=False)
    def broken() -> None:
        raise RuntimeError("planted")

    before = counted("/broken", 500)
    with served(app) as url:
        answer = httpx.get(f"{url}/broken", trust_env=False)
    assert answer.status_code == 500
    failed = next(entry for entry in log.entries if "exception" in entry)
    assert failed["request_id"] == answer.headers["x-request-id"]
    assert "RuntimeError: planted" in failed["exception"]
    assert "planted" not in answer.text
    assert counted("/broken", 500) == before + 1


def test_open_event_streams_are_counted_and_not_timed(settings: Settings, database: Database) -> None:
    app = create_app(settings, database=database)

    @app.get("/stream", include_in_schema=False)
    def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            while True:
                yield ": still here\n\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(events(), media_type="text/event-stream")

    def open_streams() -> float:
        return REGISTRY.get_sample_value("gradfleet_open_event_streams") or 0

    before, answered = open_streams(), counted("/stream")
    with served(app) as url:
        with httpx.stream("GET", f"{url}/stream", trust_env=False) as answer:
            chunks = answer.iter_raw()
            next(chunks)
            assert open_streams() == before + 1
            assert counted("/stream") == answered
        wait_until(lambda: counted("/stream") == answered + 1, "the stream has ended")
    assert open_streams() == before
    assert counted("/stream", name="request_duration_seconds_count") == 0
