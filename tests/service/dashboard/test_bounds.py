"""Searches that ask for too much are refused before MLflow sees them; those of the dashboard and clients pass."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.dashboard.test_routes import allowed
from tests.service.fakes.recording_mlflow import EXPORT, RecordingMlflow

if TYPE_CHECKING:
    import httpx

RUNS = "/ajax-api/2.0/mlflow/runs/search"
MODELS = "/ajax-api/2.0/mlflow/logged-models/search"
AJAX = "/ajax-api/2.0/mlflow"
RUN_ID = "0123456789abcdef" * 2
CLAUSES = " AND ".join(["attributes.status != 'FAILED'"] * 570)  # took 28 s
GET_RUN = """
query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.ExperimentTracking") {
  mlflowGetRun(input: $data) { run { info { runName } } }
}
"""
SEARCH = "mutation S($d: MlflowSearchRunsInput) { mlflowSearchRuns(input: $d) { runs { info { runName } } } }"


def ids(count: int) -> str:
    return ", ".join([f"'{RUN_ID}'"] * count)


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (RUNS, {"filter": CLAUSES}, "filter"),
        (RUNS, {"filter": CLAUSES.lower()}, "filter"),
        (RUNS, {"filter": "''and" * 300}, "filter"),
        (RUNS, {"filter": "(" * 5000}, "filter"),
        (RUNS, {"filter": "'a'" * 5000}, "filter"),
        (RUNS, {"filter": "tags.a LIKE '" + "%a" * 5000 + "'"}, "filter"),
        (RUNS, {"order_by": ["metrics.loss"] * 11}, "order_by"),
        (RUNS, {"orderBy": ["metrics.loss"] * 11}, "order_by"),
        (RUNS, {"order_by": ["metrics." + "x" * 3000]}, "order_by"),
        (RUNS, {"experiment_ids": ["1"] * 1001}, "experiment_ids"),
        (RUNS, {"experimentIds": ["1"] * 1001}, "experiment_ids"),
        (RUNS, {"max_results": 10**6}, "max_results"),
        (RUNS, {"maxResults": "1000000"}, "max_results"),
        (RUNS, {"max_results": 1e300}, "max_results"),
        (RUNS, {"anything": [1] * 101}, "anything"),
        (MODELS, {"filter": CLAUSES}, "filter"),
        (MODELS, {"datasets": [{"dataset_name": "x"}] * 101}, "datasets"),
        (MODELS, {"order_by": [{"field_name": "x" * 3000}]}, "field_name"),
        (f"{AJAX}/experiments/search", {"filter": CLAUSES}, "filter"),
        (f"{AJAX}/experiments/search-datasets", {"experiment_ids": ["1"] * 1001}, "experiment_ids"),
        (f"{AJAX}/registered-models/get-latest-versions", {"name": "x", "stages": ["None"] * 101}, "stages"),
        ("/graphql", {"query": SEARCH, "variables": {"d": {"filter": CLAUSES}}}, "filter"),
        ("/graphql", {"query": SEARCH, "variables": {"d": {"maxResults": 50000}}}, "max_results"),
        ("/graphql", {"query": SEARCH, "variables": {"d": {"experimentIds": ["1"] * 1001}}}, "experiment_ids"),
        ("/graphql", {"query": SEARCH.replace("$d)", '{filter: "x"})')}, "query"),
        ("/graphql", {"query": SEARCH.replace("$d)", "{maxResults: 50000})")}, "query"),
        ("/graphql", {"query": SEARCH.replace("Input)", 'Input = {filter: "x"})')}, "query"),
        ("/graphql", {"query": SEARCH + "#" * 20_000}, "query"),
        ("/graphql", {"query": "{"}, "query"),
        ("/graphql", {"query": 1}, "query"),
        ("/graphql", {}, "query"),
    ],
)  # fmt: skip
def test_a_search_that_asks_for_too_much_is_refused(
    door: httpx.Client, mlflow: RecordingMlflow, path: str, body: dict[str, Any], named: str
) -> None:
    answer = door.post(path, content=json.dumps(body))
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"].startswith(f"{named}: ")
    assert len(answer.text) < 1000
    assert mlflow.requests == []


@pytest.mark.parametrize("body", [b"[]", b'"{}"', b"1", b"{", b"[" * 10_000, b'{"a":' * 10_000])
@pytest.mark.parametrize("path", [RUNS, "/graphql"])
def test_the_body_of_a_search_is_an_object(door: httpx.Client, mlflow: RecordingMlflow, path: str, body: bytes) -> None:
    """MLflow would read an object in a JSON string as well."""
    assert door.post(path, content=body).status_code == 422
    assert mlflow.requests == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"filter": CLAUSES}, "filter"),
        ({"order_by": ["name"] * 11}, "order_by"),
        ({"max_results": 10**6}, "max_results"),
        ({"run_id": [RUN_ID] * 101}, "run_id"),
        ({"run_ids": [RUN_ID] * 101}, "run_ids"),
        ({"metric_key": "x" * 3000}, "metric_key"),
        ({"name": "x" * 3000}, "name"),
        ({"stages": ["x"] * 101}, "stages"),
    ],
)
def test_a_query_that_asks_for_too_much_is_refused_on_every_route(
    door: httpx.Client, mlflow: RecordingMlflow, query: dict[str, Any], named: str
) -> None:
    for method, path in allowed():
        if method == "GET" and "<" not in path:
            answer = door.get(path, params=query)
            assert answer.status_code == 400, (path, answer.text)
            assert answer.json()["detail"].startswith(f"{named}: ")
    assert mlflow.requests == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        # The dashboard: a page of runs, the chosen runs, the models of a run, a page of an experiment.
        (RUNS, {"experiment_ids": ["1", "2"], "filter": "", "run_view_type": "ACTIVE_ONLY", "max_results": 100,
                "order_by": ["attributes.start_time DESC", "metrics.`val/loss` ASC"], "page_token": "x" * 9000}),
        (RUNS, {"experiment_ids": ["1"], "filter": f"attributes.run_id IN ({ids(1000)})", "max_results": 1000}),
        (RUNS, {"filter": "metrics.`val/loss` < 0.1 AND params.model = 'tree' and tags.name LIKE '%sand and land%'"}),
        (MODELS, {"experiment_ids": ["1"], "filter": f"attributes.model_id IN ('m-{RUN_ID}')",
                  "order_by": [{"field_name": "creation_time", "ascending": False}], "max_results": 50}),
        ("/graphql", {"operationName": "GetRun", "query": GET_RUN, "variables": {"data": {"runId": RUN_ID}}}),
        ("/graphql", {"query": "{ __typename }", "variables": None}),
        (f"{AJAX}/experiments/search-datasets", {"experiment_ids": ["1"]}),
    ],
)  # fmt: skip
def test_what_the_dashboard_asks_passes(door: httpx.Client, mlflow: RecordingMlflow, path: str, body: Any) -> None:
    assert door.post(path, json=body).status_code == 200
    assert [json.loads(sent) for *_, sent in mlflow.requests] == [body]


def test_histories_of_a_hundred_runs_are_drawn(door: httpx.Client, mlflow: RecordingMlflow) -> None:
    query = {"run_ids": [RUN_ID] * 100, "metric_key": "val/loss", "max_results": 320}
    assert door.get(f"{AJAX}/metrics/get-history-bulk-interval", params=query).status_code == 200
    assert door.get(f"{AJAX}/model-versions/search", params={"max_results": 10_000}).status_code == 200
    assert len(mlflow.requests) == 2


def test_mlflows_client_gets_smaller_pages_of_runs(door: httpx.Client, mlflow: RecordingMlflow) -> None:
    """It asks for 10,000 runs, and then for the next ones with the token of the answer."""
    for name in ("max_results", "maxResults"):
        assert door.post(RUNS, json={"experiment_ids": ["1"], name: 10_000}).status_code == 200
        assert json.loads(mlflow.requests[-1][2]) == {"experiment_ids": ["1"], name: 1000}


def test_the_export_asks_for_what_it_needs(door: httpx.Client, mlflow: RecordingMlflow) -> None:
    body = {"filter": CLAUSES, "max_results": 5000}
    assert door.post(RUNS, json=body, headers=EXPORT).status_code == 200
    assert json.loads(mlflow.requests[-1][2]) == body
