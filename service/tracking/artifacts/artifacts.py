"""The artifacts of a run: spec, last checkpoint, history, trained model, its evaluation, certificate, and figures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from service.analysis.artist import DrawingError
from service.errors import ServiceError
from service.tracking.artifacts.contents import Contents, certificate_file
from service.tracking.artifacts.pictures import DrawnPictures, artifact_path
from service.tracking.mlflow.api import MlflowApi, RejectedError
from service.tracking.model.logged_model import log_model
from workers.record.checkpoint import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from service.settings import Settings
    from service.store import Transactions
    from service.store.models import Job, MlflowRun
    from service.tracking.mlflow.api import Run

    Send = Callable[[Job, MlflowRun, Run], None]

logger = logging.getLogger(__name__)

ROOT_TAG = "gradfleet.certificate.root"


class Record(Protocol):
    """Records in the job what could not be exported."""

    def set_aside(self, job_id: str, entry: str, code: str, refusal: RejectedError | None) -> None:
        """Record that a part of a job is not exported. `refusal` is MLflow's, if it refuses it."""


class Artifacts:
    """Uploads the artifacts of a job that has ended. Uploading is idempotent."""

    def __init__(
        self,
        api: MlflowApi,
        database: Transactions,
        settings: Settings,
        pictures: DrawnPictures,
        record: Record,
    ):
        self._api, self._record = api, record
        self._contents = Contents(database, settings)
        self._pictures = pictures
        self._sent_but_pictures: set[str] = set()

    def are_being_drawn(self, job_id: str) -> bool:
        """Whether the figures of a job are still being drawn."""
        return self._pictures.are_being_drawn(job_id)

    def forget(self, job_id: str) -> None:
        """Send everything again with the next call: the job may have another run."""
        self._sent_but_pictures.discard(job_id)

    def send(self, job: Job, record: MlflowRun) -> bool:
        """Upload all artifacts. Those that cannot be uploaded are recorded as events of the job, and skipped.

        Returns False while figures are being drawn: the other artifacts are uploaded at once, the figures by a later
        call. Raises UnavailableError, and RejectedError if the run was deleted.
        """
        drawn = self._pictures.are_drawn(job)
        due: dict[str, Send] = {}
        if job.id not in self._sent_but_pictures:
            due |= {
                "spec": self._send_spec,
                "checkpoint": self._send_checkpoint,
                "evaluation": self._send_evaluation,
                "history": self._send_history,
                "model": self._send_model,
                "certificate": self._send_certificate,
            }
        if drawn:
            due["pictures"] = self._send_pictures
        if due:
            self._send_each(job, record, due)
        (self._sent_but_pictures.discard if drawn else self._sent_but_pictures.add)(job.id)
        return drawn

    def _send_each(self, job: Job, record: MlflowRun, due: Mapping[str, Send]) -> None:
        run = self._api.get_run(record.run_id)
        for entry, send in due.items():
            try:
                send(job, record, run)
            except (CheckpointError, OSError) as error:
                # Also if the job was just deleted, together with its files. The event is then dropped.
                self._set_aside(job, entry, "DAMAGED", error)
            except DrawingError as error:
                self._set_aside(job, entry, error.code, error)
            except RejectedError as error:
                if not run.active:
                    raise
                self._set_aside(job, entry, error.code, error)

    def _upload(self, run: Run, folder: str, files: Mapping[str, bytes | Path]) -> None:
        for name, content in files.items():
            self._api.upload(run, f"{folder}/{name}", content)

    def _send_spec(self, job: Job, _: MlflowRun, run: Run) -> None:
        self._upload(run, "model", self._contents.spec(job))

    def _send_checkpoint(self, job: Job, _: MlflowRun, run: Run) -> None:
        self._upload(run, "model", self._contents.checkpoint(job))

    def _send_evaluation(self, job: Job, _: MlflowRun, run: Run) -> None:
        self._upload(run, "model", self._contents.evaluation(job))

    def _send_history(self, job: Job, _: MlflowRun, run: Run) -> None:
        self._upload(run, "history", self._contents.history(job))

    def _send_model(self, job: Job, record: MlflowRun, _: Run) -> None:
        checkpoint = self._contents.trained(job)
        if checkpoint is not None:
            log_model(self._api, job, record, checkpoint)

    def _send_certificate(self, job: Job, record: MlflowRun, run: Run) -> None:
        try:
            certificate = self._contents.certificate(job)
        except ServiceError as error:
            logger.warning("%s", error, extra={"job_id": job.id})
            return
        if certificate is not None:
            self._upload(run, "model", certificate_file(certificate))
            self._api.set_tags(record.run_id, [(ROOT_TAG, certificate.root)])

    def _send_pictures(self, job: Job, _: MlflowRun, run: Run) -> None:
        drawn = self._pictures.take(job)
        for name, file in drawn.files.items():
            self._api.upload(run, artifact_path(name), file)
        for name, reason in drawn.failures.items():
            self._set_aside(job, artifact_path(name), "FAILED", reason)

    def _set_aside(self, job: Job, entry: str, code: str, error: Exception | str) -> None:
        logger.warning(
            "the %s of job %s could not be exported to MLflow: %s", entry, job.id, error, extra={"job_id": job.id}
        )
        # Other errors are about files of the service.
        refusal = error if isinstance(error, RejectedError) else None
        self._record.set_aside(job.id, entry, code, refusal)
