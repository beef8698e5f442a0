from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from service.cli.main import app as command_line
from service.client import AddressError, ApiError, Client
from service.client.http import http_client
from tests.service.fakes.canned_service import Canned, canned_json, canned_service

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
REMOTE = "http://gradfleet.example:8000"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The URL of a proxy, and the URLs that it was asked for."""
    asked: list[str] = []

    def choose(_method: str, path: str) -> Canned:
        asked.append(path)
        return canned_json({"data": []})

    with canned_service(choose) as url:
        yield url, asked


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_proxy_of_the_environment(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    url, asked = proxy
    if variable == "HTTP_PROXY":
        monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")  # the other one comes first
    monkeypatch.setenv(variable, url.replace("http://", scheme))
    with Client(REMOTE) as client:
        assert client.datasets() == []
    assert asked == [f"{REMOTE}/v1/datasets"]


@pytest.mark.parametrize("name", ["gradfleet.example", "other.example, .example", "gradfleet.example:8000", "*"])
def test_names_without_a_proxy(proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    url, asked = proxy
    for variable, value in (("ALL_PROXY", "socks5://127.0.0.1:1"), ("HTTP_PROXY", url), ("NO_PROXY", name)):
        monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(command_line, ["jobs", "--url", REMOTE])
    assert result.stderr.startswith(f"gradfleet: no service responds at {REMOTE}")
    assert asked == []


@pytest.mark.parametrize("no_proxy", ["[::1]", "10.0.0.0/8,::1", "http://[", ",,", "a b", "*.example.com", "ä"])
def test_other_values_of_no_proxy(proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    url, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with Client(REMOTE) as client:
        assert client.datasets() == []
    assert len(asked) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "127.3.2.1", "[::1]"])
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://x", "http://["])
def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str, proxy: str) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, proxy)
    http_client(f"http://{host}:8000", 1).close()
    with (
        canned_service(lambda *_: Canned(404, b"")) as url,
        Client(url) as client,
        pytest.raises(ApiError, match="answered 404"),
    ):
        client.datasets()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://user:secret@127.0.0.1:1080", r"^the proxy in ALL_PROXY .* pip install 'httpx\[socks\]"),
        ("http_proxy", "socks5h://127.0.0.1", r"^the proxy in http_proxy is a SOCKS proxy"),
        ("ALL_PROXY", "socks4://secret", "^ALL_PROXY does not contain the URL of a proxy, such as http://"),
        ("HTTP_PROXY", "ftp://secret", "^HTTP_PROXY does not contain the URL of a proxy"),
        ("HTTP_PROXY", "http://secret:port", "^HTTP_PROXY does not contain the URL of a proxy"),
        ("HTTP_PROXY", "http://[secret", "^HTTP_PROXY does not contain the URL of a proxy"),
        ("HTTP_PROXY", "http://se cret", "^HTTP_PROXY does not contain the URL of a proxy"),
        ("HTTP_PROXY", "http://", "^HTTP_PROXY does not contain the URL of a proxy"),
        ("HTTP_PROXY", "http://..", "^HTTP_PROXY does not contain the URL of a proxy"),
        ("HTTP_PROXY", "http://proxy:99999", "^HTTP_PROXY does not contain the URL of a proxy"),
    ],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(AddressError, match=words) as caught:
        Client(REMOTE)
    assert "secret" not in str(caught.value)
    result = CliRunner().invoke(command_line, ["jobs", "--url", REMOTE])
    assert (result.exit_code, result.stderr) == (1, f"gradfleet: {caught.value}\n")
