"""What a client can hold before the application sees its request is limited: bytes, headers, time, connections."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import pytest
from starlette.responses import StreamingResponse
from uvicorn.server import ServerState

from service.http import connections as connections_module
from service.http import server as server_module
from service.http.connections import Connections, raise_file_limit
from service.http.server import CHUNK_BYTES, CHUNKS, LimitedProtocol, make_server
from tests.service.fixtures.support import served, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import Receive, Scope, Send

MIB = 2**20
LARGE = 32 * MIB  # more than the system's buffers hold


class App:
    """Answers "ok". /large answers 32 MiB, /stream without end, /wait nothing, and /body when it has all of it."""

    def __init__(self) -> None:
        self.requests: list[Scope] = []
        self.disconnected = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(scope)
        content = b"ok"
        match scope["path"]:
            case "/stream":
                await StreamingResponse(self.stream())(scope, receive, send)
                return
            case "/large":
                content = b"x" * LARGE
            case "/body":
                more = True
                while more:
                    message = await receive()
                    more = message.get("more_body", False)
            case "/wait":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.disconnected += 1
                return
        length = str(len(content)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": content})

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"."
                await asyncio.sleep(0.01)
        finally:
            self.disconnected += 1


@pytest.fixture(scope="module")
def shared_app() -> App:
    return App()


@pytest.fixture
def app(shared_app: App) -> App:
    shared_app.requests.clear()
    shared_app.disconnected = 0
    return shared_app


@pytest.fixture(scope="module")
def open_connections() -> Connections:
    return Connections(2000)


@pytest.fixture(scope="module")
def address(shared_app: App, open_connections: Connections) -> Iterator[tuple[str, int]]:
    with served(shared_app, open_connections) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        yield host, int(port)


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        # Before it is connected: the system would otherwise receive as much as a response of this module.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.settimeout(20)
        connection.connect(address)
        yield connection


@pytest.fixture
def client(address: tuple[str, int]) -> Iterator[socket.socket]:
    with connected(address) as connection:
        yield connection


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are over soon."""
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "READ_SECONDS", 0.2)
    monkeypatch.setattr(connections_module, "SWEEP_SECONDS", 0.05)


