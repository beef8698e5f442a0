"""The answer to bad input is small and takes little work, whatever the input is."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.http import json_body
from service.http.json_body import SMALL, parse_json
from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fixtures.support import hinge_job, operations, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

MOST_BYTES = 64 * 1024
MOST_ERRORS = 20
LONG = "long" * 200_000
ASTRAL = "\U0001f600" * 80_000
LAYERS = [{"type": "relu"}, {"type": "rellu"}, 1, {"type": LONG[:500]}] * 500
GRID: dict[str, Any] = {f"data.a{number}": list(range(1000)) for number in range(32)}


def listed(entry: str, count: int) -> str:
    return f"[{','.join([entry] * count)}]"


def numbered(value: str, count: int) -> str:
    return ",".join(f'"k{number}":{value}' for number in range(count))


def sweep(**changes: Any) -> str:
    return json.dumps(LOSSES_SWEEP | changes)


BODIES: dict[str, str] = {
    "a key twice among 40,000": f'{{{numbered("1", 40_000)},"k39999":1}}',
    "a key twice among 900": f'{{{numbered("1", 900)},"k899":1}}',
    "a long key twice": f'{{"{LONG[:400_000]}":1,"{LONG[:400_000]}":1}}',
    "NaNs": f'{{"data": {listed("NaN", 200_000)}}}',
    "infinite numbers": listed("1e999", 150_000),
    "large integers": listed("12345678901234567890", 40_000),
    "lists": listed("[]", 300_000),
    "objects": listed("{}", 300_000),
    "digits": "1" * 1_000_000,
    "digits of a fraction": "0." + "1" * 1_000_000,
    "an exponent": "1e" + "1" * 1_000_000,
    "depth": "[" * 500_000,
    "depth in a field": f'{{"model": {"[" * 30}{listed("0", 90_000)}{"]" * 30}}}',
    "surrogates": listed(r'"\ud800"', 80_000),
    "a long string": json.dumps(LONG),
    "unknown fields": f"{{{numbered('1', 50_000)}}}",
    "unknown fields with long names": json.dumps({LONG[:9000] + str(number): 1 for number in range(100)}),
    "a long name": json.dumps(hinge_job(name=LONG)),
    "a name of pictures": json.dumps(hinge_job(name=ASTRAL), ensure_ascii=False),
    "fields named by pictures": json.dumps(
        {ASTRAL[:5000] + str(number): 1 for number in range(40)}, ensure_ascii=False
    ),
    "a long type": json.dumps(hinge_job(loss={"type": LONG})),
    "a long unknown field": json.dumps(hinge_job(training={LONG: 1})),
    "wrong layers": json.dumps(hinge_job(**{"model.layers": LAYERS})),
    "wrong inputs of a layer": json.dumps(hinge_job(**{"model.layers.1": {"type": "relu", "inputs": [0] * 90_000}})),
    "wrong losses": json.dumps(hinge_job(loss={"type": "weighted_sum", "losses": LAYERS, "weights": [None] * 90_000})),
    "wrong factors": json.dumps(hinge_job(**{"data.scale": {"divide": ["x"] * 90_000}})),
    "wrong parts": json.dumps(hinge_job(**{"data.split": {"train": [1] * 90_000, "validation": [LONG[:1000]]}})),
    "labels": json.dumps(hinge_job(labels={f"key {number}": 1 for number in range(40_000)})),
    "long labels": json.dumps(hinge_job(labels={LONG: LONG[:1000]})),
    "class names": json.dumps({"name": "x", "path": "x", "classes": [1] * 60_000}),
    "features": json.dumps({"name": "x", "path": LONG, "features": [""] * 20_000}),
    "combinations": sweep(over={"grid": GRID}),
    "fields of a grid": sweep(over={"grid": {f"a{number}": [1] for number in range(50_000)}}),
    "a long field of a grid": sweep(over={"grid": {"a." * 200_000 + "a": [1]}}),
    "wrong seeds": sweep(seeds=[-1] * 90_000),
    "large members": sweep(
        base=LOSSES_SWEEP["base"] | {"labels": {"a": LONG[:100_000]}}, over=None, seeds=list(range(1000))
    ),
    "large values": sweep(over={"grid": {"labels": [{"a": LONG[:300_000]}], "optimizer.lr": [0.1] * 1000}}, seeds=[]),
    "wrong members": sweep(over={"list": [{f"a{number}": LONG[:500]} for number in range(1000)]}, seeds=[]),
    "names of members": sweep(over={"list": [{LONG[:900_000]: 1}]}),
    "draws": sweep(over={"random": {"fields": {f"a{number}": {} for number in range(32)}, "samples": 10**30}}),
    "resources": json.dumps({"resources": {LONG: 1, "workers": "1" * 100_000}}),
}


@pytest.fixture(scope="module")
def service(shared_app: FastAPI) -> Iterator[httpx.Client]:
    with served(shared_app) as url, httpx.Client(base_url=url, timeout=60) as client:
        dataset = {"name": "digits", "path": "digits.parquet", "label": "label"}
        client.post("/v1/datasets", json=dataset).raise_for_status()
        yield client


@pytest.fixture(scope="module")
def job_id(service: httpx.Client) -> str:
    return str(service.post("/v1/jobs", json=hinge_job()).raise_for_status().json()["id"])


def filled(path: str, job_id: str) -> str:
    return path.replace("{job_id}", job_id).replace("{sweep_id}", "sweep_x").replace("{name}", "digits")


def check_small(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text[:500]
    if answer.status_code >= 400:
        assert len(answer.content) <= MOST_BYTES
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.json().get("errors", [])) <= MOST_ERRORS


@pytest.mark.parametrize("case", BODIES)
def test_the_answer_to_a_body_is_small(
    case: str, shared_app: FastAPI, service: httpx.Client, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = BODIES[case].encode()
    assert len(content) < 2**20, "the limit of a body is tested elsewhere"
    parsed_in: set[str] = set()

    def parse(text: bytes) -> Any:
        parsed_in.add(threading.current_thread().name)
        return parse_json(text)

    monkeypatch.setattr(json_body, "parse_json", parse)
    for method, path in operations(shared_app, "post", "patch"):
        answer = service.request(
            method, filled(path, job_id), content=content, headers={"Content-Type": "application/json"}
        )
        check_small(answer)
        takes_body = shared_app.openapi()["paths"][path][method].get("requestBody")
        assert answer.status_code >= 400 or not takes_body, path
    # Not in the thread of the event loop, which `served` starts.
    assert not (len(content) > SMALL and any("run" in name for name in parsed_in)), parsed_in


def test_what_the_service_accepts_is_named_in_full(service: httpx.Client) -> None:
    """The bounds cut nothing from the errors of a usual spec: all layers are listed, with the nearest name."""
    answer = service.post("/v1/jobs", json=hinge_job(**{"model.layers.1": {"type": "rellu"}}))
    message = answer.json()["errors"][0]["message"]
    assert message.endswith("; did you mean 'relu'?")
    assert "tanh" in message
    assert "..." not in message


def test_more_problems_than_are_named_are_counted_from_below(service: httpx.Client) -> None:
    problem = service.post("/v1/jobs", json=hinge_job(**{f"a{number}": 1 for number in range(100)})).json()
    assert len(problem["errors"]) == MOST_ERRORS
    assert problem["detail"].endswith("(and at least 19 more)")


DIGITS_30K = "1" * 30_000
QUERIES = {
    "an unknown parameter": f"{'x' * 30_000}=1",
    "unknown parameters": "&".join(f"x{number}=" for number in range(3000)),
    "a long number": "&".join(f"{name}={'1' * 7000}" for name in ("limit", "starting_after", "rows", "max_points")),
    "long text": f"state={'x' * 4000}&experiment={'x' * 4000}&metric={'x' * 4000}&name={'x' * 4000}",
    "times": f"created_after={'2026-01-01' * 2000}&created_before={'2026-01-01T' + '0' * 9000}",
    "labels": "&".join(["label=a"] * 3000),
    "names": "&".join(["name=a"] * 4000),
    "characters": "%F0%9F%98%80" * 2500 + "=1",
}


@pytest.mark.parametrize("case", QUERIES)
def test_the_answer_to_a_query_is_small(case: str, shared_app: FastAPI, service: httpx.Client, job_id: str) -> None:
    for method, path in operations(shared_app, "get"):
        check_small(service.request(method, f"{filled(path, job_id)}?{QUERIES[case]}"))
    headers = {"Content-Type": "application/octet-stream"}
    check_small(service.post(f"/v1/datasets/upload?{QUERIES[case]}", headers=headers, content=b"x"))


HEADERS = {
    "Accept": ", ".join(["image/png;q=0.1"] * 1800),
    "Accept-Language": "x" * 30_000,
    "Idempotency-Key": "k" * 30_000,
    "Last-Event-ID": DIGITS_30K,
    "Content-Type": "x" * 30_000,
    "Origin": "http://" + "x" * 30_000,
    "Authorization": "Bearer " + "x" * 30_000,
    "X-Request-ID": "x" * 30_000,
    "Host": "x" * 30_000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_answer_to_a_header_is_small(name: str, shared_app: FastAPI, service: httpx.Client, job_id: str) -> None:
    for method, path in operations(shared_app, "get", "post", "patch", "delete"):
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream;q=0.5, */*", name: HEADERS[name]}
        if path.endswith("/events") and name != "Accept":
            headers["Accept"] = "application/json" if name != "Last-Event-ID" else "text/event-stream"
        url = filled(path, "job_x" if method == "delete" else job_id)
        check_small(service.request(method, url, headers=headers))


def test_the_answer_to_a_path_is_small(shared_app: FastAPI, service: httpx.Client) -> None:
    for method, path in operations(shared_app, "get", "post", "patch", "delete"):
        for long in ("x" * 25_000, "%F0%9F%98%80" * 2000):
            url = filled(path, "{job_id}").replace("sweep_x", long).replace("{job_id}", long).replace("digits", long)
            headers = {"Content-Type": "application/json"}
            check_small(service.request(method, url, headers=headers, content=b'{"resources": {"workers": 1}}'))
    check_small(service.get("/" + "x" * 30_000))


def test_values_are_counted() -> None:
    assert len(parse_json(listed("1", 99_999).encode())) == 99_999
    with pytest.raises(json_body.BadRequestError, match="more than 100,000 values"):
        parse_json(listed("1", 100_001).encode())
    assert len(parse_json(f"{{{numbered('1', 1000)}}}".encode())) == 1000
    with pytest.raises(json_body.BadRequestError, match="more than 1,000 keys"):
        parse_json(f"{{{numbered('1', 1001)}}}".encode())
