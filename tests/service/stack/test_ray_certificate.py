"""Ray's head node with and without the certificate, and clients that do not have it."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray._private.services import GCS_SERVER_EXECUTABLE

from service.stack.ray_certificate import write_certificate
from tests.e2e.stack import wait_until
from tests.fixtures.grpc_client import REQUEST, accepts_grpc, client_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NODE = "ab" * 28
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret" * 6}


@contextmanager
def head_node(directory: Path, variables: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Ray's head node alone, and its port."""
    command = [GCS_SERVER_EXECUTABLE, "--gcs_server_port=0", "--config_list=e30=", "--node-ip-address=127.0.0.1"]
    command += [f"--session-dir={directory}", f"--log_dir={directory}", "--session-name=test", f"--node-id={NODE}"]
    with (
        (directory / "stderr").open("wb") as stderr,
        subprocess.Popen(command, env={**os.environ, **TOKEN, **variables}, stdout=stderr, stderr=stderr) as head,
    ):
        try:
            port = directory / f"gcs_server_port_{NODE}"
            wait_until(lambda: port.exists() and port.read_text().isdecimal(), 60, "the head node listens")
            yield head, int(port.read_text())
        finally:
            head.kill()


def test_without_a_certificate_one_request_without_a_token_ends_the_head_node(tmp_path: Path) -> None:
    """The fault of Ray that makes the certificate necessary. If a new version of Ray passes, the fault is mended."""
    with head_node(tmp_path, {}) as (head, port):
        assert accepts_grpc(port, request=REQUEST)
        assert head.wait(60) != 0


def test_with_a_certificate_the_head_node_receives_no_request_of_a_stranger(tmp_path: Path) -> None:
    variables = write_certificate(tmp_path / "own")
    strangers = [None, client_context(), client_context(write_certificate(tmp_path / "foreign"))]
    with head_node(tmp_path, variables) as (head, port):
        for stranger in strangers:
            assert not accepts_grpc(port, stranger, request=REQUEST)
        assert accepts_grpc(port, client_context(variables))
        assert head.poll() is None
