"""Tells MLflow about the jobs, as an outbox: from the database, in order, again until it is accepted.

Training never waits for MLflow. Per job there is a run, its params, its points in the order in which they were
recorded, its artifacts, and last its status. Each step is harmless when done twice, and is marked in the database once
it is done.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from sqlalchemy import and_, case, exists, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from service.jobs.events import add_event
from service.jobs.metrics import Point
from service.jobs.states import State
from service.store.models import Job, Metric, MlflowRun
from service.tracking.mlflow_api import MlflowApi, RejectedError, UnavailableError
from workers.checkpoint import latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from service.settings import Settings
    from service.store import Database

logger = logging.getLogger(__name__)

JOB_TAG = "gradfleet.job_id"
POINTS_PER_CALL = 1000
PARAMS_PER_CALL = 100
ARTIFACTS = ("model.safetensors", "checkpoint.json")
IDLE_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0

STATUS = {
    State.QUEUED: "SCHEDULED",
    State.STARTING: "SCHEDULED",
    State.RUNNING: "RUNNING",
    State.PAUSING: "RUNNING",
    State.PAUSED: "SCHEDULED",
    State.CANCELLING: "RUNNING",
    State.SUCCEEDED: "FINISHED",
    State.FAILED: "FAILED",
    State.CANCELLED: "KILLED",
}

Entry = TypeVar("Entry")


class MlflowExporter:
    """Sends what MLflow has not been told yet, in a thread of its own; without `settings.mlflow_url` it does nothing.

    One at a time per database: two would make two runs of a job.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._api = MlflowApi(settings.mlflow_url) if settings.mlflow_url else None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-exporter", daemon=True)
        self._failures: Counter[str] = Counter()
        self._failed_rounds = 0
        self._set_aside: set[str] = set()

    def start(self) -> None:
        """Begin to export."""
        if self._api is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread, after the request that it is waiting for; what is left is sent after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._api is not None:
            self._api.close()

    def step(self) -> float:
        """Send what is there, at most one batch of points per job; gives the seconds to wait before the next step."""
        more = False
        # Jobs that failed before come last, so that none keeps the others waiting.
        for job_id in sorted(self._untold(), key=self._failures.__getitem__):
            try:
                more |= self._export(job_id)
                self._failures.pop(job_id, None)
            except UnavailableError as error:
                self._failures[job_id] += 1
                self._failed_rounds += 1
                if self._failed_rounds == 1:
                    logger.warning("MLflow cannot be told, trying again until it can: %s", error)
                return min(2.0 ** (self._failed_rounds - 1), LONGEST_WAIT_SECONDS)
            if self._stopping.is_set():
                break
        if self._failed_rounds:
            logger.info("MLflow answers again")
            self._failed_rounds = 0
        return 0.0 if more else IDLE_SECONDS

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self.step()
            except SQLAlchemyError:
                logger.exception("the database does not answer")
                wait = IDLE_SECONDS

    def _untold(self) -> list[str]:
        """Jobs of which MLflow does not know everything."""
        points = exists().where(Metric.job_id == Job.id, Metric.id > MlflowRun.metric_cursor)
        news = or_(MlflowRun.status != case(STATUS, value=Job.state), ~MlflowRun.params_logged, points)
        query = select(Job.id).outerjoin(MlflowRun)
        query = query.where(or_(MlflowRun.job_id.is_(None), and_(~MlflowRun.finished, news)))
        # A job that is starting needs the machine for its first loss, and will have more to tell in a moment.
        query = query.where(Job.state != State.STARTING)
        with self._database.reading() as session:
            return [job_id for job_id in session.scalars(query.order_by(Job.id)) if job_id not in self._set_aside]

    def _export(self, job_id: str) -> bool:
        """Tell MLflow what is new about a job; whether there is more than fitted into one batch."""
        try:
            return self._tell(job_id)
        except RejectedError as error:
            # Nothing can be done about it until somebody has changed something; a restart tries again.
            self._set_aside.add(job_id)
            logger.error("MLflow does not take job %s: %s", job_id, error)  # noqa: TRY400 - no trace of interest
            self._note(job_id, "mlflow_rejected", {"message": str(error)})
            return False

    def _tell(self, job_id: str) -> bool:
        # One snapshot: a job that has ended in it takes no more points, so the points in it are all there will be.
        with self._database.reading() as session:
            job = session.get_one(Job, job_id)
            record = session.get(MlflowRun, job_id)
            cursor = record.metric_cursor if record is not None else 0
            query = (
                select(Metric.id, Metric.name, Metric.step, Metric.value, Metric.time_ms)
                .where(Metric.job_id == job_id, Metric.id > cursor)
                .order_by(Metric.id)
                .limit(POINTS_PER_CALL)
            )
            rows = session.execute(query).all()
        record = record or self._ensure_run(job)
        if not record.params_logged:
            params = list(flatten(job.spec))
            for begin in range(0, len(params), PARAMS_PER_CALL):
                self._send(job, record, self._client.log_params, params[begin : begin + PARAMS_PER_CALL])
            self._mark(job, params_logged=True)
        if rows:
            self._send(job, record, self._client.log_points, [Point(*row[1:]) for row in rows])
            self._mark(job, metric_cursor=rows[-1].id)
        if len(rows) == POINTS_PER_CALL:
            return True
        status = STATUS[State(job.state)]
        if State(job.state).terminal:
            self._finish(job, record, status)
        elif status != record.status:
            self._client.set_status(record.run_id, status)
            self._mark(job, status=status)
        return False

    def _ensure_run(self, job: Job) -> MlflowRun:
        """The job's run: the one that is there (the answer to an earlier call can have been lost) or a new one."""
        experiment_id = self._client.experiment(job.experiment)
        run = self._client.find_run(experiment_id, JOB_TAG, job.id)
        if run is None:
            tags = {
                JOB_TAG: job.id,
                "gradfleet.dataset": job.spec["data"]["dataset"],
                "gradfleet.dataset_digest": job.dataset["digest"],
                "mlflow.source.name": "gradfleet",
                "mlflow.source.type": "JOB",
            }
            run = self._client.create_run(experiment_id, job.name, _milliseconds(job.created_at), tags)
        record = MlflowRun(
            job_id=job.id,
            experiment_id=run.experiment_id,
            run_id=run.run_id,
            status="RUNNING",
            metric_cursor=0,
            params_logged=False,
            artifacts_logged=False,
            finished=False,
        )
        with self._database.writing() as session:
            # The instance that is kept here belongs to no session.
            session.merge(record)
        return record

    def _finish(self, job: Job, record: MlflowRun, status: str) -> None:
        if not record.artifacts_logged:
            self._upload_artifacts(job, record)
            self._mark(job, artifacts_logged=True)
        tags = {"gradfleet.attempts": str(job.attempt)}
        if job.params_sha256 is not None:
            tags["gradfleet.params_sha256"] = job.params_sha256
        if job.reason is not None:
            tags["gradfleet.reason"] = job.reason
        self._client.set_tags(record.run_id, tags)
        ended = job.finished_at or job.created_at
        self._client.set_status(record.run_id, status, _milliseconds(ended))
        self._mark(job, status=status, finished=True)

    def _upload_artifacts(self, job: Job, record: MlflowRun) -> None:
        run = self._client.get_run(record.run_id)
        checkpoint = latest(self._settings.job_dir(job.id))
        try:
            self._client.upload(run, "model/spec.yaml", yaml.safe_dump(job.spec, sort_keys=False).encode())
            for name in ARTIFACTS:
                if checkpoint is not None and (checkpoint / name).is_file():
                    self._client.upload(run, f"model/{name}", checkpoint / name)
        except RejectedError as error:
            if not run.active:
                raise
            logger.warning("MLflow does not take the artifacts of job %s: %s", job.id, error)
            self._note(job.id, "mlflow_set_aside", {"entry": "artifacts", "message": str(error)})

    def _send(
        self, job: Job, record: MlflowRun, send: Callable[[str, Sequence[Entry]], None], entries: Sequence[Entry]
    ) -> None:
        """Send entries together; one that MLflow does not take is found by halving and set aside."""
        try:
            send(record.run_id, entries)
        except RejectedError as error:
            if len(entries) > 1:
                middle = len(entries) // 2
                self._send(job, record, send, entries[:middle])
                self._send(job, record, send, entries[middle:])
            elif not self._client.get_run(record.run_id).active:
                raise
            else:
                logger.warning("MLflow does not take %s of job %s: %s", entries[0], job.id, error)
                self._note(job.id, "mlflow_set_aside", {"entry": str(entries[0]), "message": str(error)})

    @property
    def _client(self) -> MlflowApi:
        if self._api is None:
            raise UnavailableError("no mlflow_url is set")
        return self._api

    def _mark(self, job: Job, **values: Any) -> None:
        with self._database.writing() as session:
            session.execute(update(MlflowRun).where(MlflowRun.job_id == job.id).values(values))

    def _note(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        with self._database.writing() as session:
            add_event(session, job_id, kind, data=data)


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of a JSON value as params: ("model.layers.0.units", "128")."""
    match value:
        case dict():
            entries: Any = value.items()
        case list():
            entries = enumerate(value)
        case str():
            yield path, value
            return
        case _:
            yield path, json.dumps(value)
            return
    for key, entry in entries:
        yield from flatten(entry, f"{path}.{key}" if path else str(key))


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
