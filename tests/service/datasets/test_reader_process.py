"""Files are read in a process with limits, without secrets, which ends with its request or with the service."""

from __future__ import annotations

import errno
import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pytest

from service.datasets.runners import REGISTRATIONS_AT_ONCE
from service.datasets.tasks.runner import result_of
from service.datasets.tasks.serving import answer_of
from tests.service.fixtures.support import wait_until
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from service.settings import Settings

TABLE = b"a,label\n1,x\n2,y\n"


@pytest.fixture
def endless(uploads: Path) -> str:
    """Name of a file that takes hours to read: Python's gzip skips the zeros after the content one by one."""
    with (uploads / "endless.csv.gz").open("wb") as file:
        file.write(gzip.compress(TABLE))
        file.truncate(2**40)
    return "endless.csv.gz"


def register(api: httpx.Client, path: str, **form: Any) -> httpx.Response:
    return api.post("/v1/datasets", json={"name": "x", "path": path, **form}, timeout=60)


def reading() -> list[int]:
    """Ids of the processes of tasks that this process has started."""
    children = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for child in children for pid in child.read_text().split()]
    return [pid for pid in pids if b"service.datasets.tasks" in Path(f"/proc/{pid}/cmdline").read_bytes()]


class Registering:
    """A registration that a thread sends."""

    def __init__(self, api: httpx.Client, path: str) -> None:
        self.answers: list[httpx.Response] = []
        self._thread = threading.Thread(target=lambda: self.answers.append(register(api, path)))

    def __enter__(self) -> int:
        self._thread.start()
        wait_until(reading, "the process has started")
        (pid,) = reading()
        return pid

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def nothing_remains(settings: Settings) -> Iterator[None]:
    yield
    wait_until(lambda: not reading(), "the process has ended")
    wait_until(lambda: not any(settings.dataset_dir.iterdir()), "its files are removed")


def test_the_process_has_no_secrets(
    api: httpx.Client, endless: str, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("AWS_SECRET_ACCESS_KEY", "GRADFLEET_DATABASE_URL", "GRADFLEET_ADMIN_TOKEN", "RAY_AUTH_TOKEN", "OTHER")
    for name in secrets:
        monkeypatch.setenv(name, f"secret-{name}")
    registering = Registering(api, endless)
    with registering as pid:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PYTHONSAFEPATH=1" in environment
        assert b"secret" not in environment
        assert b"RAY_AUTH" not in environment
        descriptors = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [target for target in descriptors if "gradfleet.db" in target or target.startswith("socket:")]
        app.state.runners.close()
    assert registering.answers[0].status_code == 503


@pytest.mark.usefixtures("nothing_remains")
def test_a_registration_that_takes_too_long(api: httpx.Client, settings: Settings, endless: str) -> None:
    settings.max_registration_seconds = 1
    answer = register(api, endless)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "path"
    assert error["message"].startswith("endless.csv.gz takes more than 1 seconds")
    assert "max_registration_seconds" in error["message"]


@pytest.mark.usefixtures("nothing_remains")
def test_a_batch_that_unpacks_to_more_memory_than_the_limit(
    api: httpx.Client, settings: Settings, uploads: Path
) -> None:
    zeros = pa.array(np.zeros(40 * 2**20))
    batch = pa.record_batch({"a": zeros, "label": zeros})
    with pa.ipc.new_file(
        str(uploads / "t.arrow"), batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as f:
        f.write_batch(batch)
    assert (uploads / "t.arrow").stat().st_size < 2**21
    settings.max_registration_memory_bytes = 512 * 2**20
    answer = register(api, "t.arrow")
    assert answer.status_code == 422
    assert "t.arrow needs more than 536870912 bytes of memory" in answer.json()["detail"]
    assert "max_registration_memory_bytes" in answer.json()["detail"]


@pytest.mark.usefixtures("nothing_remains")
@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGSEGV, "it is damaged"), (signal.SIGKILL, "bytes of memory"), (signal.SIGABRT, "bytes of memory")],
)
def test_a_process_that_is_killed(api: httpx.Client, endless: str, number: signal.Signals, words: str) -> None:
    registering = Registering(api, endless)
    with registering as pid:
        os.kill(pid, number)
    (answer,) = registering.answers
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


