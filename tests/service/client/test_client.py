from __future__ import annotations

import subprocess
import sys
import typing
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.client import ApiError, Client, JobFailedError, views
from service.client.http import http_client
from service.datasets.schemas import (
    ColumnView,
    DatasetDetail,
    DatasetView,
    PreviewRow,
    RegisteredDataset,
    StatisticsView,
    VersionView,
)
from service.http.problems import FieldProblemView
from service.jobs import schemas
from service.jobs.preview import JobPreview, LayerPreview
from service.jobs.states import TERMINAL, State
from service.sweeps import schemas as sweeps
from service.sweeps.repository import STOPPED
from tests.service.fixtures.support import free_port, hinge_job, train, write_parquet

if TYPE_CHECKING:
    from pydantic import BaseModel

    from service.settings import Settings
    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the client does not depend on the database


@pytest.mark.usefixtures("digits")
def test_life_of_a_job(client: Client, database: Database) -> None:
    job = client.submit(hinge_job(labels={"team": "vision"}))
    assert (job.name, job.state, job.reason, job.ended) == ("digits-hinge", "queued", None, False)
    assert job["labels"] == {"team": "vision"}
    assert repr(job) == f"<Job {job.id} 'digits-hinge' queued>"
    with pytest.raises(TimeoutError, match=rf"^job {job.id} is queued after 0 s$"):
        job.wait(timeout=0)
    with pytest.raises(ApiError, match=r"queued") as caught:
        job.delete()
    assert caught.value.status == 409
    train(database, job.id, State.SUCCEEDED)
    assert job.state == "queued", "the state is not refreshed by itself"
    assert job.wait() is job
    assert (job.state, job.ended) == ("succeeded", True)
    assert job.progress == {"epoch": 20, "step": 20, "total_steps": 40}
    assert job.latest == {"train/loss": 0.25, "val/accuracy": 0.5}
    assert job.data == client.job(job.id).data
    history = list(job.history())
    assert list(job.events()) == history
    assert list(job.events(after=history[1]["id"])) == list(job.history(after=history[1]["id"])) == history[2:]
    assert list(job.events(after=history[-1]["id"])) == []
    assert [event["to_state"] for event in history if event["kind"] == "state"][-1] == "succeeded"
    job.delete()
    with pytest.raises(ApiError, match="There is no job"):
        job.refresh()


