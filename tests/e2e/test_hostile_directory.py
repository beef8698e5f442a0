"""A stack that is started in a directory with modules that have the names of its own modules and dependencies."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import yaml

from tests.e2e.stack import GRADFLEET, Stack, digits_job, wait_until, write_digits
from tests.fixtures.hostile import hostile_directory

if TYPE_CHECKING:
    from pathlib import Path

EXPORTED = 90.0  # seconds: pictures are drawn only while the cores are idle
MODULE = (sys.executable, "-P", "-m", "gradfleet")  # without -P, Python itself imports modules from the directory


def test_no_process_imports_modules_of_the_directory_it_is_started_in(tmp_path: Path) -> None:
    directory = hostile_directory(tmp_path / "project")
    stack = Stack(tmp_path / "data", directory=directory).start()
    try:
        with stack.client() as client:
            client.register_dataset("digits", write_digits(stack.data_dir / "uploads" / "digits.parquet"), "label")
            (directory / "job.yaml").write_text(yaml.safe_dump(digits_job()))
            for command in (GRADFLEET, MODULE):
                submitted = subprocess.run(
                    [*command, "submit", "job.yaml", "--watch", "--url", stack.api_url],
                    cwd=directory,
                    capture_output=True,
                    text=True,
                    timeout=90,
                    check=False,
                )
                assert submitted.returncode == 0, submitted.stderr
            job = client.job(submitted.stdout.split()[0])
            wait_until(lambda: (run := job.refresh()["mlflow"]) and run["complete"], EXPORTED, "MLflow has the run")
            assert (stack.data_dir / "jobs" / job.id / "pictures" / "learning_curves.png").is_file()
    finally:
        status = stack.signal(signal.SIGTERM)
    assert status == 0
    logs = "".join(path.read_text() for path in (stack.data_dir / "logs").iterdir())
    assert "imported from the current directory" not in logs
