"""The run of a sweep, under which MLflow shows the runs of its members. It is created before them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select, update

from service.store.models import Job, Sweep
from service.sweeps.expansion import SEED
from service.tracking.description import NOTE
from service.tracking.mlflow.api import PARAMS_PER_CALL, RejectedError
from service.tracking.mlflow.entries import flatten, milliseconds, send_together
from service.tracking.mlflow.experiment_view import EXPERIMENT, TAG, experiment_view, sweep_view
from service.tracking.sweeps.note import first_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from service.store import Transactions
    from service.tracking.mlflow.api import MlflowApi

logger = logging.getLogger(__name__)

SWEEP_TAG = "gradfleet.sweep_id"


class SweepRun(NamedTuple):
    """The run of a sweep, and its experiment."""

    run_id: str
    experiment_id: str


def ensure_sweep_run(database: Transactions, api: MlflowApi, sweep_id: str) -> SweepRun | None:
    """Return the run of a sweep: an existing one, if the answer to an earlier call was lost, or a new one.

    Returns None if the sweep has been deleted in the meantime. Raises UnavailableError, and RejectedError if retrying
    is of no use.
    """
    with database.reading() as session:
        sweep = session.get(Sweep, sweep_id)
        if sweep is None:
            return None
        if sweep.mlflow_run_id is not None and sweep.mlflow_experiment_id is not None:
            return SweepRun(sweep.mlflow_run_id, sweep.mlflow_experiment_id)
        members = session.scalars(select(Job.overrides).where(Job.sweep_id == sweep_id).order_by(Job.id)).all()
        metrics = _metrics(session, sweep, Job.sweep_id == sweep_id)
        of_experiment = _metrics(session, sweep, Job.experiment == sweep.experiment)
    experiment_id = api.experiment(sweep.experiment)
    api.tag_experiment(experiment_id, TAG + EXPERIMENT, json.dumps(experiment_view(of_experiment)))
    run = api.find_run(experiment_id, SWEEP_TAG, sweep_id)
    if run is None:
        tags = {SWEEP_TAG: sweep_id, "mlflow.source.name": "gradfleet", "mlflow.source.type": "JOB"}
        run = api.create_run(experiment_id, sweep.name, milliseconds(sweep.created_at), tags)
    run_id = run.run_id
    fields = dict.fromkeys(name for overrides in members for name, _ in flatten(overrides or {}) if name != SEED)
    api.tag_experiment(experiment_id, TAG + sweep_id, json.dumps(sweep_view(run_id, fields, metrics)))

    def set_aside(entry: tuple[str, str], error: RejectedError) -> None:
        if not api.get_run(run_id).active:
            raise error
        logger.warning("MLflow rejected %s of sweep %s: %s", entry, sweep_id, error)

    params = list(params_of(sweep.spec))
    for begin in range(0, len(params), PARAMS_PER_CALL):
        some = params[begin : begin + PARAMS_PER_CALL]
        send_together(lambda entries: api.log_params(run_id, entries), some, set_aside)
    api.set_tags(run_id, [(NOTE, first_note(sweep))])
    # At the end, since it marks all steps as done.
    with database.writing() as session:
        values = {"mlflow_run_id": run_id, "mlflow_experiment_id": run.experiment_id}
        there = session.execute(update(Sweep).where(Sweep.id == sweep_id).values(values).returning(Sweep.id)).scalar()
    if there is None:
        api.delete_run(run_id)
        return None
    return SweepRun(run_id, run.experiment_id)


def _metrics(session: Session, sweep: Sweep, condition: ColumnElement[bool]) -> list[str]:
    """The metrics of one job of each task, that by which the sweep is ranked first."""
    of_tasks = select(func.min(Job.id)).where(condition).group_by(Job.task)
    lists = session.scalars(select(Job.validation_metrics).where(Job.id.in_(of_tasks)).order_by(Job.id.desc())).all()
    stopping = sweep.spec.get("stopping")
    first = [stopping["metric"]] if stopping else []
    return list(dict.fromkeys([*first, *(name for names in lists for name in names)]))


def params_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the spec of a sweep as params: the base like a job, and one param per field ("over.optimizer.lr")."""
    yield from flatten({"base": spec["base"]})
    for kind, over in (spec["over"] or {}).items():
        match kind, over:
            case _, None:
                continue
            case "grid", dict(fields):
                yield from ((f"over.{field}", json.dumps(values)) for field, values in fields.items())
            case "random", {"fields": dict(fields), **search}:
                yield from ((f"over.{field}", json.dumps(drawn)) for field, drawn in fields.items())
                yield from flatten({"over.random": search})
            case _:
                yield f"over.{kind}", json.dumps(over)
    yield "seeds", json.dumps(spec["seeds"])
    yield "parallel", json.dumps(spec["parallel"])
    if spec.get("stopping") is not None:
        yield from flatten({"stopping": spec["stopping"]})
