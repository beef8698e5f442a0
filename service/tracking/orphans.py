"""Runs whose jobs or sweeps were deleted before their export was complete: they are kept as they are, and ended."""

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
    """Ends one run at a time. Raises UnavailableError, and RejectedError if the run was deleted."""

    def __init__(self, database: Transactions, api: MlflowApi) -> None:
        self._database = database
        self._api = api

    def export(self, run_id: str) -> bool:
        """End the run."""
        self._api.set_tags(run_id, [(REASON_TAG, "it was deleted in Gradfleet before its export was complete")])
        self._api.set_status(run_id, "KILLED")
        self._forget(run_id)
        return False

    def record_rejection(self, run_id: str, error: RejectedError) -> None:
        """Ignore the run from now on: it was deleted, too."""
        logger.warning("MLflow rejected ending run %s of a deleted job: %s", run_id, error)
        self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        with self._database.writing() as session:
            session.execute(delete(OrphanedRun).where(OrphanedRun.run_id == run_id))
