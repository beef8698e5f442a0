"""A job that is deleted during its export to MLflow: its rows are deleted at every point of the export."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from service.jobs.actions import delete_job
from service.jobs.recording import end_attempt
from service.jobs.repository import count_by_state, create_job, move, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import State
from service.store.models import Base, Job
from service.telemetry.instruments import UNEXPORTED_POINTS
from service.tracking import MlflowExporter
from service.tracking.exporter import exports
from service.tracking.mlflow.api import RejectedError, Run
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job
from workers.record.events import Ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.settings import Settings
    from service.store import Database

pytestmark = pytest.mark.usefixtures("no_pictures")

CALLS = 13
UPLOAD = 11  # the call that sends the checkpoint's first file
RUN = Run("r", "1", active=True, artifact_uri="mlflow-artifacts:/1")


class Interrupted:
    """MLflow's API that calls `interrupt` during call `number`. With `rejects`, this and later calls fail."""

    def __init__(self, number: int, interrupt: Callable[[], None], *, rejects: bool = False) -> None:
        self.calls: list[str] = []
        self._number, self._interrupt, self._rejects = number, interrupt, rejects

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self._number:
                self._interrupt()
            if self._rejects and len(self.calls) >= self._number and name != "get_run":
                raise RejectedError("rejected", "INVALID_PARAMETER_VALUE")
            if name == "upload" and not isinstance(arguments[2], bytes):
                arguments[2].read_bytes()
            return {"find_run": None, "experiment": "1"}.get(name, RUN)

        return call

    def close(self) -> None:
        """Do nothing."""


def ended_job(database: Database, settings: Settings) -> str:
    with database.writing() as session:
        dataset = {"digest": "0" * 64, "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}
        job, _ = create_job(session, spec=hinge_job(), dataset=dataset, total_steps=100, body_sha256="b")
        attempt = start_attempt(session, job.id, "supervisor")
        move(session, job.id, from_=State.QUEUED, to=State.STARTING)
        move(session, job.id, from_=State.STARTING, to=State.RUNNING)
        record_points(session, job.id, attempt, [Point("train/loss", 1, 0.5, 1000)])
        end_attempt(session, job.id, attempt, Ended("succeeded", "completed"))
        job_id = job.id
    checkpoint = settings.job_dir(job_id) / "checkpoints" / f"{100:012}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    return job_id


@pytest.mark.parametrize("rejects", [False, True])
@pytest.mark.parametrize("number", range(CALLS + 1))
def test_the_export_of_a_deleted_job_leaves_nothing(
    database: Database, settings: Settings, caplog: pytest.LogCaptureFixture, number: int, rejects: bool
) -> None:
    """Call 0 is between the query for unexported jobs and the export of the job."""
    job_id = ended_job(database, settings)
    exporter = MlflowExporter(database, settings)

    def remove() -> None:
        with database.writing() as session:
            delete_job(session, job_id)
        model = settings.job_dir(job_id) / "checkpoints" / f"{100:012}" / "model.safetensors"
        model.unlink()

    api = Interrupted(number, remove, rejects=rejects)
    exporter._exports = parts = exports(database, settings, api)  # type: ignore[arg-type]
    parts.mending.due = False
    with caplog.at_level(logging.ERROR):
        if number == 0:
            remove()
            assert exporter._export(parts.jobs, job_id) is False
        else:
            assert exporter.step() > 0
    if not rejects:
        assert caplog.records == []
        assert ("delete_run" in api.calls) == (number in {1, 2, 3}), "the run of the deleted job is deleted"
        # If the first file of the checkpoint is missing, the second one is not uploaded.
        assert len(api.calls) == {0: 0, 1: 4, 2: 4, 3: 4}.get(number, CALLS - (number <= UPLOAD)), api.calls
    with database.reading() as session:
        assert session.get(Job, job_id) is None
        assert set(count_by_state(session).values()) == {0}
        tables = [table for table in Base.metadata.sorted_tables if "job_id" in table.columns]
        assert [table.name for table in tables if session.execute(table.select()).all()] == []
    has_run = number >= 4
    for expected in (["set_tags", "set_status"] if has_run and not rejects else None, []):
        api.calls.clear()
        exporter.step()
        assert expected is None or api.calls == expected, "the run of the deleted job is ended once"
    assert UNEXPORTED_POINTS._value.get() == 0
    exporter.stop()
