"""The files of a job, by what they hold: the same bytes are sent to MLflow and given by the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.jobs.certificates.document import as_file
from service.jobs.certificates.issue import issue
from service.jobs.states import State
from service.store.models import Verification
from service.tracking.artifacts.evaluation import evaluation_json
from service.tracking.artifacts.history import history_parquet
from service.tracking.artifacts.pictures import pictures_in
from service.tracking.artifacts.spec_yaml import spec_yaml
from service.tracking.model.mlflow_model import trained_model
from workers.record.checkpoint import computation_sha256, latest, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from service.jobs.certificates.document import Certificate
    from service.settings import Settings
    from service.store import Transactions
    from service.store.models import Job
    from service.tracking.artifacts.pictures import Drawn

    Files = dict[str, bytes | Path]

CHECKPOINT_FILES = ("model.safetensors", "checkpoint.json")


class Contents:
    """Makes or finds the files of jobs. A job that has not ended has those that are there so far.

    Every method returns files by name, without those that the job does not have. It raises CheckpointError for a
    damaged checkpoint, and OSError for a file that cannot be read, or was removed with its job meanwhile.
    """

    def __init__(self, database: Transactions, settings: Settings) -> None:
        self._database, self._settings = database, settings

    def directory(self, job: Job) -> Path:
        """The directory of the job."""
        return self._settings.job_dir(job.id)

    def spec(self, job: Job) -> Files:
        """The resolved spec."""
        return {"spec.yaml": spec_yaml(job.spec)}

    def checkpoint(self, job: Job) -> Files:
        """The last checkpoint; its files are not verified."""
        checkpoint = latest(self.directory(job))
        return {} if checkpoint is None else {name: checkpoint / name for name in CHECKPOINT_FILES}

    def evaluation(self, job: Job) -> Files:
        """The evaluation of the kept parameters."""
        if job.kept is None:
            return {}
        return {"evaluation.json": evaluation_json(job.kept, job.evaluation, job.dataset)}

    def history(self, job: Job) -> Files:
        """Every recorded step of every series."""
        history = history_parquet(self.directory(job))
        return {} if history is None else {"history.parquet": history}

    def trained(self, job: Job) -> Path | None:
        """The checkpoint of the trained model, if the job has trained one."""
        with self._database.reading() as session:
            verification = session.get(Verification, job.id)
        # A job that replays intervals has the parameters after the last of them, which are not a trained model.
        replays = verification is not None and verification.sample is not None
        return latest(self.directory(job)) if job.state == State.SUCCEEDED and not replays else None

    def model(self, job: Job) -> Files:
        """The trained model: a description and its weights, which are not verified."""
        checkpoint = self.trained(job)
        if checkpoint is None:
            return {}
        header = read_header(checkpoint, job.id, computation_sha256(job.spec, job.dataset["digest"]))
        return trained_model(checkpoint, header, job.dataset)

    def certificate(self, job: Job) -> Certificate | None:
        """The certificate of a job that has succeeded. Raises ServiceError if it cannot be made."""
        return issue(self._database, self._settings, job.id) if job.state == State.SUCCEEDED else None

    def pictures(self, job: Job) -> Drawn:
        """The figures that have been drawn, and the reasons of those that could not be."""
        return pictures_in(self.directory(job))


def certificate_file(certificate: Certificate) -> Files:
    """A certificate as a file."""
    return {"certificate.json": as_file(certificate)}