@pytest.mark.usefixtures("nothing_remains", "endless")
def test_a_registration_ends_when_its_client_leaves(api: httpx.Client, settings: Settings) -> None:
    url = urlsplit(str(api.base_url))
    body = b'{"name": "x", "path": "endless.csv.gz"}'
    head = f"POST /v1/datasets HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    for _ in range(REGISTRATIONS_AT_ONCE + 1):  # each leaves room for the next
        with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
            connection.sendall(head.encode() + f"{len(body)}\r\n\r\n".encode() + body)
            wait_until(reading, "the process has started")
        wait_until(lambda: not reading(), "the process has ended")
    wait_until(lambda: not any(settings.dataset_dir.iterdir()), "the files are removed")
    (settings.allowed_roots[0] / "t.csv").write_bytes(TABLE)
    assert register(api, "t.csv").status_code == 201
    (settings.dataset_dir / f"{api.get('/v1/datasets/x').json()['digest']}.arrow").unlink()


@pytest.mark.usefixtures("nothing_remains")
def test_a_service_that_stops_does_not_wait_for_a_registration(api: httpx.Client, app: FastAPI, endless: str) -> None:
    registering = Registering(api, endless)
    with registering:
        app.state.runners.close()
    assert (registering.answers[0].status_code, registering.answers[0].headers["retry-after"]) == (503, "5")
    assert register(api, endless).status_code == 503


# A service that is killed while it registers a file.
KILLED = """
import sys
from service.datasets.tasks.runner import TaskRunner
from service.settings import Settings
root, work = sys.argv[1:]
places = {"path": {"roots": [root], "path": "endless.csv.gz"}}
arguments = {"places": places, "selection": {}, "workspace": work, "directory": work, "max_bytes": 2**30}
TaskRunner(Settings()).run("prepare", "x", arguments)
"""


@pytest.mark.usefixtures("endless")
def test_the_process_ends_when_the_service_is_killed(uploads: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(uploads), str(tmp_path)]
    with subprocess.Popen(command) as service:
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children")
        (pid,) = wait_until(lambda: children.read_text().split(), "the process has started")
        wait_until(lambda: any(tmp_path.glob("unpacked-*")), "it reads the file")
        service.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the process has ended")


def fail(error: Exception) -> Any:
    def task() -> None:
        raise error

    return answer_of(task, {"what": "t.csv", "arguments": {}})


def test_an_unexpected_error_of_a_parser_names_the_file_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DatasetError) as caught:
        result_of(fail(IndexError("x" * 10_000)), "t.csv")
    assert str(caught.value).startswith("t.csv cannot be read: it is damaged (IndexError: xxx")
    assert len(str(caught.value)) < 1100
    (record,) = caplog.records
    assert "Traceback" in record.getMessage()
    assert "in task" in record.getMessage()


def test_a_full_disk_is_not_an_error_of_the_file() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        result_of(fail(OSError(errno.ENOSPC, "")), "t.csv")
    assert caught.value.errno == errno.ENOSPC


def test_the_answer_of_a_preview_is_bounded(api: httpx.Client, uploads: Path) -> None:
    np.savez(uploads / "wide.npz", x=np.full((5, 120_000), 200, np.uint8), label=np.arange(5) % 2)
    np.savez(uploads / "some.npz", x=np.full((100, 3_000), 200, np.uint8), label=np.arange(100) % 2)
    for name, rows, width in (("wide", 1, 100_000), ("some", 33, 3_000)):
        answer = api.post("/v1/datasets", json={"name": name, "path": f"{name}.npz"}, timeout=60)
        assert answer.status_code == 201
        shown = api.get(f"/v1/datasets/{name}/preview?rows=100", timeout=60)
        assert [len(row["features"]) for row in shown.json()["rows"]] == [width] * rows
        assert len(shown.content) < 2**21
    assert api.get("/v1/datasets/wide").json()["statistics"] is None
    assert len(api.get("/v1/datasets/some").json()["statistics"]["mean"]) == 3_000


def test_the_answer_of_a_contact_sheet_is_bounded(api: httpx.Client, uploads: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 600 * 500), np.uint8)
    np.savez(uploads / "t.npz", x=pixels, label=np.arange(40) // 2)
    assert register(api, "t.npz", shape=[600, 500]).status_code == 201
    assert len(api.get("/v1/datasets/x/contact-sheet", timeout=60).content) < 2**21
