from __future__ import annotations

import json
import subprocess
import sys
import threading
from io import StringIO
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from service.cli.live import follow
from service.cli.main import JOB_FAILED
from service.cli.main import app as command_line
from service.cli.spec_file import read_spec
from service.client import ApiError, Client
from service.http import http_client
from service.jobs.metrics import Point, record_points
from service.jobs.repository import move, record_progress, start_attempt
from service.jobs.states import State
from tests.service.support import free_port, hinge_job, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.settings import Settings
    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture
def url(api: httpx.Client) -> str:
    return str(api.base_url).rstrip("/")


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def run(url: str, *arguments: str) -> Any:
    return CliRunner().invoke(command_line, [*arguments, "--url", url])


def train(database: Database, job_id: str, end: State, reason: str | None = None) -> None:
    """What a scheduler would write about a job of 20 epochs."""
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING)
        record_points(session, job_id, attempt, [Point("train/loss", 20, 0.25, 1), Point("val/accuracy", 20, 0.5, 1)])
        record_progress(session, job_id, attempt, epoch=20, step=20)
        move(session, job_id, from_=State.RUNNING, to=end, reason=reason)


def test_the_client_speaks_every_call(client: Client, database: Database, settings: Settings) -> None:
    job = client.submit(hinge_job(), idempotency_key="k")
    assert client.submit(hinge_job(), idempotency_key="k") == job
    assert client.job(job["id"]) == job
    assert client.jobs() == client.jobs(state="queued", experiment="hinge-vs-softmax") == [job]
    with pytest.raises(TimeoutError, match="is queued"):
        client.wait(job["id"], timeout=0)
    train(database, job["id"], State.SUCCEEDED)
    assert client.wait(job["id"])["state"] == "succeeded"
    assert client.metrics(job["id"])["train/loss"] == {"steps": [20], "values": [0.25]}
    assert list(client.metrics(job["id"], names=["val/accuracy"], from_step=20, to_step=20)) == ["val/accuracy"]
    second = client.submit(hinge_job())
    assert client.pause(second["id"])["state"] == "paused"
    assert client.resize(second["id"], workers=1)["spec"]["resources"]["workers"] == 1
    assert client.resume(second["id"])["state"] == "queued"
    first, *others = client.events(second["id"])
    assert client.events(second["id"], limit=2, starting_after=first["id"]) == others[:2]
    assert client.cancel(second["id"])["state"] == "cancelled"
    write_parquet(settings.allowed_roots[0] / "more.parquet", seed=2)
    more = client.register_dataset("more", settings.allowed_roots[0] / "more.parquet", "label")
    assert [entry["name"] for entry in client.datasets()] == ["digits", "more"]
    assert client.datasets()[1] == more


