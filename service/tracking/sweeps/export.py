"""Export of the end of a sweep, after that of all its members: comparison, alias of the best model, and status.

Each step is idempotent. The sweep is marked in the database at the end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import update

from service.analysis.artist import DrawingError
from service.jobs.figures import kept
from service.jobs.series.points import Point
from service.store.models import Sweep
from service.sweeps.comparison import compare
from service.sweeps.repository import best_values, jobs_of, state_of, states_of
from service.sweeps.schemas import SweepState
from service.tracking.description import NOTE
from service.tracking.mlflow.api import RejectedError
from service.tracking.mlflow.entries import milliseconds
from service.tracking.recovery import Recovery
from service.tracking.sweeps.note import last_note
from service.tracking.sweeps.run import ensure_sweep_run
from service.tracking.sweeps.tables import TABLES_TAG, comparison_files
from workers.record.selection import is_better

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from service.settings import Settings
    from service.store import Transactions
    from service.store.models import Job
    from service.sweeps.schemas import ComparisonView
    from service.tracking.artifacts.pictures import DrawnPictures
    from service.tracking.mlflow.api import MlflowApi, Run

logger = logging.getLogger(__name__)

STATUS = {
    SweepState.SUCCEEDED: "FINISHED",
    SweepState.FAILED: "FAILED",
    SweepState.CANCELLED: "KILLED",
    SweepState.EMPTY: "KILLED",
}
BEST = "best"  # alias of a registered model


class SweepExport:
    """Exports the end of sweeps. Raises UnavailableError, and RejectedError if retrying is of no use."""

    def __init__(self, database: Transactions, settings: Settings, api: MlflowApi, pictures: DrawnPictures) -> None:
        self._database = database
        self._pictures = pictures
        self._mlflow_link = settings.mlflow_link
        self._api = api
        self._recovery = Recovery(database, api)

    def export(self, sweep_id: str) -> bool:
        """Send the end of a sweep whose jobs have all ended."""
        try:
            return self._export(sweep_id)
        except RejectedError:
            if not self._recovery.repair_sweep(sweep_id):
                raise
            return True

    def _export(self, sweep_id: str) -> bool:
        if self._pictures.are_being_drawn(sweep_id):
            return False  # exported later, and others first
        with self._database.reading() as session:
            sweep = session.get(Sweep, sweep_id)
            if sweep is None:
                return False  # just deleted
            jobs, bests = jobs_of(session, sweep_id), best_values(session, sweep_id)
            states = states_of(session, [sweep_id])[sweep_id]
            comparison = compare(sweep, jobs, bests, mlflow_link=self._mlflow_link)
        if not self._pictures.is_compared(sweep, jobs, comparison.metric):
            return False
        # If all members were deleted before they were exported, there is nothing to show.
        if jobs or sweep.mlflow_run_id is not None:
            record = ensure_sweep_run(self._database, self._api, sweep_id)
            if record is None:
                return False
            run = self._api.get_run(record.run_id)
            ended_ms = milliseconds(max((job.finished_at or job.created_at for job in jobs), default=sweep.created_at))
            note = last_note(sweep, run.experiment_id, states, comparison)
            self._try(sweep, run, "note", lambda: self._api.set_tags(run.run_id, [(NOTE, note), TABLES_TAG]))
            self._try(sweep, run, "comparison", lambda: self._send_files(run, comparison))
            self._try(sweep, run, "picture", lambda: self._send_picture(sweep, run))
            self._try(sweep, run, "metrics", lambda: self._send_metrics(run, comparison, ended_ms))
            self._try(sweep, run, "best model", lambda: self._name_best(jobs, comparison))
            self._api.set_status(run.run_id, STATUS[state_of(states)], ended_ms)
        with self._database.writing() as session:
            session.execute(update(Sweep).where(Sweep.id == sweep_id).values(mlflow_finished=True, mlflow_problem=None))
        return False

    def record_rejection(self, sweep_id: str, error: RejectedError) -> None:
        """Record in the sweep that MLflow rejected it as a whole."""
        with self._database.reading() as session:
            sweep = session.get(Sweep, sweep_id)
        if sweep is None:
            return
        problem = self._recovery.problem(sweep.mlflow_run_id, error)
        logger.error("sweep %s: %s", sweep_id, problem)
        with self._database.writing() as session:
            session.execute(update(Sweep).where(Sweep.id == sweep_id).values(mlflow_problem=problem))

    def _try(self, sweep: Sweep, run: Run, entry: str, send: Callable[[], None]) -> None:
        """Send a part of the export. If this fails, log it and go on."""
        try:
            send()
        except (DrawingError, OSError, RejectedError) as error:
            if isinstance(error, RejectedError) and not run.active:
                raise
            logger.warning("the %s of sweep %s could not be exported to MLflow: %s", entry, sweep.id, error)

    def _send_files(self, run: Run, comparison: ComparisonView) -> None:
        for path, content in comparison_files(comparison).items():
            self._api.upload(run, path, content)

    def _send_picture(self, sweep: Sweep, run: Run) -> None:
        drawn = self._pictures.take_comparison(sweep)
        for path, file in drawn.files.items():
            self._api.upload(run, path, file)
        for path, reason in drawn.failures.items():
            logger.warning("%s of sweep %s could not be drawn: %s", path, sweep.id, reason)

    def _send_metrics(self, run: Run, comparison: ComparisonView, ended_ms: int) -> None:
        points = [Point(name, 0, value, ended_ms) for name, value in best_means(comparison)]
        if points:
            self._api.log_points(run.run_id, points)

    def _name_best(self, jobs: Sequence[Job], comparison: ComparisonView) -> None:
        """Set the alias of each registered model with versions from this sweep to the version of the best member."""
        best: dict[str, tuple[float, str]] = {}
        for job, member in zip(jobs, comparison.members, strict=True):
            name, value = job.spec.get("registered_model_name"), member.metrics.get(kept(comparison.metric))
            if name is None or value is None or member.mlflow is None or member.state != "succeeded":
                continue
            if is_better(comparison.metric, value, best[name][0] if name in best else None):
                best[name] = value, member.mlflow.run_id
        for name, (_, run_id) in best.items():
            self._api.alias_model(name, BEST, run_id)


def best_means(comparison: ComparisonView) -> Iterator[tuple[str, float]]:
    """Yield the means of the best group of each loss, with names such as "hinge/kept/val/accuracy"."""
    for loss, position in comparison.best_per_loss.items():
        for name, statistic in comparison.groups[position].metrics.items():
            if name.startswith(("val/", kept("val/"))) and statistic.mean is not None:
                yield f"{loss}/{name}", statistic.mean
