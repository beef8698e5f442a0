"""The number of concurrent registrations is limited. Further ones are rejected, but a started upload waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.datasets.runners import REGISTRATIONS_AT_ONCE
from service.datasets.tasks.runner import TaskRunner
from tests.service.fixtures.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.settings import Settings

TABLE = b"a,label\n1,x\n2,y\n"


class Gate:
    """Blocks every registration until `open` is set, and counts the blocked ones."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = threading.Event()


def run_behind(gate: Gate) -> Callable[..., Any]:
    run = TaskRunner.run

    def wait_and_run(runner: TaskRunner, *arguments: Any) -> Any:
        gate.waiting += 1
        assert gate.open.wait(30)
        return run(runner, *arguments)

    return wait_and_run


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(TaskRunner, "run", run_behind(gate))
    yield gate
    gate.open.set()


def test_too_many_concurrent_registrations(api: httpx.Client, settings: Settings, gate: Gate) -> None:
    (settings.allowed_roots[0] / "t.csv").write_bytes(TABLE)
    last_byte = threading.Event()

    def content() -> Iterator[bytes]:
        yield TABLE[:-1]
        assert last_byte.wait(30)
        yield TABLE[-1:]

    def sent_bytes() -> int:
        return sum(file.stat().st_size for file in settings.dataset_dir.rglob("t.csv"))

    def register(name: str) -> httpx.Response:
        return api.post("/v1/datasets", json={"name": name, "path": "t.csv"})

    def upload(name: str, file: Any) -> httpx.Response:
        query = {"name": name, "filename": "t.csv"}
        head = {"Content-Type": "application/octet-stream"}
        return api.post("/v1/datasets/upload", params=query, content=file, headers=head)

    with ThreadPoolExecutor() as pool:
        try:
            sent = pool.submit(upload, "sent", content())
            wait_until(lambda: any(settings.dataset_dir.rglob("t.csv")), "the upload starts")
            working = [pool.submit(register, f"d{number}") for number in range(REGISTRATIONS_AT_ONCE)]
            wait_until(lambda: gate.waiting == REGISTRATIONS_AT_ONCE, "the largest number of registrations is running")
            last_byte.set()
            wait_until(lambda: sent_bytes() == len(TABLE), "the whole file is received")
            for rejected in (register("more"), upload("more", TABLE)):
                assert (rejected.status_code, rejected.headers["Retry-After"]) == (503, "5")
                assert f"{REGISTRATIONS_AT_ONCE} datasets are being registered" in rejected.json()["detail"]
            assert api.get("/v1/datasets").json() == {"data": []}
            assert gate.waiting == REGISTRATIONS_AT_ONCE
        finally:
            last_byte.set()
            gate.open.set()
        assert [answer.result().status_code for answer in [*working, sent]] == [201] * (REGISTRATIONS_AT_ONCE + 1)
    assert register("more").status_code == 201
    assert list(settings.dataset_dir.glob(".preparing-*")) == []


def test_a_rejected_registration_is_no_longer_counted(api: httpx.Client) -> None:
    for _ in range(REGISTRATIONS_AT_ONCE + 1):
        assert api.post("/v1/datasets", json={"name": "x", "path": "missing.csv"}).status_code == 422
