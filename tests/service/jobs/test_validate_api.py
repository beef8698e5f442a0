from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.stack.app import create_app
from tests.service.fixtures.support import hinge_job, served
from workers.job.computation import Computation

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")

NORMALIZED = [{"type": "linear", "units": 16}, {"type": "batch_norm"}, {"type": "linear", "units": 10}]

# Columns 0 and 2 to 4 as indices, through layers that only move numbers.
INDICES = [
    {"type": "slice", "start": 0, "stop": 1, "name": "first", "inputs": ["features"]},
    {"type": "slice", "start": 2, "stop": 5, "name": "others", "inputs": ["features"]},
    {"type": "concat", "inputs": ["first", "others"], "name": "all"},
    {"type": "one_hot", "classes": 3, "name": "codes"},
    {"type": "flatten"},
    {"type": "linear", "units": 10},
]


def test_validate_describes_the_job_and_creates_none(api: httpx.Client, notifications: list[str]) -> None:
    body = hinge_job(labels={"team": "vision"})
    del body["training"]["shards"]
    answer = api.post("/v1/jobs/validate", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["parameters"] == 8 * 128 + 128 + 128 * 10 + 10
    assert found["layers"] == [
        {"name": "0_linear", "type": "linear", "shape": ["batch", 128], "parameters": 8 * 128 + 128},
        {"name": "1_relu", "type": "relu", "shape": ["batch", 128], "parameters": 0},
        {"name": "scores", "type": "linear", "shape": ["batch", 10], "parameters": 128 * 10 + 10},
    ]
    assert (found["train_rows"], found["validation_rows"]) == (240, 60)
    assert found["task"] == "classification"
    assert {"val/loss", "val/accuracy", "val/hinge", "val/f1", "val/roc_auc"} <= {*found["metrics"]}
    assert not any("error" in name for name in found["metrics"])
    assert (found["steps_per_epoch"], found["total_steps"]) == (2, 40)
    assert found["memory_per_worker_bytes"] > 4 * 4 * found["parameters"]
    assert [warning["field"] for warning in found["warnings"]] == ["resources"]
    assert notifications == []
    assert api.get("/v1/jobs").json()["data"] == []
    job = api.post("/v1/jobs", json=body).json()
    assert found["spec"] == job["spec"]
    assert found["total_steps"] == job["progress"]["total_steps"]


def test_memory_is_estimated_once(api: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.max_worker_bytes = 10**9
    estimates: list[int] = []
    largest_program = Computation.largest_program

    def counted(*arguments: Any) -> Any:
        estimates.append(1)
        return largest_program(*arguments)

    monkeypatch.setattr(Computation, "largest_program", counted)
    for path in ("/v1/jobs/validate", "/v1/jobs"):
        estimates.clear()
        assert api.post(path, json=hinge_job()).is_success
        assert len(estimates) == 1


def test_a_model_of_images_names_the_shape_of_a_row(api: httpx.Client) -> None:
    layers = [{"type": "conv2d", "filters": 3, "kernel": [1, 2]}, {"type": "flatten"}, {"type": "linear", "units": 10}]
    body = hinge_job(**{"model.layers": layers, "model.inputs": [2, 4, 1]})
    found = api.post("/v1/jobs/validate", json=body).json()
    assert [layer["shape"] for layer in found["layers"]] == [["batch", 2, 3, 3], ["batch", 18], ["batch", 10]]
    assert found["parameters"] == 2 * 3 + 3 + 18 * 10 + 10
    job = api.post("/v1/jobs", json=body).json()
    assert job["spec"] == found["spec"]
    assert job["spec"]["model"]["inputs"] == [2, 4, 1]
    without = {**body, "model": {"layers": layers}}
    (error,) = api.post("/v1/jobs", json=without).json()["errors"]
    assert error["field"] == "model.layers.0"
    assert "Set model.inputs to the shape of a row, such as [2, 4, 1]" in error["message"]


def test_parameters_that_layers_share_are_counted_once(api: httpx.Client) -> None:
    layers: list[dict[str, Any]] = [
        {"type": "linear", "units": 8, "name": "first"},
        {"type": "linear", "units": 8, "share": "first"},
        {"type": "linear", "units": 10},
    ]
    found = api.post("/v1/jobs/validate", json=hinge_job(**{"model.layers": layers})).json()
    assert [layer["parameters"] for layer in found["layers"]] == [72, 0, 90]
    assert found["parameters"] == 162


@pytest.mark.parametrize(
    "changes",
    [
        {"training.epochs": 0},
        {"model.layers.2.units": 9, "training.batch_size": 1000},
        {"data.dataset": "digit"},
        {"resources.workers": 3},
        {"resources.gpus_per_worker": 1},
        {"labels": {"a b": "c"}},
    ],
)
def test_validate_rejects_invalid_jobs_as_submitting_does(
    settings: Settings, database: Database, changes: dict[str, Any]
) -> None:
    app = create_app(settings.model_copy(update={"cluster_cpus": 2}), database=database)
    with served(app) as url, httpx.Client(base_url=url) as api:
        validated = api.post("/v1/jobs/validate", json=hinge_job(**changes))
        submitted = api.post("/v1/jobs", json=hinge_job(**changes))
    assert validated.status_code == submitted.status_code == 422
    assert validated.json()["errors"] == submitted.json()["errors"]


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({}, None, ""),
        (
            {"resources.workers": 3},
            "resources.workers",
            "2 threads would be as fast; training.shards of 6 would use all",
        ),
        (
            {"resources.workers": 3, "resources.cpus_per_worker": 2},
            "resources.workers",
            "4 threads would be as fast; training.shards of 6 would use all",
        ),
        (
            {"model.layers": NORMALIZED, "training.batch_size": 8},
            "training.batch_size",
            "the smallest shard of a batch has 2 values of each feature",
        ),
        (
            {"model.layers": NORMALIZED, "training.batch_size": 100},
            "training.batch_size",
            "the smallest shard of an epoch's last batch has 10 values of each feature",
        ),
        ({"training.batch_size": 239}, "training.batch_size", "has 1 row for 4 shards"),
        ({"data.validation": 0}, "data.validation", "no metrics under val/"),
        (
            {"model.layers": INDICES},
            "data.standardize",
            "changes columns 0, 2-4, which codes reads as indices: they must be integers from 0, so the job would fail",
        ),
        ({"model.layers": INDICES, "data.standardize": False}, None, ""),
    ],
)
def test_warnings(
    settings: Settings, database: Database, changes: dict[str, Any], field: str | None, message: str
) -> None:
    app = create_app(settings.model_copy(update={"cluster_cpus": 8}), database=database)
    with served(app) as url, httpx.Client(base_url=url) as api:
        warnings = api.post("/v1/jobs/validate", json=hinge_job(**changes)).json()["warnings"]
    assert [warning["field"] for warning in warnings] == ([field] if field else [])
    assert all(message in warning["message"] for warning in warnings)