@pytest.mark.usefixtures("digits")
def test_pausing_and_resizing(client: Client) -> None:
    job = client.submit(hinge_job())
    assert job.pause() is job
    assert job.state == "paused"
    assert job.resize(workers=1)["spec"]["resources"] == {"workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0}
    assert job.resize(cpus_per_worker=2)["spec"]["resources"]["workers"] == 1
    assert job.resume().state == "queued"
    assert job.cancel().state == "cancelled"


@pytest.mark.usefixtures("digits")
def test_waiting_for_a_job_that_fails(client: Client, database: Database) -> None:
    job = client.submit(hinge_job())
    train(database, job.id, State.FAILED, reason="diverged: the loss is NaN")
    with pytest.raises(JobFailedError, match="failed: diverged: the loss is NaN"):
        job.wait()


@pytest.mark.usefixtures("digits")
def test_metrics_are_a_table(client: Client, database: Database) -> None:
    job = client.submit(hinge_job())
    empty = job.metrics()
    assert empty.num_rows == 0
    train(database, job.id, State.SUCCEEDED)
    table = job.metrics()
    assert table.schema == empty.schema
    assert table.schema.names == ["name", "step", "value"]
    assert pa.types.is_dictionary(table.schema.field("name").type)
    assert table.schema.field("step").type == pa.int64()
    assert table.schema.field("value").type == pa.float64()
    assert table.to_pylist() == [
        {"name": "train/loss", "step": 20, "value": 0.25},
        {"name": "val/accuracy", "step": 20, "value": 0.5},
    ]
    assert job.metrics(["val/accuracy"], from_step=20, to_step=20).num_rows == 1
    assert job.metrics(from_step=21).num_rows == 0
    assert job.metrics(max_points=4).equals(table)
    assert job.export_metrics("text/csv", ["train/loss"]) == b"step,name,value\n20,train/loss,0.25\n"


@pytest.mark.usefixtures("digits")
def test_listing_jobs_reads_all_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.pages.LARGEST_PAGE", 2)
    before = datetime.now(UTC)
    made = [client.submit(hinge_job(name=str(number), labels={"number": str(number % 2)})).id for number in range(5)]
    newest_first = made[::-1]
    assert [job.id for job in client.jobs()] == newest_first
    for limit in range(7):
        assert [job.id for job in client.jobs(limit=limit)] == newest_first[:limit]
    assert [job.id for job in islice(client.jobs(), 3)] == newest_first[:3]
    client.job(made[0]).cancel()
    assert [job.id for job in client.jobs(state="cancelled", experiment="hinge-vs-softmax")] == made[:1]
    assert list(client.jobs(experiment="another")) == []
    assert [job.name for job in client.jobs(labels={"number": "0"})] == ["4", "2", "0"]
    assert [job.id for job in client.jobs(created_after=before)] == newest_first
    assert list(client.jobs(created_before=before)) == []


@pytest.mark.usefixtures("digits")
def test_validating_creates_no_job(client: Client) -> None:
    preview = client.validate(hinge_job())
    assert (preview["parameters"], preview["total_steps"]) == (2442, 40)
    assert preview["layers"][0]["shape"] == ["batch", 128]
    assert list(client.jobs()) == []


@pytest.mark.usefixtures("digits")
def test_datasets(client: Client, settings: Settings) -> None:
    path = settings.allowed_roots[0] / "more.parquet"
    write_parquet(path, seed=2)
    more = client.register_dataset("more", path, "label")
    assert client.register_dataset("more", path, "label") == more
    assert [entry["name"] for entry in client.datasets()] == ["digits", "more"]
    assert client.datasets()[1] | {"warnings": []} == more
    # The same content as an upload.
    assert client.upload_dataset("more", path, features=["*"]) == more
    assert client.upload_dataset("more", path, "label", features=["x1", "x0"])["version"] == 2
    assert client.dataset("more@1")["digest"] == more["digest"]
    assert [len(row["features"]) for row in client.preview_dataset("more", 3)] == [2, 2, 2]
    with pytest.raises(ApiError, match="its rows are not images"):
        client.contact_sheet("more")
    table = pa.table({"a": [1, 2, 3], "part": ["train", "test", "train"], "label": [0, 1, 1]})
    pq.write_table(table, settings.allowed_roots[0] / "parts.parquet")
    parts = client.register_dataset("parts", settings.allowed_roots[0] / "parts.parquet", split_column="part")
    assert (parts["split_column"], parts["splits"]) == ("part", {"test": 1, "train": 2})


@pytest.mark.usefixtures("digits")
def test_an_error_names_every_field(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        client.submit(hinge_job(**{"training.epochs": 0, "loss.margin": float("nan")}))
    assert caught.value.status == caught.value.problem["status"] == 422
    assert "loss.margin: must be a finite number" in str(caught.value)
    with pytest.raises(ApiError, match="There is no job"):
        client.job("job_x")


@pytest.mark.parametrize(
    ("view", "model"),
    [
        (views.Progress, schemas.ProgressView),
        (views.Attempt, schemas.AttemptView),
        (views.MlflowRun, schemas.MlflowView),
        (views.JobData, schemas.JobView),
        (views.Membership, schemas.MembershipView),
        (views.SweepData, sweeps.SweepView),
        (views.SweepMlflowRun, sweeps.SweepMlflowView),
        (views.Member, sweeps.MemberView),
        (views.Statistic, sweeps.StatisticView),
        (views.Group, sweeps.GroupView),
        (views.Comparison, sweeps.ComparisonView),
        (views.Event, schemas.EventView),
        (views.JobDataset, schemas.JobDatasetView),
        (views.Dataset, DatasetView),
        (views.RegisteredDataset, RegisteredDataset),
        (views.DatasetDetail, DatasetDetail),
        (views.Column, ColumnView),
        (views.Statistics, StatisticsView),
        (views.Version, VersionView),
        (views.PreviewRow, PreviewRow),
        (views.Layer, LayerPreview),
        (views.FieldNote, FieldProblemView),
        (views.Preview, JobPreview),
    ],
)
def test_the_views_of_the_client_match_the_schemas_of_the_service(view: type, model: type[BaseModel]) -> None:
    fields = typing.get_type_hints(view)
    assert list(fields) == list(model.model_fields)
    for name, field in model.model_fields.items():
        can_be_null = type(None) in typing.get_args(field.annotation)
        assert (type(None) in typing.get_args(fields[name])) == can_be_null, name


def test_the_terminal_states_of_the_client_match_those_of_the_service() -> None:
    assert set(TERMINAL) == views.TERMINAL
    lasting = {sweeps.SweepState.QUEUED, sweeps.SweepState.RUNNING, sweeps.SweepState.PAUSED}
    assert set(sweeps.SweepState) - lasting == views.TERMINAL_OF_SWEEPS
    assert views.STOPPED == STOPPED


def test_the_client_imports_no_heavy_packages(url: str) -> None:
    heavy = {"ray", "sqlalchemy", "fastapi", "mlflow", "pyarrow", "numpy", "pydantic", "uvicorn", "typer"}
    code = f"""
import sys
from service.client import Client
with Client({url!r}) as client:
    assert list(client.jobs()) == []
print(sorted({heavy!r} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_requests_to_loopback_addresses_bypass_the_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with http_client(url, 5) as http:
        assert http.get("/healthz").is_success
    with httpx.Client(base_url=url) as http, pytest.raises(httpx.ConnectError):
        http.get("/healthz")
