"""Runs the commands of docs/api.md in order and compares their output with the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.cli.demo.digits import register_digits
from service.cli.demo.experiment import DATASET
from service.client import Client
from service.scheduling.scheduler import Scheduler
from service.settings import Settings
from service.stack.app import create_app
from service.store import Database, migrate
from tests.service.fakes.cluster import FakeAttempt, FakeCluster
from tests.service.fixtures.support import served
from workers.record.events import Checkpointed, Ended, Progress, Series, Started
from workers.record.milestones import milestone_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.training.assignment import Assignment

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
STEPS = 240
SHORT = 20  # epochs of a job that completes without a user action
END_OF_BLOCK = "=== end of block"


class Played(FakeAttempt):
    """An attempt that executes every action immediately."""

    def play(self) -> None:
        steps = np.arange(1, STEPS + 1)
        self.report(Started(step=0, workers=2, fingerprint={}, changed={}))
        if self.assignment.spec["training"]["epochs"] == SHORT:
            series = {"train/loss": Series(steps, 1 / steps, steps)}
            milestones = {step: f"{step:064x}" for step in milestone_steps(STEPS)}
            self.report(Progress(SHORT, STEPS, series, milestones), Checkpointed(STEPS, milestones[STEPS]))
            self.report(Ended("succeeded", "completed"))

    def pause(self) -> None:
        self._end("paused")

    def cancel(self) -> None:
        self._end("cancelled")

    def _end(self, outcome: Any) -> None:
        if not self.calls:
            self.calls.append(outcome)
            self.report(Ended(outcome, f"{outcome}_by_user"))


class PlayedCluster(FakeCluster):
    def start(self, assignment: Assignment, supervisor: str, _stopping: threading.Event) -> FakeAttempt:
        attempt = Played(assignment, supervisor)
        self.attempts.append(attempt)
        attempt.play()
        return attempt


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a service with a fake cluster."""
    cluster = PlayedCluster()
    for name in ("Attempt", "Supervisors"):
        monkeypatch.setattr(f"service.scheduling.scheduler.{name}", cluster)
    settings = Settings(data_dir=tmp_path / "data", cluster_cpus=4)
    settings.allowed_roots[0].mkdir(parents=True)
    migrate(settings.database)
    database = Database(settings.database)
    scheduler = Scheduler(database, settings, cluster)
    with served(create_app(settings, database=database, on_change=scheduler.wake)) as url:
        scheduler.start()
        yield url
        scheduler.stop()
    database.close()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples need curl and jq")
def test_examples_print_the_output_on_the_page(url: str, tmp_path: Path) -> None:
    with Client(url) as client:  # the demo registers the same content: the page then shows version 1, too
        register_digits(client, tmp_path / "data" / "uploads")
        assert client.dataset(DATASET)["version"] == 1
    blocks = re.findall(r"```(sh|python)\n(.*?)```(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)
    assert sum(language == "sh" for language, *_ in blocks) == PAGE.count("```sh")
    script = ["set -euo pipefail"]
    for number, (language, code, _) in enumerate(blocks):
        if language == "python":
            (tmp_path / f"{number}.py").write_text(code)
        command = code if language == "sh" else f"{sys.executable} {number}.py\n"
        script.append(f"{command}echo '{END_OF_BLOCK}'")
    (tmp_path / "page.sh").write_text("\n".join(script).replace("http://127.0.0.1:8000", url))
    done = subprocess.run(["bash", "page.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    printed = done.stdout.split(END_OF_BLOCK)[:-1]
    for (_, code, shown), actual in zip(blocks, printed, strict=False):
        pattern = ".*?".join(re.escape(part) for part in shown.strip().split("..."))
        assert re.fullmatch(pattern, actual.strip(), re.DOTALL), f"{code}\nprinted\n{actual}"
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert len(printed) == len(blocks)
