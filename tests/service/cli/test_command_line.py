from __future__ import annotations

import json
import subprocess
import sys
import threading
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from service.cli.connection import JOB_FAILED
from service.cli.live.live import figures, follow
from service.cli.main import app as command_line
from service.client import ApiError, Client
from service.jobs.repository import move, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import State
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import free_port, hinge_job, run, train, wait_until, write_parquet

if TYPE_CHECKING:
    from pathlib import Path

    from service.settings import Settings
    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the client does not depend on the database


def test_pause_resume_and_resize(url: str, client: Client) -> None:
    job_id = client.submit(hinge_job()).id
    assert run(url, "pause", job_id).stdout == f"{job_id} paused\n"
    assert run(url, "resume", job_id, "--workers", "3").stdout == f"{job_id} queued\n"
    assert client.job(job_id)["spec"]["resources"]["workers"] == 3
    resized = run(url, "resize", job_id, "--workers", "2", "--cpus-per-worker", "2")
    assert resized.stdout == f"{job_id} 2 workers of 2 CPUs\n"
    rejected = run(url, "resume", job_id, "--workers", "0")
    assert rejected.exit_code == 1
    assert "resources.workers: must be at least 1" in rejected.stderr


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


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '{"name": }', "line 1, column 10"),
        ("a.yaml", "name: [1", "line 1"),
        ("a.yaml", "- a", "contains a list, not an object with fields"),
        ("a.yaml", "!!python/object/apply:os.system [ls]", "tags such as"),
        ("absent.yaml", None, "cannot be read: No such file"),
    ],
)
def test_invalid_spec_files(url: str, tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    result = run(url, "submit", str(tmp_path / name))
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_the_error_of_a_rejected_spec(url: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(hinge_job(**{"training.epochs": 0})))
    result = run(url, "submit", str(tmp_path / "job.yaml"))
    assert result.exit_code == 1
    assert result.stderr == "gradfleet: training.epochs: must be at least 1, not 0\n"


def test_no_service_at_the_address() -> None:
    result = run(f"http://127.0.0.1:{free_port()}", "jobs")
    assert result.exit_code == 1
    assert result.stderr.startswith("gradfleet: no service responds at http://127.0.0.1")
    assert result.stderr.count("\n") == 1


def test_a_dataset_is_added_by_its_path(url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(settings.allowed_roots[0] / "more.parquet", seed=2)
    monkeypatch.chdir(settings.allowed_roots[0])
    result = run(url, "datasets", "add", "more", "more.parquet", "--label", "label")
    said, head, *columns = result.stdout.splitlines()
    assert said == "more: 300 rows, 8 features, 10 classes"
    assert head.split() == ["column", "kind", "examples", "distinct", "missing"]
    assert [line.split()[:2] for line in columns] == [[f"x{index}", "number"] for index in range(8)]
    monkeypatch.chdir("/")
    seen_from_uploads = run(url, "datasets", "add", "again", "more.parquet", "--label", "label")
    assert seen_from_uploads.stdout.startswith("again: 300 rows, 8 features, 10 classes\n")
    absent = run(url, "datasets", "add", "absent", "uploads/absent.csv")
    assert absent.stderr.startswith("gradfleet: path: 'uploads/absent.csv' is not a file or folder there; give a path")


def test_a_dataset_is_uploaded_listed_and_shown(url: str, tmp_path: Path) -> None:
    images = np.arange(4 * 36, dtype=np.uint8).reshape(4, 36)
    np.savez(tmp_path / "all.npz", pixels=images, y=[0, 1, 0, 1])
    add = ("datasets", "add", "all", str(tmp_path / "all.npz"), "--label", "y", "--upload")
    assert run(url, *add, "--class", "cat", "--class", "dog").stdout.startswith("all: 4 rows, 36 features, 2 classes\n")
    assert run(url, *add, "--shape", "6x6").stdout.startswith("all: 4 rows, 36 features, 2 classes\n")
    listed = run(url, "datasets", "list").stdout.splitlines()
    assert listed[1].split() == ["all", "2", "4", "36", "2", "y", "uint8", "6x6x1"]
    shown = run(url, "datasets", "show", "all", "--rows", "2", "--contact-sheet", str(tmp_path / "sheet.png")).stdout
    first, source, *versions, columns, pixels, head, zero, one, wrote = shown.splitlines()
    assert first == "all@2: 4 rows, 36 features, 2 classes"
    assert source.startswith("from all.npz (npy), sha256 ")
    assert [line.split(":")[0] for line in versions] == ["  version 2", "  version 1"]
    assert columns.split() == ["column", "kind", "examples", "distinct", "missing"]
    assert pixels.split() == ["pixels", "number", "(36", "numbers)"]
    assert head.split() == ["row", *"12345678", "...", "y"]
    assert zero.split() == ["1", *"01234567", "...", "0"]
    assert one.split() == ["2", *(str(number) for number in range(36, 44)), "...", "1"]
    assert wrote == f"wrote {tmp_path / 'sheet.png'}"
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_dataset_with_a_split_column(url: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,part,label\n1,train,x\n2,test,y\n3,train,y\n")
    add = ("datasets", "add", "t", str(tmp_path / "t.csv"), "--split-column", "part", "--upload")
    assert run(url, *add).stdout.startswith("t: 3 rows, 1 feature, 2 classes\n")
    assert "\nrows by part: test 1, train 2\n" in run(url, "datasets", "show", "t").stdout
    assert "rows by" not in run(url, "datasets", "show", "digits").stdout


def test_datasets_that_cannot_be_added(url: str, tmp_path: Path) -> None:
    for arguments, words in (
        (("absent.csv", "--upload"), "absent.csv is not a file on this machine"),
        (("a.idx", "--labels", "b.idx", "--upload"), "--upload sends one file"),
        (("a.csv", "--shape", "wide"), "28x28 or 32x32x3"),
        ((str(tmp_path / "a.csv"),), "outside the directories"),
        (("a\0.csv",), "must not contain the character NUL"),
        (("x" * 5000,), ""),
        (("s3://bucket/a.csv",), "allowed_uris"),
    ):
        result = run(url, "datasets", "add", "x", *arguments)
        assert result.exit_code != 0
        assert words in " ".join(result.stderr.replace("│", "").split()), arguments


@pytest.mark.parametrize(("end", "code"), [(State.SUCCEEDED, 0), (State.FAILED, JOB_FAILED)])
def test_watch_ends_with_the_job(url: str, client: Client, database: Database, end: State, code: int) -> None:
    job_id = client.submit(hinge_job()).id
    train(database, job_id, end, reason=None if end is State.SUCCEEDED else "diverged: [loss] is NaN")
    result = run(url, "watch", job_id)
    assert result.exit_code == code
    kept = "  kept val accuracy 0.6250" if end is State.SUCCEEDED else ""
    assert result.stdout == f"digits-hinge  {end}  epoch 20  step 20/40  train loss 0.2500  val accuracy 0.5000{kept}\n"
    assert (result.stderr == "") == (code == 0)
    assert code == 0 or result.stderr == f"gradfleet: job {job_id} failed: diverged: [loss] is NaN\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_following_several_jobs(client: Client, database: Database, terminal: bool) -> None:
    jobs = [client.submit(hinge_job(name=name)) for name in ("first [bold]", "second")]
    text = StringIO()
    console = Console(file=text, force_terminal=terminal, width=140, no_color=True)
    thread = threading.Thread(target=follow, args=[jobs, console])
    thread.start()
    wait_until(lambda: "second" in text.getvalue(), "both jobs are shown")
    train(database, jobs[1].id, State.SUCCEEDED)
    train(database, jobs[0].id, State.FAILED)
    thread.join(10)
    assert not thread.is_alive()
    assert [job.state for job in jobs] == ["failed", "succeeded"]
    assert "first [bold]" in text.getvalue()
    assert "train loss 0.2500" in text.getvalue()
    assert ("\x1b" in text.getvalue()) == terminal


def test_following_a_deleted_job_raises_its_error(client: Client) -> None:
    jobs = [client.submit(hinge_job(name=name)) for name in ("first", "second")]
    for job in jobs:
        job.cancel().delete()
    with pytest.raises(ApiError, match="There is no job"):
        follow(jobs, Console(file=StringIO()))


def test_submit_and_watch(url: str, client: Client, database: Database, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(hinge_job()))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run(url, "submit", str(tmp_path / "job.json"), "--watch")))
    thread.start()
    (job,) = wait_until(lambda: list(client.jobs()), "the job is submitted")
    train(database, job.id, State.SUCCEEDED)
    thread.join(10)
    first, *_, last = results[0].stdout.splitlines()
    assert (results[0].exit_code, first) == (0, job.id)
    assert last.startswith("digits-hinge  succeeded  epoch 20")


def test_jobs_show_the_metric_of_their_task(
    url: str, client: Client, database: Database, houses: dict[str, Any]
) -> None:
    train(database, client.submit(hinge_job(name="digits")).id, State.SUCCEEDED)
    model = {"layers": [{"type": "linear", "units": 1}]}
    regression = hinge_job(name="houses", model=model, loss={"type": "huber"}, **{"data.dataset": houses["name"]})
    job = client.submit(regression)
    with database.writing() as session:
        attempt = start_attempt(session, job.id, "supervisor")
        move(session, job.id, from_=State.QUEUED, to=State.STARTING)
        points = [Point("train/loss", 9, 1.5, 1), Point("train/loss_epoch", 9, 2.5, 1), Point("val/r2", 9, 0.75, 1)]
        record_points(session, job.id, attempt, points)
    head, of_houses, of_digits = (line.split() for line in run(url, "jobs").stdout.splitlines())
    assert head[-4:] == ["train/loss", "metric", "kept", "last"]
    assert of_digits[-4:] == ["0.2500", "val/accuracy", "0.6250", "0.5000"]
    assert of_houses[-3:] == ["2.5000", "val/r2", "0.7500"], "nothing is kept before the end"
    assert figures(job.refresh()) == ["train loss 2.5000", "val r2 0.7500"]


def test_validate_shows_the_task_and_its_metrics(url: str, houses: dict[str, Any], tmp_path: Path) -> None:
    model = {"layers": [{"type": "linear", "units": 1}]}
    spec = hinge_job(model=model, loss={"type": "huber"}, **{"data.dataset": houses["name"]})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec))
    shown = run(url, "validate", str(tmp_path / "job.yaml")).stdout
    assert "\nregression; metrics: val/r2, val/loss, val/max_error, val/mean_absolute_error, " in shown


