"""Jobs and sweeps on a table with categories and missing values, over the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.datasets.preparation.preparation import Selection
from service.datasets.repository import add_dataset
from tests.fixtures.prepared import prepared
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    import httpx

    from service.settings import Settings
    from service.store import Database

ISLANDS = ("Biscoe", "Dream", "Torgersen")


@pytest.fixture(autouse=True)
def penguins(settings: Settings, database: Database) -> None:
    """A registered dataset: numbers and text, each with missing values."""
    rows = [
        f"{ISLANDS[row % 3]},{30 + row % 17 / 4},{'' if row % 11 == 0 else 3000 + row},"
        f"{'' if row % 7 == 0 else 'male'},{'Adelie' if row % 2 else 'Gentoo'}"
        for row in range(200)
    ]
    source = settings.allowed_roots[0] / "penguins.csv"
    source.write_text("\n".join(["island,bill,mass,sex,species", *rows]))
    selection = Selection(label="species")
    found = prepared([source], settings.dataset_dir.absolute(), selection)
    with database.writing() as session:
        add_dataset(session, name="penguins", selection=selection, source=str(source), prepared=found)


def job_on(**changes: Any) -> dict[str, Any]:
    own = {"data": {"dataset": "penguins"}, "model.layers": [{"type": "linear", "units": 2}], "training.batch_size": 32}
    return hinge_job(**own | changes)


def test_validate_shows_how_the_columns_are_prepared(api: httpx.Client) -> None:
    answer = api.post("/v1/jobs/validate", json=job_on())
    assert answer.status_code == 200, answer.text
    found = answer.json()
    shown = [(each["column"], each["kind"], each["first"], each["width"], each["names"]) for each in found["prepared"]]
    assert shown == [
        ("island", "category", 0, 3, [f"island = {name}" for name in ISLANDS]),
        ("bill", "number", 3, 1, ["bill"]),
        ("mass", "number", 4, 2, ["mass", "mass is missing"]),
        ("sex", "category", 6, 2, ["sex = male", "sex is missing"]),
    ]
    assert [each["prepared"] for each in found["prepared"]] == [
        "one-hot",
        "impute median, scale standard",
        "impute median, scale standard; 1 where missing",
        "one-hot; 1 where missing",
    ]
    assert found["spec"]["model"]["inputs"] == 8
    assert found["parameters"] == 8 * 2 + 2
    job = api.post("/v1/jobs", json=job_on()).json()
    assert job["spec"] == found["spec"]


def test_a_resolved_spec_can_be_submitted_again(api: httpx.Client) -> None:
    rules = [{"columns": ["m*"], "impute": 0, "clip": [0, 5000]}, {"columns": ["island"], "encode": "index"}]
    job = api.post("/v1/jobs", json=job_on(data={"dataset": "penguins", "prepare": rules})).json()
    again = api.post("/v1/jobs", json=job["spec"])
    assert again.status_code == 201, again.text
    assert again.json()["spec"] == job["spec"]
    (rule, _) = job["spec"]["data"]["prepare"]
    assert rule == {
        "columns": ["m*"],
        "impute": 0.0,
        "indicator": None,
        "clip": [0.0, 5000.0],
        "log": None,
        "scale": None,
        "encode": None,
    }


def test_wrong_rules_are_named(api: httpx.Client) -> None:
    rules = [{"columns": ["mass"], "log": True}, {"columns": ["fare*"]}, {"columns": ["sex"], "scale": "minmax"}]
    answer = api.post("/v1/jobs", json=job_on(data={"dataset": "penguins", "prepare": rules}))
    assert answer.status_code == 422
    errors = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert errors.keys() == {"data.prepare.1.columns.0", "data.prepare.2.scale"}
    assert errors["data.prepare.1.columns.0"] == ('no column matches "fare*"; the columns are island, bill, mass, sex')


def test_layers_that_read_columns_as_indices_are_checked(api: httpx.Client) -> None:
    layers = [
        {"type": "slice", "start": 2, "stop": 4},
        {"type": "embedding", "entries": 3, "units": 2, "name": "codes"},
        {"type": "flatten"},
        {"type": "linear", "units": 2},
    ]
    rules = [{"columns": ["mass"], "indicator": False}, {"columns": ["sex", "island"], "encode": "index"}]
    body = job_on(data={"dataset": "penguins", "prepare": rules}, **{"model.layers": layers})
    warnings = api.post("/v1/jobs/validate", json=body).json()["warnings"]
    (changed,) = [each["message"] for each in warnings if each["field"] == "data.prepare"]
    assert changed.startswith("changes column mass, which codes reads as indices")
    layers[0] |= {"start": 0, "stop": 1}
    warnings = api.post("/v1/jobs/validate", json=body).json()["warnings"]
    (few,) = [each["message"] for each in warnings if each["field"] == "data.prepare"]
    assert few == (
        "gives 4 indices to 'island', its categories and one for other values, but codes has only 3: a row with a "
        "higher index would end the job. Let it have 4"
    )


def test_a_sweep_over_a_field_of_a_rule(api: httpx.Client) -> None:
    base = job_on(data={"dataset": "penguins", "prepare": [{"columns": ["mass"]}]})
    del base["name"], base["experiment"]
    over = {"grid": {"data.prepare.0.impute": ["mean", "median", 4000], "data.prepare.0.indicator": [True, False]}}
    answer = api.post("/v1/sweeps", json={"name": "imputed", "base": base, "over": over})
    assert answer.status_code == 201, answer.text
    members = api.get("/v1/jobs").json()["data"]
    found = {(member["spec"]["data"]["prepare"][0]["impute"], member["spec"]["model"]["inputs"]) for member in members}
    assert found == {(way, inputs) for way in ("mean", "median", 4000.0) for inputs in (8, 7)}
    over["grid"]["data.prepare.0.impute"][1] = "middle"
    errors = api.post("/v1/sweeps", json={"name": "imputed", "base": base, "over": over}).json()["errors"]
    assert {error["field"] for error in errors} == {"over.grid.data.prepare.0.impute.1"}
