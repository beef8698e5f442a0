"""Ray's head node with and without a certificate, and clients with and without one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName, load_pem_x509_certificate
from ray._private.services import GCS_SERVER_EXECUTABLE
from ray.util import get_node_ip_address

from service.stack.ray_certificate import write_certificate
from tests.e2e.stack import wait_until
from tests.fixtures.grpc_client import ACKNOWLEDGED, REQUEST, SETTINGS, accepts_grpc, client_context, frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
    variables = write_certificate(tmp_path / "own", "one secret")
    strangers = [None, client_context(), client_context(write_certificate(tmp_path / "foreign", "another"))]
    with head_node(tmp_path, variables) as (head, port):
        for stranger in strangers:
            assert not accepts_grpc(port, stranger, request=REQUEST)
        assert accepts_grpc(port, client_context(variables))
        assert head.poll() is None


def test_nodes_with_the_same_secret_accept_each_other(tmp_path: Path) -> None:
    """Each node of a cluster in containers writes its own certificate, with the names at which it is reached."""
    command = [sys.executable, "-m", "service.stack.ray_certificate", "env"]
    environment = os.environ | {"HOME": str(tmp_path), "RAY_HEAD": "head-node:6379", "RAY_AUTH_TOKEN": "the secret"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    node = dict(line.split("=", 1) for line in done.stdout.splitlines())
    certificate = load_pem_x509_certificate(Path(node["RAY_TLS_SERVER_CERT"]).read_bytes())
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    assert names.get_values_for_type(DNSName) == ["head-node"]
    addresses = names.get_values_for_type(IPAddress)
    assert {ip_address("127.0.0.1"), ip_address(get_node_ip_address())} == set(addresses)
    assert Path(node["RAY_TLS_SERVER_KEY"]).parent.stat().st_mode & 0o077 == 0
    with head_node(tmp_path, write_certificate(tmp_path / "head", "the secret")) as (_, port):
        assert accepts_grpc(port, client_context(node))


@pytest.mark.parametrize("certificate", [False, True])
def test_only_with_a_certificate_a_program_that_takes_the_port_receives_no_token(
    tmp_path: Path, *, certificate: bool
) -> None:
    variables = write_certificate(tmp_path / "own", "one secret") if certificate else {}
    code = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    with socket.create_server(("127.0.0.1", 0)) as port:
        port.settimeout(60)
        command = [sys.executable, "-c", code, f"127.0.0.1:{port.getsockname()[1]}"]
        with subprocess.Popen(command, env={**os.environ, **TOKEN, **variables}, stderr=subprocess.DEVNULL) as client:
            connection, _ = port.accept()
            with connection, suppress(ConnectionError):
                connection.settimeout(60)
                connection.sendall(frame(SETTINGS) + frame(SETTINGS, flags=ACKNOWLEDGED))
                received = b""
                while TOKEN["RAY_AUTH_TOKEN"].encode() not in received and (more := connection.recv(4096)):
                    received += more
            client.kill()
    assert received
    assert (TOKEN["RAY_AUTH_TOKEN"].encode() in received) is not certificate