def test_jobs_by_state_experiment_and_label(url: str, client: Client) -> None:
    ids = [client.submit(hinge_job(labels={"team": team, "kind": "a:b"})).id for team in ("vision", "text")]
    client.job(ids[0]).cancel()

    def found(*options: str) -> list[str]:
        result = run(url, "jobs", *options)
        assert result.exit_code == 0, result.stderr
        return [job_id for job_id in ids if job_id in result.stdout]

    assert found() == ids
    assert found("--limit", "1") == ids[1:]
    assert found("--state", "cancelled") == ids[:1]
    assert found("--experiment", "another") == []
    assert found("--label", "team:text") == ids[1:]
    assert found("--label", "team:text", "--label", "kind:a:b") == ids[1:]
    assert found("--label", "team:text", "--state", "cancelled") == []
    wrong = run(url, "jobs", "--label", "team")
    assert wrong.exit_code == 2
    assert "must be a key and a value" in wrong.stderr
    assert run(url, "jobs", "--state", "asleep").exit_code == 1


def test_metrics_as_text_and_as_arrow(
    url: str, client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.submit(hinge_job())
    train(database, job.id, State.SUCCEEDED)
    assert run(url, "metrics", job.id).stdout == "step,name,value\n20,train/loss,0.25\n20,val/accuracy,0.5\n"
    assert run(url, "metrics", job.id, "--name", "val/accuracy").stdout.splitlines()[1:] == ["20,val/accuracy,0.5"]
    arrow = run(url, "metrics", job.id, "--format", "arrow", "--name", "train/loss").stdout_bytes
    assert pa.ipc.open_stream(arrow).read_all().equals(job.metrics(["train/loss"]))
    # With colours forced, standard output is still a pipe.
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(url, "metrics", job.id, "--format", "arrow", "--name", "train/loss").stdout_bytes == arrow


def test_validate_describes_the_job(url: str, client: Client, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(hinge_job(**{"data.validation": 0})))
    result = run(url, "validate", str(tmp_path / "job.yaml"))
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()[:2]] == [
        ["layer", "type", "output", "parameters"],
        ["0_linear", "linear", "batch", "x", "128", "1,152"],
    ]
    assert "2,442 parameters" in result.stdout
    assert "300 rows to train on, 0 to validate on" in result.stdout
    assert "warning: data.validation: there are no validation rows" in result.stderr
    assert list(client.jobs()) == []
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(hinge_job(**{"training.epochs": 0})))
    assert run(url, "validate", str(tmp_path / "job.yaml")).exit_code == 1


def test_delete(url: str, client: Client) -> None:
    job = client.submit(hinge_job())
    assert run(url, "delete", job.id).exit_code == 1
    job.cancel()
    assert run(url, "delete", job.id).stdout == f"{job.id} deleted\n"
    assert "There is no job" in run(url, "show", job.id).stderr


def test_the_help_explains_the_exit_status() -> None:
    text = " ".join(CliRunner().invoke(command_line, ["--help"], terminal_width=200).stdout.split())
    assert f"{JOB_FAILED} the watched job, or a job of the watched sweep, failed or was cancelled" in text


def test_the_command_line_imports_no_heavy_packages() -> None:
    heavy = {"sqlalchemy", "fastapi", "mlflow", "ray", "numpy", "pyarrow", "matplotlib", "pandas"}
    code = f"import sys, service.cli.main; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
