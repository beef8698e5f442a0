"""Runs whose jobs were deleted before MLflow knew all of them: they stay, as far as they came, and are ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import delete

from service.store.models import OrphanedRun

if TYPE_CHECKING:
    from service.store import Transactions
    from service.tracking.mlflow.api import MlflowApi, RejectedError

logger = logging.getLogger(__name__)

REASON_TAG = "gradfleet.reason"


class OrphanExport:
    """Ends one run at a time; raises UnavailableError, and RejectedError where the run is no more."""

    def __init__(self, database: Transactions, api: MlflowApi) -> None:
        self._database = database
        self._api = api

    def tell(self, run_id: str) -> bool:
        """End the run, which is all there is to tell."""
        self._api.set_tags(run_id, [(REASON_TAG, "the job was deleted before MLflow had been told all of it")])
        self._api.set_status(run_id, "KILLED")
        self._forget(run_id)
        return False

    def note_refusal(self, run_id: str, error: RejectedError) -> None:
        """Leave alone a run that has been deleted, too."""
        logger.warning("MLflow does not let the run %s of a deleted job be ended: %s", run_id, error)
        self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        with self._database.writing() as session:
            session.execute(delete(OrphanedRun).where(OrphanedRun.run_id == run_id))
