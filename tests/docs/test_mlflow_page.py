"""Runs the examples of docs/mlflow.md against a real MLflow server with a trained job."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.settings import Settings
from service.tracking import MlflowExporter
from service.tracking.series import FEWEST, MOST
from tests.service.conftest import database, mlflow, no_pictures
from tests.service.fixtures.exported_jobs import is_finished, record_of, trained_job
from tests.service.fixtures.models import CLASSES
from tests.service.fixtures.support import wait_until

if TYPE_CHECKING:
    from service.store import Database
    from tests.service.fakes.mlflow_server import MlflowServer

__all__ = ["database", "mlflow", "no_pictures"]  # the fixtures

PAGE = (Path(__file__).parents[2] / "docs" / "mlflow.md").read_text(encoding="utf-8")


@pytest.fixture
def settings(tmp_path: Path, mlflow: MlflowServer) -> Settings:
    return Settings(data_dir=tmp_path / "data", mlflow_url=mlflow.url)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_pictures")
def test_examples_run(database: Database, settings: Settings, mlflow: MlflowServer, tmp_path: Path) -> None:
    job_id = trained_job(database, settings)
    exporter = MlflowExporter(database, settings)
    # Meanwhile another process draws the plots.
    wait_until(lambda: exporter.step() >= 0 and is_finished(database, job_id), "the job is in MLflow", timeout=100)
    exporter.stop()
    blocks = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "sh"]
    for language, block in blocks:
        code = block.replace("http://127.0.0.1:5000", mlflow.url).replace("RUN", record_of(database, job_id).run_id)
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert any(name in done.stdout for name in CLASSES), done.stdout


def test_page_states_the_number_of_exported_points() -> None:
    assert f"at most {MOST:,} points" in PAGE
    assert f"at most {MOST // FEWEST}." in PAGE
