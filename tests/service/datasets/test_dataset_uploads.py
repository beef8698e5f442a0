"""Datasets that are uploaded or read from an object store."""

from __future__ import annotations

import csv
import gzip
import io
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow.fs as pafs
import pytest

from service.stack.app import create_app
from tests.service.fixtures.support import free_port, served, wait_until, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.settings import Settings
    from service.store import Database


def upload(api: httpx.Client, content: Any, **query: Any) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream"}
    return api.post("/v1/datasets/upload", params={"name": "x", **query}, content=content, headers=headers)


def table() -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["a", "b", "label"])
    writer.writerows([index, index / 2, "xy"[index % 2]] for index in range(100))
    return text.getvalue().encode()


@pytest.fixture
def no_file_remains(settings: Settings) -> Iterator[None]:
    yield
    assert list(settings.dataset_dir.iterdir()) == []


def test_a_file_is_uploaded(api: httpx.Client, settings: Settings) -> None:
    answer = upload(api, table(), filename="table.csv", features=["b", "a"])
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert (dataset["rows"], dataset["features"], dataset["classes"]) == (100, 2, ["x", "y"])
    assert (dataset["source"], dataset["format"], dataset["dtype"]) == ("table.csv", "csv", "float32")
    again = upload(api, gzip.compress(table()), filename="table.csv.gz", features=["b", "a"])
    assert (again.status_code, again.json()) == (200, dataset)
    assert [path.name for path in settings.dataset_dir.iterdir()] == [f"{dataset['digest']}.arrow"]
    assert upload(api, table(), filename="table", format="csv", features="a").json()["version"] == 2


def test_an_uploaded_file_gives_the_same_dataset_as_a_registered_one(api: httpx.Client, settings: Settings) -> None:
    path = settings.allowed_roots[0] / "t.parquet"
    write_parquet(path)
    registered = api.post("/v1/datasets", json={"name": "x", "path": "t.parquet"}).json()
    assert upload(api, path.read_bytes(), filename="t.parquet").json() == registered


def test_an_upload_can_have_shape_and_classes(api: httpx.Client) -> None:
    content = io.BytesIO()
    np.savez(content, x=np.zeros((4, 6), np.uint8), y=[0, 1, 0, 1])
    query = {"filename": "a.npz", "label": "y", "shape": [2, 3], "classes": ["cat", "dog"]}
    dataset = upload(api, content.getvalue(), **query).json()
    assert (dataset["shape"], dataset["classes"]) == ([2, 3, 1], ["cat", "dog"])


@pytest.mark.usefixtures("no_file_remains")
@pytest.mark.parametrize(
    ("content", "query", "field"),
    [
        (b"", {"filename": "t.csv"}, None),
        (b"a,label\n1,x\n2\n", {"filename": "t.csv"}, "body"),
        (b"PAR1", {"filename": "t.parquet"}, "body"),
        (b"text", {}, "body"),
        (b"text", {"filename": ".."}, "filename"),
        (b"text", {"filename": "."}, "filename"),
        (b"text", {"filename": ".hidden.csv"}, "filename"),
        (b"text", {"name": "a/b"}, "name"),
        (b"text", {"shape": "many"}, "shape"),
        (b"text", {"colour": "red"}, "colour"),
    ],
)
def test_invalid_uploads_are_rejected_and_removed(
    api: httpx.Client, settings: Settings, content: bytes, query: dict[str, str], field: str | None
) -> None:
    settings.dataset_dir.mkdir()
    answer = upload(api, content, **query)
    assert answer.status_code == (400 if field is None else 422), answer.text
    assert [error["field"] for error in answer.json().get("errors", [])] == ([field] if field else [])


@pytest.mark.usefixtures("no_file_remains")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_file_above_the_limit(api: httpx.Client, settings: Settings, streamed: bool) -> None:
    settings.dataset_dir.mkdir()
    settings.max_upload_bytes = 1000
    answer = upload(api, (bytes(9999) for _ in range(500)) if streamed else bytes(5_000_000))
    assert answer.status_code == 413
    assert "1000 bytes" in answer.json()["detail"]


@pytest.mark.usefixtures("no_file_remains")
def test_a_decompression_bomb(api: httpx.Client, settings: Settings) -> None:
    settings.dataset_dir.mkdir()
    settings.max_dataset_bytes = 10_000
    answer = upload(api, gzip.compress(table() * 100), filename="t.csv.gz")
    assert answer.status_code == 422
    assert "more than 10000 bytes" in answer.json()["detail"]


@pytest.mark.usefixtures("no_file_remains")
@pytest.mark.parametrize("silent", [False, True])
def test_an_interrupted_upload_is_removed(api: httpx.Client, settings: Settings, silent: bool) -> None:
    settings.dataset_dir.mkdir()
    settings.max_body_seconds = 0.2 if silent else 30
    url = urlsplit(str(api.base_url))
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        lines = [
            "POST /v1/datasets/upload?name=x HTTP/1.1",
            f"Host: {url.netloc}",
            "Content-Type: application/octet-stream",
            "Content-Length: 1000",
            "\r\na,label\n",
        ]
        connection.sendall("\r\n".join(lines).encode())
        wait_until(lambda: any(settings.dataset_dir.iterdir()), "the upload starts")
        if silent:
            assert b" 408 " in connection.recv(1000)
    wait_until(lambda: not any(settings.dataset_dir.iterdir()), "the partial file is removed")


