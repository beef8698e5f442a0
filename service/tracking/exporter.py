"""Tells MLflow about the jobs, as an outbox: from the database, in order, again until it is accepted.

Training never waits for MLflow. Per job there is a run, its params, its points in the order in which they were
recorded, its artifacts, and last its status. Each step is harmless when done twice, and is marked in the database once
it is done.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from service.jobs.events import add_event
from service.jobs.metrics import Point
from service.jobs.states import State
from service.observability.instruments import UNTOLD_POINTS, UNTOLD_SECONDS
from service.parts import PartStatus
from service.store.lease import LeaseLostError
from service.store.models import Job, Metric, MlflowRun
from service.tracking.backlog import STATUS, measure_backlog, untold_jobs
from service.tracking.mlflow_api import MlflowApi, RejectedError, UnavailableError
from workers.checkpoint import latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from service.settings import Settings
    from service.store import Transactions

logger = logging.getLogger(__name__)

JOB_TAG = "gradfleet.job_id"
POINTS_PER_CALL = 1000
PARAMS_PER_CALL = 100
ARTIFACTS = ("model.safetensors", "checkpoint.json")
IDLE_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0

Entry = TypeVar("Entry")


class MlflowExporter:
    """Sends what MLflow has not been told yet, in a thread of its own; without `settings.mlflow_url` it does nothing.

    One at a time per database: two would make two runs of a job.
    """

    def __init__(self, database: Transactions, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._api = MlflowApi(settings.mlflow_url.get_secret_value()) if settings.mlflow_url else None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-exporter", daemon=True)
        self._failures: Counter[str] = Counter()
        self._failed_rounds = 0
        self._set_aside: set[str] = set()
        self._oldest_untold: float | None = None  # when the point was measured, in seconds since 1970

    def start(self) -> None:
        """Begin to export."""
        if self._api is not None:
            UNTOLD_SECONDS.set_function(self._untold_seconds)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, after the request that it is waiting for; what is left is sent after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._api is not None:
            self._api.close()
            self._oldest_untold = None
            UNTOLD_POINTS.set(0)

    def status(self) -> PartStatus:
        """Whether MLflow takes what it is told."""
        if self._api is None:
            return PartStatus(ready=True, detail="no MLflow server is to be told")
        if not self._thread.is_alive():
            return PartStatus(ready=False, detail="the export does not run")
        if self._failed_rounds:
            return PartStatus(ready=False, detail="MLflow does not answer; what it is to be told waits in the database")
        return PartStatus(ready=True, detail="it is told")

    def step(self) -> float:
        """Send what is there, at most one batch of points per job; gives the seconds to wait before the next step."""
        wait = self._send_batches(self._untold())
        self._measure()
        return wait

    def _send_batches(self, jobs: Sequence[str]) -> float:
        more = False
        # Jobs that failed before come last, so that none keeps the others waiting.
        for job_id in sorted(jobs, key=self._failures.__getitem__):
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
            except LeaseLostError:
                return  # another process goes on
            except SQLAlchemyError:
                logger.exception("the database does not answer")
                wait = IDLE_SECONDS

    def _untold(self) -> list[str]:
        with self._database.reading() as session:
            return [job_id for job_id in untold_jobs(session) if job_id not in self._set_aside]

    def _measure(self) -> None:
        with self._database.reading() as session:
            backlog = measure_backlog(session, without=self._set_aside)
        UNTOLD_POINTS.set(backlog.points)
        self._oldest_untold = None if backlog.oldest_ms is None else backlog.oldest_ms / 1000

    def _untold_seconds(self) -> float:
        return 0.0 if self._oldest_untold is None else time.time() - self._oldest_untold

    def _export(self, job_id: str) -> bool:
        """Tell MLflow what is new about a job; whether there is more than fitted into one batch."""
        try:
            return self._tell(job_id)
        except RejectedError as error:
            # Nothing can be done about it until somebody has changed something; a restart tries again.
            self._set_aside.add(job_id)
            logger.error(  # noqa: TRY400 - no trace of interest
                "MLflow does not take job %s: %s", job_id, error, extra={"job_id": job_id}
            )
            self._note(job_id, "mlflow_rejected", {"error_code": error.code})
            return False

    def _tell(self, job_id: str) -> bool:
        # One snapshot: a job that has ended in it takes no more points, so the points in it are all there will be.
        with self._database.reading() as session:
            job = session.get(Job, job_id)
            if job is None:
                return False  # deleted a moment ago
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
        if record is None:
            return False
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

    def _ensure_run(self, job: Job) -> MlflowRun | None:
        """The job's run: the one that is there (the answer to an earlier call can have been lost) or a new one.

        None where the job has been deleted meanwhile.
        """
        experiment_id = self._client.experiment(job.experiment)
        run = found = self._client.find_run(experiment_id, JOB_TAG, job.id)
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
        )
        with self._database.writing() as session:
            there = _is_there(session, job.id)
            if there:
                # The instance that is kept here belongs to no session.
                session.merge(record)
        if there:
            return record
        if found is None:
            self._client.delete_run(run.run_id)
        return None

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
        with self._database.writing() as session:
            session.execute(update(MlflowRun).where(MlflowRun.job_id == job.id).values(status=status))
            session.execute(update(Job).where(Job.id == job.id).values(mlflow_finished=True))

    def _upload_artifacts(self, job: Job, record: MlflowRun) -> None:
        run = self._client.get_run(record.run_id)
        checkpoint = latest(self._settings.job_dir(job.id))
        try:
            self._client.upload(run, "model/spec.yaml", yaml.safe_dump(job.spec, sort_keys=False).encode())
            for name in ARTIFACTS:
                with suppress(FileNotFoundError):  # the files go with a job that is deleted
                    if checkpoint is not None:
                        self._client.upload(run, f"model/{name}", checkpoint / name)
        except RejectedError as error:
            if not run.active:
                raise
            about = {"job_id": job.id}
            logger.warning("MLflow does not take the artifacts of job %s: %s", job.id, error, extra=about)
            self._note(job.id, "mlflow_set_aside", {"entry": "artifacts", "error_code": error.code})

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
                about = {"job_id": job.id}
                logger.warning("MLflow does not take %s of job %s: %s", entries[0], job.id, error, extra=about)
                self._note(job.id, "mlflow_set_aside", {"entry": str(entries[0]), "error_code": error.code})

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
            if _is_there(session, job_id):
                add_event(session, job_id, kind, data=data)


def _is_there(session: Session, job_id: str) -> bool:
    """Whether the job is there, and then to the end of the transaction."""
    query = select(Job.id).where(Job.id == job_id).with_for_update(read=True, key_share=True)
    return session.scalar(query) is not None


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


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