def test_a_block_and_a_head_are_one_layer_of_the_preview(api: httpx.Client) -> None:
    linear = {"type": "linear", "units": 8}
    block = {"type": "repeat", "times": 3, "layers": [linear, {"type": "batch_norm"}], "name": "trunk"}
    layers = [linear, block, {"type": "linear", "units": 10}]
    head = {"reads": "trunk", "layers": [{"type": "relu"}, {"type": "linear", "units": 10}]}
    found = api.post("/v1/jobs/validate", json=hinge_job(**{"model.layers": layers, "model.heads": [head]})).json()
    shown = [(layer["name"], layer["type"], layer["shape"], layer["parameters"]) for layer in found["layers"]]
    assert shown == [
        ("0_linear", "linear", ["batch", 8], 8 * 8 + 8),
        ("trunk", "repeat", ["batch", 8], 3 * (8 * 8 + 8 + 2 * 8)),
        ("scores", "linear", ["batch", 10], 90),
        ("head_0", "head", ["batch", 10], 90),
    ]
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    assert found["spec"]["model"]["layers"][1]["times"] == 3


@pytest.mark.parametrize(
    ("block", "field", "words"),
    [
        ({"times": 2, "layers": [{"type": "linear", "units": 0}]}, "layers.0.units", "must be at least 1, not 0"),
        ({"times": 2, "layers": [{"type": "linaer"}]}, "layers.0", "did you mean 'linear'?"),
        ({"times": 2, "layers": [{"units": 3}]}, "layers.0.type", "is required"),
        ({"times": 2, "layers": [{"type": "relu", "unit": 3}]}, "layers.0.unit", "is not a known field"),
        ({"times": 2, "layers": []}, "", "repeat.layers must have at least one layer"),
        ({"times": 2, "layers": [{"type": "relu"}], "share": "x"}, "share", "is not a known field"),
        ({"times": 2, "layers": [{"type": "add"}]}, "layers.0.inputs", "takes at least 2 inputs, not 1"),
        ({"times": 2, "layers": [{"type": "linear", "units": 8}, {"type": "reshape", "shape": [9]}]}, "layers.1", "9"),
        ({"times": 1024, "layers": [{"type": "relu"}]}, None, "makes 1,025 layers with blocks expanded"),
    ],
)
def test_errors_in_a_block_name_the_place(
    api: httpx.Client, block: dict[str, Any], field: str | None, words: str
) -> None:
    layers = [{"type": "repeat", **block}, {"type": "linear", "units": 10}]
    answer = api.post("/v1/jobs/validate", json=hinge_job(**{"model.layers": layers}))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    path = "model.layers" if field is None else f"model.layers.0.{field}".rstrip(".")
    assert error["field"] == path
    assert words in error["message"]