def raw_upload(api: httpx.Client) -> socket.socket:
    """A connection on which an upload has begun."""
    connection = socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=20)
    head = "POST /v1/datasets/upload?name=x&filename=x.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    connection.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\na".encode())
    return connection


@pytest.mark.usefixtures("no_file_remains")
@pytest.mark.parametrize(("total", "period"), [(0.3, 30), (3600, 0.2)])
def test_a_slow_upload_is_refused(settings: Settings, database: Database, total: float, period: float) -> None:
    settings.max_upload_seconds, settings.max_body_seconds = total, period
    app = create_app(settings, database=database)
    with served(app) as url, httpx.Client(base_url=url) as api, raw_upload(api) as connection:
        connection.settimeout(0.02)
        answer = b""
        while not answer:  # received bytes do not extend the time limits
            connection.sendall(b"1")
            with suppress(TimeoutError):
                answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too slowly" in answer


def test_the_number_of_uploads_is_limited(settings: Settings, database: Database) -> None:
    settings.max_uploads = 2
    app = create_app(settings, database=database)
    with served(app) as url, httpx.Client(base_url=url, timeout=20) as api:
        with raw_upload(api), raw_upload(api):
            wait_until(lambda: app.state.uploads._free == 0, "both uploads have begun")
            refused = upload(api, b"a,label\n1,0\n", name="y", filename="y.csv")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert "2 files" in refused.json()["detail"]
            assert api.get("/v1/datasets").status_code == 200
        wait_until(lambda: app.state.uploads._free == 2, "the uploads have ended")
        assert upload(api, b"a,label\n1,0\n2,1\n", name="y", filename="y.csv").status_code == 201


def test_a_large_upload_is_written_to_disk_and_does_not_block_others(api: httpx.Client, settings: Settings) -> None:
    """During an upload the service responds to others and writes the received bytes to the disk."""
    arrived, proceed = threading.Event(), threading.Event()

    def content() -> Iterator[bytes]:
        yield b"a,label\n" + b"1,x\n2,y\n" * 500_000
        arrived.set()
        proceed.wait(10)
        yield b"3,x\n"

    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(upload(api, content(), filename="t.csv")))
    thread.start()
    assert arrived.wait(10)
    with httpx.Client(base_url=api.base_url) as other:
        assert other.get("/v1/datasets").json() == {"data": []}
    wait_until(
        lambda: sum(path.stat().st_size for path in settings.dataset_dir.rglob("*.csv")) > 3_000_000,
        "the received bytes are on the disk",
    )
    proceed.set()
    thread.join()
    assert answers[0].json()["rows"] == 1_000_001


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[pafs.FileSystem]:
    """An S3 object store with the buckets "data" and "secret"."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)

    def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_listening, "the store accepts connections", timeout=60)
        store = pafs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
        for bucket in ("data", "secret"):
            store.create_dir(bucket)
        yield store
    finally:
        server.kill()
        server.wait()


def put(store: pafs.FileSystem, path: str, content: bytes) -> None:
    with store.open_output_stream(path) as stream:
        stream.write(content)


def test_files_in_an_object_store(
    api: httpx.Client, settings: Settings, store: pafs.FileSystem, tmp_path: Path
) -> None:
    settings.allowed_uris = ["s3://data/tables"]
    write_parquet(tmp_path / "t.parquet")
    for name in ("one.parquet", "folder/0.parquet", "folder/deep/1.parquet"):
        put(store, f"data/tables/{name}", (tmp_path / "t.parquet").read_bytes())
    put(store, "data/tablesX/t.parquet", b"")
    put(store, "data/tables/cut.parquet", (tmp_path / "t.parquet").read_bytes()[:500])

    def register(path: str) -> httpx.Response:
        return api.post("/v1/datasets", json={"name": "x", "path": path})

    one = register("s3://data/tables/one.parquet")
    assert one.status_code == 201, one.text
    assert (one.json()["rows"], one.json()["source"]) == (300, "s3://data/tables/one.parquet")
    folder = register("s3://data/tables/folder")
    assert (folder.json()["rows"], folder.json()["version"]) == (600, 2)
    before = sorted(settings.dataset_dir.iterdir())
    for path, words in (
        ("s3://data/tables/missing.parquet", "nothing at s3://data/tables/missing.parquet"),
        ("s3://data/tables/cut.parquet", "cut.parquet cannot be read as a Parquet file"),
        ("s3://secret/t.parquet", "begin with s3://data/tables"),
        ("s3://data/tablesX/t.parquet", "begin with"),
        ("s3://data/tables/../tablesX/t.parquet", "begin with"),
        ("s3://data/tables/one.parquet?endpoint_override=evil", "begin with"),
        ("s3://user:word@data/tables/one.parquet", "begin with"),
        ("s3://data/tables/%2e%2e/one.parquet", "begin with"),
        ("http://data/tables/one.parquet", "begin with"),
        ("file:///etc/passwd", "begin with"),
    ):
        answer = register(path)
        assert answer.status_code == 422, path
        assert words in answer.json()["detail"], path
    settings.max_dataset_bytes = 1000
    assert "the limit for one dataset is 1000" in register("s3://data/tables/one.parquet").json()["detail"]
    assert sorted(settings.dataset_dir.iterdir()) == before


def test_no_uri_is_allowed_by_default(api: httpx.Client) -> None:
    for path in ("s3://data/t.parquet", "gs://data/t.parquet", "S3://data/t.parquet"):
        answer = api.post("/v1/datasets", json={"name": "x", "path": path})
        assert answer.status_code == 422
        assert "none (its setting allowed_uris)" in answer.json()["detail"]
