"""The datasets that scikit-learn brings, registered by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from sklearn import datasets

from service.cli.demo.digits import write_digits
from service.datasets.examples import EXAMPLES, ExampleName
from service.datasets.repository import find_dataset, located, snapshot_of
from tests.service.fixtures.support import hinge_job, run
from workers.data.dataset import DatasetInfo, open_dataset

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from service.settings import Settings
    from service.store import Database

reading_here = pytest.mark.usefixtures("reading_here")


def register(api: httpx.Client, name: str, example: str, **fields: Any) -> httpx.Response:
    return api.post("/v1/datasets", json={"name": name, "example": example, **fields}, timeout=60)


def test_every_name_of_a_request_has_an_example() -> None:
    assert set(EXAMPLES) == set(get_args(ExampleName))


@reading_here
@pytest.mark.parametrize("name", list(EXAMPLES))
def test_an_example_has_the_rows_of_scikit_learn(
    api: httpx.Client, database: Database, settings: Settings, name: str
) -> None:
    answer = register(api, "mine", name)
    assert answer.status_code == 201, answer.text
    assert answer.json()["warnings"] == []
    loaded = getattr(datasets, f"load_{name}")()
    with database.reading() as session:
        info = DatasetInfo.from_json(located(snapshot_of(find_dataset(session, "mine")), settings))
    features, truth = open_dataset(info)
    assert np.array_equal(features, loaded.data.astype(np.float32))
    assert np.array_equal(truth.reshape(-1), loaded.target.astype(np.float32))
    assert info.classes == tuple(map(str, loaded.target_names if name != "diabetes" else ()))
    described = next(each for each in api.get("/v1/examples").json()["data"] if each["name"] == name)
    assert (described["rows"], described["features"]) == loaded.data.shape == (info.rows, info.features)
    assert described["classes"] == list(info.classes)
    dataset = api.get("/v1/datasets/mine").json()
    assert dataset["source"] == f"scikit-learn://{name}"
    if name != "digits":
        assert [column["name"] for column in dataset["columns"]] == list(map(str, loaded.feature_names))
    assert dataset["shape"] == ([8, 8, 1] if name == "digits" else None)
    again = register(api, "mine", name)
    assert (again.status_code, again.json()["version"]) == (200, 1)


@reading_here
def test_the_digits_of_the_demo_are_the_same_dataset(api: httpx.Client, uploads: Path) -> None:
    digits = register(api, "digits", "digits").json()
    write_digits(uploads / "digits.parquet", validation=0.2, seeds=[0])
    demo = api.post("/v1/datasets", json={"name": "digits", "path": "digits.parquet", "shape": [8, 8]})
    assert (demo.status_code, demo.json()["digest"], demo.json()["version"]) == (200, digits["digest"], 1)


def test_a_job_on_a_new_service_without_any_file(api: httpx.Client) -> None:
    """In processes of their own, as the service does it."""
    assert register(api, "digits", "digits").status_code == 201
    answer = api.post("/v1/jobs", json=hinge_job())
    assert (answer.status_code, answer.json()["dataset"]["name"]) == (201, "digits")


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"name": "x"}, "path", "digits, iris"),
        ({"name": "x", "example": "mnist"}, "example", "digits"),
        ({"name": "x", "example": "digits", "path": "t.csv"}, "path", "beside example"),
        ({"name": "x", "example": "digits", "label": "label"}, "label", "beside example"),
        ({"name": "x", "example": "digits", "shape": [64, 1]}, "shape", "beside example"),
        ({"example": "digits"}, "name", "required"),
    ],
)
def test_a_request_that_is_wrong(api: httpx.Client, body: dict[str, Any], field: str, words: str) -> None:
    answer = api.post("/v1/datasets", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], words in error["message"]) == (field, True), error


@reading_here
def test_the_command(url: str, api: httpx.Client) -> None:
    listed = run(url, "datasets", "examples")
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(EXAMPLES)
    assert api.get("/v1/datasets").json() == {"data": []}
    added = run(url, "datasets", "examples", "iris", "diabetes")
    assert added.exit_code == 0, added.output
    assert added.stdout.splitlines() == [
        "iris: 150 rows, 4 features, 3 classes", "diabetes: 442 rows, 10 features, 1 target"
    ]  # fmt: skip
    assert [each["name"] for each in api.get("/v1/datasets").json()["data"]] == ["diabetes", "iris"]
    unknown = run(url, "datasets", "examples", "mnist")
    assert (unknown.exit_code, "diabetes" in unknown.stderr) == (1, True)
