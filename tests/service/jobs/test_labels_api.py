from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from service.client import Client
from service.store.models import Job
from tests.service.fixtures.support import hinge_job
from workers.training.assignment import Assignment

if TYPE_CHECKING:
    import httpx

    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


def test_labels_are_shown_and_not_part_of_the_spec(api: httpx.Client, database: Database) -> None:
    labels = {"team": "vision", "example.org/run-by": "née: 7"}
    job = api.post("/v1/jobs", json=hinge_job(labels=labels)).json()
    plain = api.post("/v1/jobs", json=hinge_job()).json()
    assert (job["labels"], plain["labels"]) == (labels, {})
    assert job["spec"] == plain["spec"], "labels do not change the computation"
    assert api.get(f"/v1/jobs/{job['id']}").json() == job | {"dataset": job["dataset"] | {"deleted": False}}
    with database.reading() as session:
        row = session.get(Job, job["id"])
        assert row is not None
        assert "labels" not in row.spec
    assert "labels" not in Assignment.__annotations__


def test_a_priority_is_shown_and_not_part_of_the_spec(api: httpx.Client) -> None:
    urgent = api.post("/v1/jobs", json=hinge_job(priority=100)).json()
    plain = api.post("/v1/jobs", json=hinge_job(priority=0)).json()
    assert (urgent["priority"], plain["priority"]) == (100, 0)
    assert urgent["spec"] == plain["spec"]
    for wrong in (101, -101, 1.5, "1", None):
        answer = api.post("/v1/jobs", json=hinge_job(priority=wrong))
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "priority")


def test_an_idempotency_key_covers_the_labels(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.post("/v1/jobs", json=hinge_job(labels={"a": "1", "b": "2"}), headers=headers)
    again = api.post("/v1/jobs", json=hinge_job(labels={"b": "2", "a": "1"}), headers=headers)
    other = api.post("/v1/jobs", json=hinge_job(labels={"a": "1"}), headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 422)


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"a:b": "c"}, "labels.a:b"),
        ({"": "c"}, "labels."),
        ({"k" * 64: "c"}, f"labels.{'k' * 64}"),
        ({"a": ""}, "labels.a"),
        ({"a": "x\ny"}, "labels.a"),
        ({"a": "v" * 201}, "labels.a"),
        ({"a": 1}, "labels.a"),
        ({str(n): "v" for n in range(33)}, "labels"),
        (["a"], "labels"),
    ],
)
def test_labels_are_bounded_printable_text(api: httpx.Client, labels: Any, field: str) -> None:
    answer = api.post("/v1/jobs", json=hinge_job(labels=labels))
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_filters_are_combined(api: httpx.Client) -> None:
    def submit(**labels: str) -> dict[str, Any]:
        return dict(api.post("/v1/jobs", json=hinge_job(labels=labels)).json())

    first, second, third = submit(team="a", run="1"), submit(team="a", run="x:y"), submit(team="b", run="1")
    with Client(str(api.base_url)) as client:

        def found(**filters: Any) -> list[Any]:
            return [job.data for job in client.jobs(**filters)]

        assert found(labels={"team": "a"}) == [second, first]
        assert found(labels={"team": "a", "run": "x:y"}) == [second]
        assert found(labels={"team": "b", "run": "2"}) == found(labels={"none": "1"}) == []
        assert found(labels={"run": "1"}, limit=1) == [third]
        begin, end = (datetime.fromisoformat(job["created_at"]) for job in (second, third))
        assert found(created_after=begin) == [third, second]
        assert found(created_before=end) == [second, first]
        assert found(created_after=begin, created_before=end) == [second]
    page = api.get("/v1/jobs", params={"label": "run:1", "starting_after": third["id"]}).json()
    assert page["data"] == [first]


@pytest.mark.parametrize("database_kind", ["sqlite"])  # PostgreSQL scans small tables
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"state": "queued"},
        {"experiment": "hinge-vs-softmax"},
        {"label": ["team:a", "run:1"]},
        {"label": "team:a", "state": "queued", "created_after": "2020-01-01T00:00:00Z"},
    ],
)
def test_a_page_is_read_in_the_order_of_an_index(
    api: httpx.Client, database: Database, filters: dict[str, Any]
) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("only SQLite chooses its plan independently of the number of rows")
    first = api.post("/v1/jobs", json=hinge_job()).raise_for_status().json()["id"]
    statements: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if "LIMIT" in statement:
            statements.append((statement, parameters))

    api.get("/v1/jobs", params=filters | {"starting_after": first}).raise_for_status()
    ((statement, parameters),) = statements
    with database.engine.connect() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert all(step.startswith("SEARCH") for step in plan), plan


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"label": "team"}, "label"),
        ({"label": ":v"}, "label"),
        ({"label": "k:"}, "label"),
        ({"label": "k:\0"}, "label"),
        ({"label": ["a:b"] * 33}, "label"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_after": "1767225600"}, "created_after"),
        ({"created_after": "2026-01-01T00:00:00"}, "created_after"),
        ({"created_before": "0001-01-01T00:00:00+14:00"}, "created_before"),
    ],
)
def test_an_invalid_filter_is_rejected(api: httpx.Client, query: dict[str, Any], field: str) -> None:
    answer = api.get("/v1/jobs", params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("text", ['a"b:c', "a.b:c", "a[0]:c", "$:c", "a':c", "#:%"])
def test_a_filter_with_special_characters_finds_nothing(api: httpx.Client, text: str) -> None:
    api.post("/v1/jobs", json=hinge_job(labels={"a": "c"}))
    answer = api.get("/v1/jobs", params={"label": text})
    assert (answer.status_code, answer.json()["data"]) == (200, [])
