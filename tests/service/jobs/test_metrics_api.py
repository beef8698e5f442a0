from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from service.jobs.repository import move, start_attempt
from service.jobs.series.formats import ARROW
from service.jobs.series.points import Point
from service.jobs.states import State
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    import httpx

    from service.store import Database

VALUES = [1 / step + math.sin(step) for step in range(1, 1001)]
pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture
def metrics(api: httpx.Client, database: Database) -> str:
    """Path of the metrics of a job with 1000 points of train/loss and 2 of val/loss, one of them NaN."""
    job_id = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        points = [Point("train/loss", step, value, 0) for step, value in enumerate(VALUES, 1)]
        points += [Point("val/loss", 500, 0.25, 0), Point("val/loss", 1000, math.nan, 0)]
        record_points(session, job_id, attempt, points)
    return f"/v1/jobs/{job_id}/metrics"


def arrow(answer: httpx.Response) -> pa.Table:
    assert answer.headers["content-type"] == ARROW
    return pa.ipc.open_stream(answer.content).read_all()


def test_every_format_gives_the_same_points(api: httpx.Client, metrics: str) -> None:
    whole = api.get(metrics)
    assert (whole.headers["content-type"], whole.headers["vary"]) == ("application/json", "Accept")
    series = whole.json()["data"]
    assert series["train/loss"] == {"steps": list(range(1, 1001)), "values": VALUES}
    assert series["val/loss"] == {"steps": [500, 1000], "values": [0.25, None]}
    table = arrow(api.get(metrics, headers={"Accept": ARROW}))
    assert table.schema == pa.schema(
        [("name", pa.dictionary(pa.int32(), pa.string())), ("step", pa.int64()), ("value", pa.float64())]
    )
    text = api.get(metrics, headers={"Accept": "text/csv"})
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    rows = [(row["name"], int(row["step"]), float(row["value"])) for row in csv.DictReader(io.StringIO(text.text))]
    columns = (table[name].to_pylist() for name in ("name", "step", "value"))
    assert [*map(repr, zip(*columns, strict=True))] == [*map(repr, rows)]
    assert [row[2] for row in rows[:1000]] == VALUES
    assert math.isnan(rows[-1][2])


def test_a_job_without_points(api: httpx.Client, metrics: str) -> None:
    none = {"params": {"name": "no/such"}}
    assert api.get(metrics, **none).json() == {"data": {}}
    assert api.get(metrics, **none, headers={"Accept": "text/csv"}).text == "step,name,value\n"
    assert arrow(api.get(metrics, **none, headers={"Accept": ARROW})).num_rows == 0


@pytest.mark.parametrize("most", [4, 100, 999, 1000])
def test_series_are_thinned_to_max_points(api: httpx.Client, metrics: str, most: int) -> None:
    data = api.get(metrics, params={"max_points": most}).json()["data"]
    steps, values = data["train/loss"]["steps"], data["train/loss"]["values"]
    assert len(steps) <= most
    assert (steps[0], steps[-1], min(values), max(values)) == (1, 1000, min(VALUES), max(VALUES))
    assert values == [VALUES[step - 1] for step in steps]
    assert data["val/loss"]["steps"] == [500, 1000], "a short series is not thinned"
    assert arrow(api.get(metrics, params={"max_points": most}, headers={"Accept": ARROW})).num_rows == len(steps) + 2


def test_an_unknown_format_is_rejected(api: httpx.Client, metrics: str) -> None:
    answer = api.get(metrics, headers={"Accept": "application/vnd.apache.parquet"})
    assert answer.status_code == 406
    assert answer.headers["content-type"] == "application/problem+json"
    assert "available: application/json, text/csv, application/vnd.apache.arrow.stream" in answer.json()["detail"]
    for wrong in ("3", "x", str(2**63)):
        problem = api.get(metrics, params={"max_points": wrong})
        assert (problem.status_code, problem.json()["errors"][0]["field"]) == (422, "max_points")
