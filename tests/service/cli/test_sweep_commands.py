from __future__ import annotations

import csv
import threading
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rich.console import Console

from service.cli import tables, terminal
from service.cli.comparison import print_comparison
from service.cli.connection import JOB_FAILED
from service.cli.live.live_sweep import follow_sweep
from service.client import Client
from service.jobs.repository import move, record_kept, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import State
from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import run, train, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the client does not depend on the database


def write(directory: Path, **changes: Any) -> str:
    file = directory / "sweep.yaml"
    file.write_text(yaml.safe_dump(LOSSES_SWEEP | changes))
    return str(file)


def end(database: Database, job_id: str, accuracy: float | None) -> None:
    """Let a job succeed with this accuracy, which falls by 1/4 to the last value. Without an accuracy it fails."""
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING)
        points = (
            [] if accuracy is None else [Point("val/accuracy", 9, accuracy - 0.25, 1), Point("val/loss", 9, 0.125, 1)]
        )
        record_points(session, job_id, attempt, points)
        metrics = {"val/accuracy": accuracy, "val/f1": accuracy, "val/loss": 0.125}
        record_kept(session, job_id, attempt, {"step": 9, "epoch": 1, "metrics": metrics}, {})
        move(session, job_id, from_=State.RUNNING, to=State.FAILED if accuracy is None else State.SUCCEEDED)


@pytest.fixture
def sweep_id(client: Client, database: Database) -> str:
    """Hinge and softmax, each with two learning rates and three seeds; one job has failed."""
    sweep = client.sweep(LOSSES_SWEEP)
    accuracies = [0.25, 0.5, 0.75, 0.75, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25, 0.5, None]
    for job, accuracy in zip(sweep.jobs(), accuracies, strict=True):
        end(database, job.id, accuracy)
    return sweep.id


def test_a_sweep_is_submitted_listed_and_cancelled(url: str, client: Client, tmp_path: Path) -> None:
    submitted = run(url, "sweep", write(tmp_path, seeds=[0]))
    assert submitted.exit_code == 0, submitted.stderr
    sweep_id = submitted.stdout.strip()
    assert len(client.find_sweep(sweep_id).jobs()) == 4
    assert run(url, "sweeps").stdout.splitlines()[1].strip().split(maxsplit=4) == [
        sweep_id, "losses", "hinge-vs-softmax", "queued", "4 queued",
    ]  # fmt: skip
    assert run(url, "cancel", sweep_id).stdout == f"{sweep_id} cancelled\n"
    rejected = run(url, "sweep", write(tmp_path, seeds=[0, 0]))
    assert (rejected.exit_code, rejected.stdout) == (1, "")
    assert "has a duplicate seed" in rejected.stderr
    assert "There is no sweep" in run(url, "cancel", "sweep_0").stderr


def test_watching_a_sweep_ends_with_its_comparison(
    url: str, client: Client, database: Database, tmp_path: Path
) -> None:
    results: list[Any] = []
    file = write(tmp_path, seeds=[0])
    watching = threading.Thread(target=lambda: results.append(run(url, "sweep", file, "--watch")))
    watching.start()
    (sweep,) = wait_until(lambda: list(client.sweeps()), "the sweep is submitted")
    for job in sweep.jobs():
        end(database, job.id, 0.5)
    watching.join(20)
    (result,) = results
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == sweep.id
    assert "losses  succeeded  4/4 ended  4 succeeded" in lines
    assert lines[-2].startswith("mean ± standard deviation")


def test_watching_a_sweep_that_does_not_succeed(url: str, client: Client, database: Database, tmp_path: Path) -> None:
    results: list[Any] = []
    file = write(tmp_path, over=None, seeds=[0, 1])
    watching = threading.Thread(target=lambda: results.append(run(url, "sweep", file, "--watch")))
    watching.start()
    (sweep,) = wait_until(lambda: list(client.sweeps()), "the sweep is submitted")
    first, second = sweep.jobs()
    end(database, first.id, 0.5)
    end(database, second.id, None)
    watching.join(20)
    assert results[0].exit_code == JOB_FAILED
    assert results[0].stderr == f"gradfleet: sweep {sweep.id} failed: 1 failed, 1 succeeded\n"


