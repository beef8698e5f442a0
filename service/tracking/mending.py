"""Mends what a crash or a lost answer has left in MLflow: second runs of a job, and runs that never ended.

A run of a job that this database does not know is left alone: another service may tell the same server.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from service.jobs.states import State
from service.store.models import Job, MlflowRun
from service.tracking.backlog import STATUS
from service.tracking.job_export import JOB_TAG
from service.tracking.mlflow.entries import milliseconds
from service.tracking.orphans import REASON_TAG

if TYPE_CHECKING:
    from service.store import Transactions
    from service.tracking.mlflow.api import MlflowApi, RejectedError

logger = logging.getLogger(__name__)

EXPERIMENTS_PER_CALL = 100


class Mending:
    """Looks through the runs in MLflow that have not ended, once where it is `due`; harmless when done twice."""

    def __init__(self, database: Transactions, api: MlflowApi) -> None:
        self.due = True
        self._database = database
        self._api = api

    def tell(self, _: str) -> bool:
        """Look, and mend. Raises UnavailableError, and RejectedError where trying again is no use."""
        with self._database.reading() as session:
            experiments = session.scalars(select(MlflowRun.experiment_id).distinct()).all()
        for begin in range(0, len(experiments), EXPERIMENTS_PER_CALL):
            some = experiments[begin : begin + EXPERIMENTS_PER_CALL]
            # All of them before the first is mended: it would be missing from the next page, and others with it.
            for run_id, job_id in self._api.unended_runs(some, JOB_TAG):
                self._mend(run_id, job_id)
        self.due = False
        return False

    def note_refusal(self, _: str, error: RejectedError) -> None:
        """Take note that it cannot be done."""
        self.due = False
        logger.error("MLflow does not let its runs be mended: %s", error)

    def _mend(self, run_id: str, job_id: str) -> None:
        with self._database.reading() as session:
            job, record = session.get(Job, job_id), session.get(MlflowRun, job_id)
        if job is None or record is None:
            return
        if record.run_id != run_id:
            logger.warning("job %s has a second run in MLflow, %s, which is deleted", job_id, run_id)
            self._api.set_tags(run_id, [(REASON_TAG, f"the job's run is {record.run_id}")])
            self._api.delete_run(run_id)
        elif job.mlflow_finished:
            logger.warning("the run %s of job %s, which has ended, had not", run_id, job_id)
            ended = milliseconds(job.finished_at or job.created_at)
            self._api.set_status(run_id, STATUS[State(job.state)], ended)
