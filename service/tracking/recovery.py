"""What is done when MLflow no longer has a run, or refuses it: it is created again, or restored, or the job says why.

| in MLflow | is |
|---|---|
| a deleted experiment | restored, with its runs |
| a run that does not exist, as in a new database | forgotten: the job is exported again, from its first point |
| a deleted run | left as it is: the job says so, and the export goes on if someone restores it |
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import delete, update

from service.jobs.events import add_event
from service.store.models import Job, MlflowRun, Sweep
from service.store.rows import find
from service.tracking.mlflow.api import MISSING, RejectedError

if TYPE_CHECKING:
    from service.store import Transactions
    from service.tracking.mlflow.api import MlflowApi, Run

logger = logging.getLogger(__name__)

LONGEST_PROBLEM = 1000  # characters
AGAIN = "It is tried again after a minute, and then less and less often, at least every hour."


class Recovery:
    """Repairs jobs and sweeps whose export MLflow has rejected, and records what it cannot repair."""

    def __init__(self, database: Transactions, api: MlflowApi) -> None:
        self._database, self._api = database, api

    def repair_job(self, job_id: str) -> bool:
        """Repair the run of a job and that of its sweep; returns whether anything has changed."""
        with self._database.reading() as session:
            job, record = session.get(Job, job_id), session.get(MlflowRun, job_id)
        if job is None:
            return False
        changed = job.sweep_id is not None and self.repair_sweep(job.sweep_id)
        if record is None:
            return changed
        run = self._find(record.run_id)
        if run is not None:
            return self._restore(run, record.experiment_id) or changed
        logger.warning("MLflow does not have run %s of job %s any more: it is exported again", record.run_id, job_id)
        with self._database.writing() as session:
            if find(session, Job, job_id, lock=True) is not None:
                session.execute(delete(MlflowRun).where(MlflowRun.job_id == job_id))
                add_event(session, job_id, "mlflow_exported_again", data={"lost_run": record.run_id})
        return True

    def repair_sweep(self, sweep_id: str) -> bool:
        """Repair the run of a sweep; returns whether anything has changed."""
        with self._database.reading() as session:
            sweep = session.get(Sweep, sweep_id)
        if sweep is None or sweep.mlflow_run_id is None or sweep.mlflow_experiment_id is None:
            return False
        run = self._find(sweep.mlflow_run_id)
        if run is not None:
            return self._restore(run, sweep.mlflow_experiment_id)
        logger.warning("MLflow does not have run %s of sweep %s any more", sweep.mlflow_run_id, sweep_id)
        with self._database.writing() as session:
            none = {"mlflow_run_id": None, "mlflow_experiment_id": None}
            session.execute(update(Sweep).where(Sweep.id == sweep_id).values(none))
        return True

    def problem(self, run_id: str | None, error: RejectedError) -> str:
        """Return what is wrong, for the user."""
        if run_id is not None and self._is_deleted(run_id):
            return f"The run {run_id} was deleted in MLflow. If it is restored there, the export continues. {AGAIN}"
        return f"MLflow refuses the export: {error}"[:LONGEST_PROBLEM].rstrip(".") + f". {AGAIN}"

    def _find(self, run_id: str) -> Run | None:
        """The run; None if MLflow does not have it."""
        try:
            return self._api.get_run(run_id)
        except RejectedError as error:
            if error.code != MISSING:
                raise
            return None

    def _is_deleted(self, run_id: str) -> bool:
        try:
            return not self._api.get_run(run_id).active
        except RejectedError:
            return False

    def _restore(self, run: Run, experiment_id: str) -> bool:
        if run.active or not self._api.restore_experiment(experiment_id):
            return False
        logger.warning("experiment %s was deleted in MLflow, and restored: jobs are exported to it", experiment_id)
        return True
