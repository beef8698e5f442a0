from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from typer.testing import CliRunner

from service.cli.main import app as command_line
from service.jobs.metrics import Point, record_points
from service.jobs.repository import move, record_progress, start_attempt
from service.jobs.schemas import HINGE_JOB
from service.jobs.states import State
from service.store import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result
    from fastapi import FastAPI

    from service.store import Database

ROWS, FEATURES, CLASSES = 300, 8, 10


def hinge_job(**changes: Any) -> dict[str, Any]:
    """The design's example job with dotted fields changed: hinge_job(**{"training.epochs": 3})."""
    job = json.loads(json.dumps(HINGE_JOB))
    for field, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
        target = job
        for parent in parents:
            target = target[parent]
        target[last] = value
    return job


def write_parquet(path: Path, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"x{index}": random.normal(size=ROWS) for index in range(FEATURES)}
    columns["label"] = np.arange(ROWS) % CLASSES
    pq.write_table(pa.table(columns), path)


@cache
def sqlite_template() -> bytes:
    """A file with the tables of the newest schema: a copy of it is made in a moment."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "template.db")
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


def run(url: str, *arguments: str) -> Result:
    """A command of the command line, about the service at the URL."""
    return CliRunner().invoke(command_line, [*arguments, "--url", url])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application behind a real server; gives its URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=free_port(), log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    url = f"http://127.0.0.1:{server.config.port}"
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        yield url
    finally:
        app.state.services.streams.close()
        server.should_exit = True
        thread.join()


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 20) -> Any:
    """The condition's first true value; fails after `timeout` seconds, saying what was waited for."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.002)
    return value


def train(database: Database, job_id: str, end: State | None, reason: str | None = None) -> None:
    """What a scheduler would write about a job of 20 epochs; without an end it still runs."""
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING)
        record_points(session, job_id, attempt, [Point("train/loss", 20, 0.25, 1), Point("val/accuracy", 20, 0.5, 1)])
        record_progress(session, job_id, attempt, epoch=20, step=20)
        if end is not None:
            move(session, job_id, from_=State.RUNNING, to=end, reason=reason)