def received(connection: socket.socket) -> bytes:
    """Everything that the server sends until it closes the connection."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while more := connection.recv(2**18):
            found += more
    return bytes(found)


def check_problem(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"\r\ncontent-type: application/problem+json" in head
    assert b"\r\nconnection: close" in head
    assert json.loads(body)["status"] == status


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
START = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# A beginning that a client never ends, repeated without end. None of it is part of a body.
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "address": (b"GET /", b"a" * 4096),
    "method": (b"", b"A" * 4096),
    "version": (b"GET / HTTP/", b"1" * 4096),
    "header": (START + b"A: ", b"a" * 4096),
    "name of a header": (START, b"a" * 4096),
    "folded header": (START + b"A: b", b"\r\n c" * 1024),
    "headers": (START, b"A: b\r\n" * 1024),
    "headers without values": (START, b"a:\r\n" * 1024),
    "spaces before a value": (START + b"A:", b" " * 4096),
    "trailers": (CHUNKED + b"0\r\n", b"A: b\r\n" * 1024),
    "trailer": (CHUNKED + b"0\r\nA: ", b"a" * 4096),
    "chunk extension": (CHUNKED + b"1;a=", b"b" * 4096),
    "zeros before the size of a chunk": (CHUNKED, b"0" * 4096),
    "zeros before a length": (POST + b"Content-Length: ", b"0" * 4096),
    "cookies": (START, b"Cookie: a=b\r\n" * 512),
    "blank lines": (b"", b"\r\n" * 2048),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_what_is_not_body_is_bounded(case: str, client: socket.socket, open_connections: Connections) -> None:
    begin, more = ENDLESS[case]
    client.sendall(begin)
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < 32 * MIB:
            sent += client.send(more)
    assert sent < 32 * MIB, "the server accepts it without end"
    wait_until(lambda: open_connections.status().detail.startswith("0 of"), "the connection is closed")


@pytest.mark.parametrize("case", ["address", "header", "name of a header", "headers", "headers without values"])
def test_a_head_beyond_the_limit_is_answered(case: str, client: socket.socket, app: App) -> None:
    begin, more = ENDLESS[case]
    client.sendall(begin + more * (2**16 // len(more) + 1))
    check_problem(received(client), 431)
    assert not app.requests


def test_a_head_within_the_limit_is_accepted(client: socket.socket, app: App) -> None:
    headers = b"".join(b"A%d: %b\r\n" % (number, b"v" * 300) for number in range(99))
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert client.recv(2**16).startswith(b"HTTP/1.1 200")
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert client.recv(2**16).startswith(b"HTTP/1.1 200"), "the limit is that of one request"
    assert len(app.requests) == 2


def test_trailers_are_not_headers(client: socket.socket, app: App) -> None:
    client.sendall(CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert client.recv(2**16).startswith(b"HTTP/1.1 200")
    assert [name for name, _ in app.requests[0]["headers"]] == [b"host", b"transfer-encoding"]


# What each client sends, and the status of the response before the connection is closed; None: without a response.
SILENT: dict[str, tuple[bytes, int | None]] = {
    "nothing": (b"", None),
    "a part of a request line": (b"GET /", 408),
    "a part of the headers": (START + b"A: b\r\n", 408),
    "blank lines": (b"\r\n\r\n", 408),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("case", SILENT)
@pytest.mark.parametrize("later", [False, True])
def test_a_connection_without_a_request_is_closed(case: str, later: bool, client: socket.socket) -> None:
    sent, status = SILENT[case]
    if later:
        client.sendall(GET)
        assert client.recv(2**16).endswith(b"ok")
    client.sendall(sent)
    answer = received(client)
    if status is None or (later and case == "blank lines"):
        assert answer == b""
    else:
        check_problem(answer, status)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("later", [b"", GET])
def test_a_client_cannot_extend_the_time_of_the_headers(later: bytes, client: socket.socket) -> None:
    client.sendall(later)
    client.settimeout(0.01)
    answer = b""
    with suppress(ConnectionResetError, BrokenPipeError):
        while True:  # until the server closes the connection
            client.sendall(b"\r\n")
            with suppress(TimeoutError):
                answer += client.recv(2**16)
                if not answer:
                    break
    assert answer.count(b"HTTP/1.1 200") == bool(later)


@pytest.mark.usefixtures("quick")
def test_the_rest_of_a_body_that_was_answered_is_not_awaited(client: socket.socket) -> None:
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    assert client.recv(2**16).endswith(b"ok")
    client.settimeout(0.01)
    closed = False
    while not closed:
        with suppress(TimeoutError):
            try:
                client.sendall(b"a")
                closed = client.recv(2**16) == b""
            except (ConnectionResetError, BrokenPipeError):
                closed = True


def test_a_body_of_many_tiny_chunks_is_refused(client: socket.socket) -> None:
    client.sendall(CHUNKED + b"1\r\na\r\n" * (CHUNKS + 1))
    assert received(client).startswith(b"HTTP/1.1 400 ")


def test_a_body_of_many_chunks_is_accepted(client: socket.socket) -> None:
    chunk = b"%x\r\n%s\r\n" % (2 * CHUNK_BYTES, b"a" * 2 * CHUNK_BYTES)
    client.sendall(POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * (CHUNKS + 1))
    client.sendall(b"0\r\n\r\n")
    assert received(client).startswith(b"HTTP/1.1 2")


@pytest.mark.usefixtures("quick")
def test_a_client_that_does_not_read_is_disconnected(client: socket.socket, open_connections: Connections) -> None:
    client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(1) == b"H"  # the connection is open
    wait_until(lambda: open_connections.status().detail.startswith("0 of"), "the connection is closed")
    assert len(received(client)) < LARGE


# How many bytes are left to read every 30 seconds, and whether the client is disconnected after the last time.
READING: dict[str, tuple[list[int], bool]] = {
    "nothing": ([10 * MIB, 10 * MIB], True),
    "too little": ([10 * MIB, 10 * MIB - 2**15], True),
    "slowly": ([10 * MIB, 9 * MIB, 8 * MIB, 7 * MIB], False),
    "then nothing": ([10 * MIB, 9 * MIB, 9 * MIB], True),
    "nothing of a short rest": ([2, 2], True),
}


@pytest.mark.parametrize("case", READING)
def test_a_client_must_read(case: str) -> None:
    left, dropped = READING[case]
    transport = MagicMock()
    transport.is_closing.return_value = False
    loop = asyncio.new_event_loop()
    loop.time = lambda: 0.0  # type: ignore[method-assign]
    config = make_server(App(), Connections(1)).config
    connection = LimitedProtocol(
        open_connections=MagicMock(), config=config, server_state=ServerState(), app_state={}, _loop=loop
    )
    connection.connection_made(transport)
    transport.get_write_buffer_size.return_value = left[0]
    connection.pause_writing()
    for number, size in enumerate(left[1:], 1):
        transport.get_write_buffer_size.return_value = size
        assert not transport.abort.called
        connection.sweep(server_module.READ_SECONDS * number - 1, None)
        assert not transport.abort.called
        connection.sweep(server_module.READ_SECONDS * number, None)
    assert transport.abort.called == dropped
    loop.close()


def test_what_is_not_read_is_limited_together(
    address: tuple[str, int], open_connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "MOST_UNREAD_BYTES", LARGE)
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(address)) for _ in range(4)]
        for client in clients:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(1)
        wait_until(lambda: len(open_connections._open) == 1, "the connections that wait longest are closed")


@contextmanager
def waiting(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    """Connections whose requests are being served."""
    with ExitStack() as stack:
        found = [stack.enter_context(connected(address)) for _ in range(count)]
        for connection in found:
            connection.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        yield found


def test_idle_connections_make_room_for_new_ones(app: App) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(served(app, Connections(4)))
        host, _, port = url.removeprefix("http://").rpartition(":")
        address = host, int(port)
        busy = stack.enter_context(waiting(address, 1))
        idle = [stack.enter_context(connected(address)) for _ in range(20)]
        for connection in idle:
            with suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(START)
        last = stack.enter_context(connected(address))
        last.sendall(GET)
        assert last.recv(2**16).endswith(b"ok")
        assert received(idle[0]) == b"", "the one that waited longest"
        busy[0].settimeout(0.05)
        with pytest.raises(TimeoutError):  # it is still served
            busy[0].recv(1)


def test_more_connections_than_allowed_are_refused(app: App, caplog: pytest.LogCaptureFixture) -> None:
    connections = Connections(3)
    with ExitStack() as stack, caplog.at_level(logging.WARNING):
        url = stack.enter_context(served(app, connections))
        host, _, port = url.removeprefix("http://").rpartition(":")
        address = host, int(port)
        with waiting(address, 3):
            with connected(address) as one_more:
                answer = received(one_more)
            check_problem(answer, 503)
            assert b"\r\nretry-after: 5\r\n" in answer
            assert connections.status() == (False, "3 of at most 3 are open; new ones are refused")
            assert "no room for new connections: 3 are open" in caplog.text
        wait_until(lambda: connections.status().ready, "connections are accepted again")
        with connected(address) as one_more:
            one_more.sendall(GET)
            assert one_more.recv(2**16).endswith(b"ok")


def test_files_are_left_for_everything_else(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        # The next descriptors are all among the reserved ones.
        monkeypatch.setattr(resource, "getrlimit", lambda _: (8, 8))
        url = stack.enter_context(served(app, Connections(2000)))
        host, _, port = url.removeprefix("http://").rpartition(":")
        with connected((host, int(port))) as client:
            check_problem(received(client), 503)


def test_the_file_limit_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(1024, before[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, before[1]))
    try:
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(before[1], 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"FOO / HTTP/1.1", 501),
        (b"get / HTTP/1.1", 501),
        (b"\x16\x03\x01\x02", 501),
        (b"GET / HTTP/9.9", 400),
        (b"GET /\x80 HTTP/1.1", 400),
        (b"GET /", 505),
        (b"GET  HTTP/1.1", 400),
        (b"CONNECT x:443 HTTP/1.1", 400),
        (b"PRI * HTTP/2.0", 400),
    ],
)
def test_what_is_not_a_request_is_answered_with_a_problem(
    request_line: bytes, status: int, client: socket.socket, app: App
) -> None:
    client.sendall(request_line + b"\r\nHost: x\r\n\r\n")
    check_problem(received(client), status)
    assert not app.requests


def test_other_protocols_are_not_served(client: socket.socket) -> None:
    client.sendall(START + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + b"\x81\x05hello" * 10)
    answer = received(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1


def test_pipelined_requests_are_answered_in_order_up_to_a_limit(client: socket.socket, app: App) -> None:
    client.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(1000)))
    answers = received(client)
    assert answers.count(b"HTTP/1.1 200") == answers.count(b"ok") == len(app.requests)
    assert [scope["path"] for scope in app.requests] == [f"/{number}" for number in range(len(app.requests))]
    assert 1 <= len(app.requests) <= 2 + server_module.PIPELINED


def test_a_fault_does_not_cut_the_response_before_it(client: socket.socket) -> None:
    client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\nFOO / HTTP/1.1\r\n\r\n")
    answer = received(client)
    assert answer.count(b"HTTP/1.1") == 1
    assert len(answer.partition(b"\r\n\r\n")[2]) == LARGE


def test_a_request_behind_a_stream_does_not_hide_its_disconnection(app: App, address: tuple[str, int]) -> None:
    with connected(address) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(2**16).startswith(b"HTTP/1.1 200")
        client.sendall(GET)
    wait_until(lambda: app.disconnected == 1, "the application stops to wait")


def test_old_clients_get_one_response(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.0\r\n\r\n" + GET)
    answer = received(client)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.endswith(b"ok")


@pytest.mark.usefixtures("quick")
def test_a_stream_may_be_silent(address: tuple[str, int]) -> None:
    with waiting(address, 1) as (stream,):
        stream.settimeout(1)
        with pytest.raises(TimeoutError):  # five times as long as a request may take
            stream.recv(1)


def test_the_sweep_ends_with_the_last_connection(open_connections: Connections, address: tuple[str, int]) -> None:
    with connected(address) as client:
        client.sendall(GET)
        client.recv(2**16)
    wait_until(lambda: open_connections._sweep is None, "nothing is left to do", timeout=30)


def test_requests_that_the_stop_cuts_off_are_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    begun = []

    async def never(scope: Scope, _receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.Event().wait()

    server = make_server(never, Connections(10))
    server.config.timeout_graceful_shutdown = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        answers = []
        for path in ("/waits", "/begun"):
            client = socket.create_connection(listener.getsockname())
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answers.append(client)
        wait_until(lambda: len(begun) == 2, "both requests are computed")
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
    with answers[0], answers[1]:
        assert answers[0].recv(12) == b"HTTP/1.1 503"
    assert [entry for entry in caplog.records if entry.exc_info] == []
