"""A service without tokens rejects requests from pages of other sites, and all responses have security headers."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from service.settings import Settings
from service.stack.app import create_app
from tests.service.fixtures.support import hinge_job, operations, served

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # requests are rejected before the database is used


def unsafe_routes(app: FastAPI) -> list[tuple[str, str]]:
    found = [
        (method.upper(), path.replace("{job_id}", "x"))
        for method, path in operations(app, "post", "put", "patch", "delete")
    ]
    assert ("POST", "/v1/jobs/x/cancel") in found
    return found


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "127.0.0.2", "[::1]", "[::1]:8000"])
def test_host_names_of_this_machine_are_accepted(api: httpx.Client, host: str) -> None:
    assert api.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "192.0.2.1", "[2001:db8::1]:8000",
     "localhost@evil.example", "evil.example:80@localhost", "evil.example/localhost", "0.0.0.0:8000"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/jobs", "/docs", "/nothing"])
def test_other_host_names_are_rejected(api: httpx.Client, host: str, path: str) -> None:
    answer = api.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert "GRADFLEET_ALLOWED_HOSTS" in answer.json()["detail"]


def test_two_host_headers_are_rejected_if_one_is_not_allowed(api: httpx.Client) -> None:
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as connection:
        connection.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 421")


def test_host_names_can_be_allowed(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLEET_ALLOWED_HOSTS", '["Train.Example"]')
    with served(create_app(Settings(data_dir=settings.data_dir), database=database)) as url:
        assert httpx.get(url + "/v1/jobs", headers={"Host": "train.example:8443"}).status_code == 200
        assert httpx.get(url + "/v1/jobs", headers={"Host": "other.example"}).status_code == 421


def test_with_tokens_any_host_name_is_accepted(settings: Settings, database: Database) -> None:
    settings.require_token = True
    with served(create_app(settings, database=database)) as url:
        assert httpx.get(url + "/v1/jobs", headers={"Host": "train.example"}).status_code == 401


# Headers that browsers send with requests from another site. Old browsers do not send Sec-Fetch-Site.
CROSS_SITE_HEADERS = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:5000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
]


@pytest.mark.parametrize("headers", CROSS_SITE_HEADERS)
def test_requests_from_other_sites_are_rejected(api: httpx.Client, app: FastAPI, headers: dict[str, str]) -> None:
    for method, path in unsafe_routes(app):
        answer = api.request(method, path, headers=headers)
        assert answer.status_code == 403, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "another site" in answer.json()["detail"]
    assert "access-control-allow-origin" not in api.get("/v1/jobs", headers=headers).headers
    preflight = api.options("/v1/jobs", headers=headers | {"Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 405
    assert not any(name.startswith("access-control") for name in preflight.headers)


def test_requests_from_the_same_origin_are_accepted(api: httpx.Client) -> None:
    own = str(api.base_url).rstrip("/")
    for headers in ({"Sec-Fetch-Site": "same-origin", "Origin": own}, {"Sec-Fetch-Site": "none"}, {"Origin": own}, {}):
        assert api.post("/v1/jobs/x/cancel", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_no_route_accepts_the_media_type_of_a_form(api: httpx.Client, app: FastAPI, media_type: str) -> None:
    tried = 0
    for path, methods in app.openapi()["paths"].items():
        for method, described in methods.items():
            if "requestBody" in described:
                answer = api.request(
                    method.upper(),
                    path.replace("{job_id}", "x"),
                    headers={"Content-Type": media_type},
                    json=hinge_job(),
                )
                assert answer.status_code == 415, (method, path)
                tried += 1
    assert tried >= 3


def test_every_response_has_security_headers(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
    }
    monkeypatch.setattr("service.jobs.routes.list_jobs", lambda *_arguments, **_named: 1 / 0)
    answers = [
        (api.get("/v1/jobs/x"), 404), (api.get("/v1/datasets"), 200), (api.post("/v1/jobs"), 415), (api.get("/"), 307),
        (api.get("/docs"), 200), (api.get("/docs/assets/swagger-ui.css"), 200), (api.get("/openapi.json"), 200),
        (api.get("/v1/jobs", headers={"Host": "evil.example"}), 421),
        (api.post("/v1/jobs", content=b" " * 2**21), 413), (httpx.get(api.base_url.join("/v1/jobs")), 500),
    ]  # fmt: skip
    for answer, status in answers:
        assert answer.status_code == status, answer.url
        assert expected.items() <= dict(answer.headers).items(), answer.url
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers.get("cache-control") == ("no-store" if answer.url.path.startswith("/v1/") else None)


def test_the_docs_page_has_no_inline_scripts(api: httpx.Client) -> None:
    page = api.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert not re.findall(r"<script(?![^>]*\bsrc=)|\son\w+=|javascript:", page.text)
    for source in re.findall(r'(?:src|href)="([^"]*)"', page.text):
        assert api.get(source).status_code == 200, source
    assert api.get("/v1/jobs").headers["content-security-policy"].startswith("default-src 'none'; frame")
