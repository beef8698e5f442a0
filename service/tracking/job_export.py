"""Export of a job: its run, params, points in the order in which they were recorded, artifacts, and final status.

Each step is idempotent, and is marked in the database when it is done.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update
from sqlalchemy.orm import selectinload, undefer

from service.jobs.certificates.issue import fingerprint_of
from service.jobs.events import add_event
from service.jobs.series.points import Point
from service.jobs.states import State
from service.store.models import Job, Metric, MlflowRun
from service.tracking.artifacts.artifacts import Artifacts
from service.tracking.artifacts.pictures import DrawnPictures
from service.tracking.backlog import STATUS
from service.tracking.description import dataset_input, tags_of
from service.tracking.mlflow.api import PARAMS_PER_CALL, MlflowApi, RejectedError
from service.tracking.mlflow.entries import Entry, flatten, milliseconds, send_together
from service.tracking.mlflow.experiment_view import PARENT
from service.tracking.recovery import AGAIN, LONGEST_PROBLEM, Recovery
from service.tracking.series import kept_points, points_to_export
from service.tracking.sweeps.run import ensure_sweep_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from service.settings import Settings
    from service.store import Transactions

logger = logging.getLogger(__name__)

JOB_TAG = "gradfleet.job_id"
POINTS_PER_CALL = 1000


class JobExport:
    """Exports one job at a time. Raises UnavailableError, and RejectedError if retrying is of no use."""

    def __init__(self, database: Transactions, settings: Settings, api: MlflowApi) -> None:
        self._database = database
        self._api = api
        self.pictures = DrawnPictures(settings)
        self._recovery = Recovery(database, api)
        self._artifacts = Artifacts(api, database, settings, self.pictures, self)

    def close(self) -> None:
        """End the drawing process."""
        self.pictures.close()

    def export(self, job_id: str) -> bool:
        """Send new data of a job. Returns True if there is more than fits into one batch of points."""
        try:
            return self._export(job_id)
        except RejectedError:
            if not self._recovery.repair_job(job_id):
                raise
            self._artifacts.forget(job_id)
            return True

    def _export(self, job_id: str) -> bool:
        if self._artifacts.are_being_drawn(job_id):
            return False  # nothing else is new
        # One snapshot: if the job has ended in it, no more points will follow.
        with self._database.reading() as session:
            job = session.get(Job, job_id, options=[selectinload(Job.labels), undefer(Job.evaluation)])
            if job is None:
                return False  # just deleted
            fingerprint = fingerprint_of(session, job_id)
            record = session.get(MlflowRun, job_id)
            cursor = record.metric_cursor if record is not None else 0
            query = (
                select(Metric.id, Metric.name, Metric.step, Metric.value, Metric.time_ms)
                .where(Metric.job_id == job_id, Metric.id > cursor)
                .order_by(Metric.id)
                .limit(POINTS_PER_CALL)
            )
            rows = session.execute(query).all()
            more = len(rows) == POINTS_PER_CALL
            last = State(job.state).terminal and not more
            points = points_to_export(session, job, [Point(*row[1:]) for row in rows], last=last)
        record = record or self._ensure_run(job)
        if record is None:
            return False
        if not record.params_logged:
            params = list(flatten(job.spec))
            for begin in range(0, len(params), PARAMS_PER_CALL):
                self._send(job, record, self._api.log_params, params[begin : begin + PARAMS_PER_CALL])
            self._send(job, record, self._api.log_inputs, [dataset_input(job)])
            self._describe(job, record, fingerprint)
            self._mark(job, params_logged=True)
        for begin in range(0, len(points), POINTS_PER_CALL):
            self._send(job, record, self._api.log_points, points[begin : begin + POINTS_PER_CALL])
        if rows:
            self._mark(job, metric_cursor=rows[-1].id)
        if more:
            return True
        if job.mlflow_problem is not None and job.mlflow_problem.endswith(AGAIN):
            with self._database.writing() as session:
                _set_problem(session, job_id, None)
        status = STATUS[State(job.state)]
        if State(job.state).terminal:
            if points := kept_points(job):
                self._send(job, record, self._api.log_points, points)
            self._describe(job, record, fingerprint)
            self._finish(job, record, status)
        elif status != record.status:
            self._describe(job, record, fingerprint)
            self._api.set_status(record.run_id, status)
            self._mark(job, status=status)
        return False

    def record_rejection(self, job_id: str, error: RejectedError) -> None:
        """Record that MLflow rejected the job as a whole, in the job and, the first time, as its event."""
        with self._database.reading() as session:
            job, record = session.get(Job, job_id), session.get(MlflowRun, job_id)
        if job is None:
            return
        problem = self._recovery.problem(None if record is None else record.run_id, error)
        if problem != job.mlflow_problem:
            logger.error("job %s: %s", job_id, problem, extra={"job_id": job_id})
            self._record(job_id, "mlflow_rejected", {"error_code": error.code, "message": problem}, problem)

    def _ensure_run(self, job: Job) -> MlflowRun | None:
        """Return the run of a job: an existing one, if the answer to an earlier call was lost, or a new one.

        Returns None if the job has been deleted in the meantime.
        """
        parent = None if job.sweep_id is None else ensure_sweep_run(self._database, self._api, job.sweep_id)
        if job.sweep_id is not None and parent is None:
            return None  # deleted with its sweep
        # The experiment of a sweep can have another name by now; its members belong to it nevertheless.
        experiment_id = self._api.experiment(job.experiment) if parent is None else parent.experiment_id
        run = found = self._api.find_run(experiment_id, JOB_TAG, job.id)
        if run is None:
            tags = {
                JOB_TAG: job.id,
                "gradfleet.dataset": job.spec["data"]["dataset"],
                "gradfleet.dataset_digest": job.dataset["digest"],
                "mlflow.source.name": "gradfleet",
                "mlflow.source.type": "JOB",
            }
            if parent is not None:
                tags[PARENT] = parent.run_id
            run = self._api.create_run(experiment_id, job.name, milliseconds(job.created_at), tags)
        record = MlflowRun(
            job_id=job.id,
            experiment_id=run.experiment_id,
            run_id=run.run_id,
            status="RUNNING",
            metric_cursor=0,
            params_logged=False,
            artifacts_logged=False,
        )
        with self._database.writing() as session:
            there = _is_there(session, job.id)
            if there:
                # A copy is added, so that `record` can be used outside of the session.
                session.merge(record)
        if there:
            return record
        if found is None:
            self._api.delete_run(run.run_id)
        return None

    def _finish(self, job: Job, record: MlflowRun, status: str) -> None:
        if not record.artifacts_logged:
            if not self._artifacts.send(job, record):
                return  # the status is exported later, and other jobs first
            self._mark(job, artifacts_logged=True)
        ended = job.finished_at or job.created_at
        self._api.set_status(record.run_id, status, milliseconds(ended))
        with self._database.writing() as session:
            session.execute(update(MlflowRun).where(MlflowRun.job_id == job.id).values(status=status))
            session.execute(update(Job).where(Job.id == job.id).values(mlflow_finished=True))

    def _describe(self, job: Job, record: MlflowRun, fingerprint: Mapping[str, str]) -> None:
        self._send(job, record, self._api.set_tags, list(tags_of(job, fingerprint).items()))

    def _send(
        self, job: Job, record: MlflowRun, send: Callable[[str, Sequence[Entry]], None], entries: Sequence[Entry]
    ) -> None:
        """Send entries together. If MLflow rejects one and the run still exists, record this as an event of the job."""

        def set_aside(entry: Entry, error: RejectedError) -> None:
            if not self._api.get_run(record.run_id).active:
                raise error
            about = {"job_id": job.id}
            logger.warning("MLflow rejected %s of job %s: %s", entry, job.id, error, extra=about)
            self.set_aside(job.id, str(entry), error.code, error)

        send_together(lambda some: send(record.run_id, some), entries, set_aside)

    def _mark(self, job: Job, **values: Any) -> None:
        with self._database.writing() as session:
            session.execute(update(MlflowRun).where(MlflowRun.job_id == job.id).values(values))

    def set_aside(self, job_id: str, entry: str, code: str, refusal: RejectedError | None) -> None:
        """Record that a part of a job is not exported; the other parts are. `refusal` is MLflow's, if it refuses it."""
        problem = f"MLflow refuses this part of the job: {entry}: {refusal}"[:LONGEST_PROBLEM] if refusal else None
        self._record(job_id, "mlflow_set_aside", {"entry": entry, "error_code": code}, problem)

    def _record(self, job_id: str, kind: str, data: dict[str, Any], problem: str | None) -> None:
        """Add an event to the job, if it still exists, and tell the user about a problem, if there is one."""
        with self._database.writing() as session:
            if _is_there(session, job_id):
                add_event(session, job_id, kind, data=data)
                if problem is not None:
                    _set_problem(session, job_id, problem)


def _set_problem(session: Session, job_id: str, problem: str | None) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(mlflow_problem=problem))


def _is_there(session: Session, job_id: str) -> bool:
    """Whether the job exists. If so, it is locked until the end of the transaction."""
    query = select(Job.id).where(Job.id == job_id).with_for_update(read=True, key_share=True)
    return session.scalar(query) is not None