def test_an_error_names_every_field(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        client.submit(hinge_job(**{"training.epochs": 0, "loss.margin": float("nan")}))
    assert caught.value.problem["status"] == 422
    assert "loss.margin: must be a finite number" in str(caught.value)
    with pytest.raises(ApiError, match="There is no job"):
        client.job("job_x")


def test_loopback_addresses_are_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with http_client(url, 5) as http:
        assert http.get("/healthz").is_success
    with httpx.Client(base_url=url) as http, pytest.raises(httpx.ConnectError):
        http.get("/healthz")


def test_pause_resume_and_resize(url: str, client: Client) -> None:
    job_id = client.submit(hinge_job())["id"]
    assert run(url, "pause", job_id).stdout == f"{job_id} paused\n"
    assert run(url, "resume", job_id, "--workers", "3").stdout == f"{job_id} queued\n"
    assert client.job(job_id)["spec"]["resources"]["workers"] == 3
    resized = run(url, "resize", job_id, "--workers", "2", "--cpus-per-worker", "2")
    assert resized.stdout == f"{job_id} 2 workers of 2 CPUs\n"
    refused = run(url, "resume", job_id, "--workers", "9")
    assert refused.exit_code == 1
    assert "9 workers of 2 CPUs would share 4 shards" in refused.stderr


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_submit_and_show(url: str, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"job{suffix}"
    file.write_text(json.dumps(hinge_job()) if suffix == ".json" else yaml.safe_dump(hinge_job()))
    submitted = run(url, "submit", str(file))
    assert submitted.exit_code == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    shown = run(url, "show", job_id)
    assert json.loads(shown.stdout)["id"] == job_id
    assert job_id in run(url, "jobs").stdout
    assert run(url, "cancel", job_id).stdout == f"{job_id} cancelled\n"
    assert "digits" in run(url, "datasets", "list").stdout


def test_yaml_numbers_are_those_of_json(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("lr: 1e-4\nl2: -2E5\nname: 2024-01-01\nepochs: 10\nfloat: 1.5e3\ntrue: false\nlayer: 1e\n")
    assert read_spec(file) == {
        "lr": 1e-4, "l2": -2e5, "name": "2024-01-01", "epochs": 10, "float": 1500.0, True: False, "layer": "1e",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '{"name": }', "line 1, column 10"),
        ("a.yaml", "name: [1", "line 1"),
        ("a.yaml", "- a", "holds no spec"),
        ("a.yaml", "!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("absent.yaml", None, "cannot be read: No such file"),
    ],
)
def test_files_that_hold_no_spec(url: str, tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    result = run(url, "submit", str(tmp_path / name))
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_refused_spec_says_why(url: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(hinge_job(**{"training.epochs": 0})))
    result = run(url, "submit", str(tmp_path / "job.yaml"))
    assert result.exit_code == 1
    assert result.stderr == "gradfleet: training.epochs: must be at least 1, not 0\n"


def test_nothing_at_the_address() -> None:
    result = run(f"http://127.0.0.1:{free_port()}", "jobs")
    assert result.exit_code == 1
    assert result.stderr.startswith("gradfleet: nothing answers at http://127.0.0.1")
    assert result.stderr.count("\n") == 1


def test_a_dataset_is_added_by_its_path(url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(settings.allowed_roots[0] / "more.parquet", seed=2)
    monkeypatch.chdir(settings.allowed_roots[0])
    result = run(url, "datasets", "add", "more", "more.parquet", "--label", "label")
    assert result.stdout == "more: 300 rows, 8 features, 10 classes\n"


@pytest.mark.parametrize(("end", "code"), [(State.SUCCEEDED, 0), (State.FAILED, JOB_FAILED)])
def test_watch_ends_with_the_job(url: str, client: Client, database: Database, end: State, code: int) -> None:
    job_id = client.submit(hinge_job())["id"]
    train(database, job_id, end, reason=None if end is State.SUCCEEDED else "diverged: [loss] is NaN")
    result = run(url, "watch", job_id)
    assert result.exit_code == code
    assert result.stdout == f"digits-hinge  {end}  epoch 20  step 20/40  train loss 0.2500  val accuracy 0.5000\n"
    assert (result.stderr == "") == (code == 0)
    assert code == 0 or result.stderr == f"gradfleet: job {job_id} failed: diverged: [loss] is NaN\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_following_several_jobs(client: Client, database: Database, terminal: bool) -> None:
    ids = [client.submit(hinge_job(name=name))["id"] for name in ("first [bold]", "second")]
    looked = threading.Event()
    see = client.job

    def job(job_id: str) -> dict[str, Any]:
        looked.set()
        return see(job_id)

    client.job = job  # type: ignore[method-assign]
    text = StringIO()
    console = Console(file=text, force_terminal=terminal, width=140, no_color=True)
    followed: list[list[dict[str, Any]]] = []
    thread = threading.Thread(target=lambda: followed.append(follow(client, ids, console)))
    thread.start()
    assert looked.wait(5)
    train(database, ids[1], State.SUCCEEDED)
    train(database, ids[0], State.FAILED)
    thread.join(10)
    assert [(job["id"], job["state"]) for job in followed[0]] == [(ids[0], "failed"), (ids[1], "succeeded")]
    assert "first [bold]" in text.getvalue()
    assert "train loss 0.2500" in text.getvalue()
    assert ("\x1b" in text.getvalue()) == terminal


def test_the_command_line_starts_without_the_heavy_parts() -> None:
    heavy = {"sqlalchemy", "fastapi", "mlflow", "ray", "numpy", "pyarrow", "matplotlib", "pandas"}
    code = f"import sys, service.cli.main; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