def test_following_a_sweep_on_a_terminal(client: Client, database: Database) -> None:
    sweep = client.sweep(LOSSES_SWEEP | {"name": "all [bold]", "over": None, "seeds": [0, 1]})
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=140, no_color=True)
    following = threading.Thread(target=follow_sweep, args=[sweep, console])
    following.start()
    first, second = client.find_sweep(sweep.id).jobs()
    train(database, first.id, None)
    wait_until(lambda: "train loss 0.2500  val accuracy 0.5000" in text.getvalue(), "the running job is shown")
    assert f"  {first.name}" in text.getvalue()
    with database.writing() as session:
        move(session, first.id, from_=State.RUNNING, to=State.SUCCEEDED)
    end(database, second.id, 0.5)
    following.join(20)
    assert not following.is_alive()
    assert "all [bold]" in text.getvalue()
    assert "2 succeeded" in text.getvalue()


def test_compare_shows_groups_and_the_best(url: str, sweep_id: str) -> None:
    shown = run(url, "compare", sweep_id)
    assert shown.exit_code == 0, shown.stderr
    head, *rows, legend, names, left_out = [line.rstrip() for line in shown.stdout.splitlines()]
    assert head.split() == ["loss", "lr", "n", "kept/val/accuracy", "val/accuracy", "kept/val/f1"]
    assert [row.replace(" ± ", "±").split() for row in rows] == [
        ["hinge", "0.01", "3", "0.5000±0.2500", "0.2500±0.2500", "0.5000±0.2500"],
        ["**", "hinge", "0.1", "3", "0.7500±0.0000", "0.5000±0.0000", "0.7500±0.0000"],
        ["*", "softmax", "0.01", "3", "0.5000±0.0000", "0.2500±0.0000", "0.5000±0.0000"],
        ["softmax", "0.1", "2", "0.3750±0.1768", "0.1250±0.1768", "0.3750±0.1768"],
    ]
    assert legend == "mean ± standard deviation of n jobs; ** best kept/val/accuracy, * best of the loss"
    assert names == "kept/: of the parameters that are kept; without it: the last value"
    assert left_out == "left out: 1 of 12 jobs, which have not succeeded"
    by_loss = run(url, "compare", sweep_id, "--metric", "val/loss").stdout.splitlines()
    assert by_loss[0].split()[3:] == ["kept/val/loss", "val/loss", "kept/val/accuracy", "kept/val/f1"]
    assert by_loss[1].split()[:6] == ["**", "hinge", "0.01", "3", "0.1250", "±"]
    wrong = run(url, "compare", sweep_id, "--metric", "val/los")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert (
        "metric: is 'val/los', which is no metric of validation rows: must be one of val/accuracy, val/loss, "
        in wrong.stderr
    )


def test_a_terminal_shows_as_many_metrics_as_fit(url: str, sweep_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = run(url, "compare", sweep_id).stdout.splitlines()
    narrow = StringIO()
    with Client(url) as client:
        found = client.find_sweep(sweep_id).comparison()
    for module in (tables, terminal):
        monkeypatch.setattr(module, "output", Console(file=narrow, force_terminal=True, width=70, color_system=None))
    print_comparison(found)
    lines = [line.rstrip() for line in narrow.getvalue().splitlines()]
    assert lines[0].split() == ["loss", "lr", "n", "kept/val/accuracy", "val/accuracy"]
    assert len(lines) == len(wide) + 1, "no row is wrapped"
    assert "not shown: kept/val/f1; all are in --csv" in lines


def test_compare_as_csv(url: str, sweep_id: str) -> None:
    rows = list(csv.DictReader(StringIO(run(url, "compare", sweep_id, "--csv").stdout)))
    assert rows[0] == {
        "best": "", "loss": "hinge", "optimizer.lr": "0.01", "n": "3", "left_out": "0",
        "kept/val/accuracy mean": "0.5", "kept/val/accuracy std": "0.25", "kept/val/accuracy n": "3",
        "kept/val/f1 mean": "0.5", "kept/val/f1 std": "0.25", "kept/val/f1 n": "3",
        "kept/val/loss mean": "0.125", "kept/val/loss std": "0.0", "kept/val/loss n": "3",
        "val/accuracy mean": "0.25", "val/accuracy std": "0.25", "val/accuracy n": "3",
        "val/loss mean": "0.125", "val/loss std": "0.0", "val/loss n": "3",
    }  # fmt: skip
    assert [row["best"] for row in rows] == ["", "overall", "loss", ""]
    assert (rows[3]["left_out"], rows[3]["val/accuracy n"]) == ("1", "2")
