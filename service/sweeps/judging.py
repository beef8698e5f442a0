"""Application of the stopping rules of sweeps to their members in the database."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import Double, select, type_coerce

from service.errors import ConflictError, NotFoundError
from service.jobs.actions import apply_action
from service.jobs.states import Action, State
from service.store.models import Job, Metric, Sweep
from service.sweeps.stopping import Standing, Stopping, SuccessiveHalving, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

RULE: TypeAdapter[Stopping] = TypeAdapter(Stopping)


class Judgement(NamedTuple):
    """Decisions of the rules of all sweeps, by job id.

    Jobs to stop and queued jobs to hold, each with its reason, and the last step of attempts that start.
    """

    stop: dict[str, str]
    hold: dict[str, str]
    until_step: dict[str, int]

    def joined(self, other: Judgement) -> Judgement:
        """The decisions of both."""
        return Judgement(self.stop | other.stop, self.hold | other.hold, self.until_step | other.until_step)


class Values(NamedTuple):
    """Values of a member by step, and the attempt and step that it had reached; with others there may be more."""

    reached: tuple[int, int]
    by_step: dict[int, float]


def judge(session: Session, jobs: Iterable[Job], known: dict[str, Values]) -> Judgement:
    """Apply the rules of the sweeps of these jobs.

    `known` has the values that earlier calls have read, by job; only those of members that went on are read again.
    """
    judgement = Judgement({}, {}, {})
    queued: dict[str | None, list[Job]] = defaultdict(list)
    for job in jobs:
        queued[job.sweep_id] += [job] if job.state == State.QUEUED else []
    sweep_ids = queued.keys() - {None}
    if not sweep_ids:
        return judgement
    rules = select(Sweep.id, Sweep.spec["stopping"]).where(Sweep.id.in_(sweep_ids))
    for sweep_id, document in session.execute(rules):
        if document is None:
            continue
        rule = RULE.validate_python(document)
        verdict = verdict_of(rule, standings(session, sweep_id, rule, known))
        judgement.stop.update(verdict.stop)
        judgement.hold.update(verdict.hold)
        if verdict.until is not None:
            for job in queued[sweep_id]:
                judgement.until_step[job.id] = verdict.until * (job.total_steps // job.spec["training"]["epochs"])
    return judgement


def stop(session: Session, job_id: str, reason: str) -> bool:
    """Cancel a member; returns False if it has ended or is already being cancelled."""
    try:
        return apply_action(session, job_id, Action.CANCEL, reason=reason)
    except (ConflictError, NotFoundError):
        return False


def standings(session: Session, sweep_id: str, rule: Stopping, known: dict[str, Values]) -> list[Standing]:
    """State and metric values of the members of a sweep, in the order of their numbers. For `known` see `judge`."""
    epochs = Job.spec["training"]["epochs"].as_integer()
    columns = Job.id, Job.state, epochs, Job.total_steps // epochs, Job.latest_metrics[rule.metric]
    query = select(*columns, Job.attempt, Job.step).where(Job.sweep_id == sweep_id).order_by(Job.id)
    members = session.execute(query).all()
    reached = {job_id: (attempt, step) for job_id, *_, attempt, step in members}
    changed = [job_id for job_id, at in reached.items() if job_id not in known or known[job_id].reached != at]
    known |= {job_id: Values(reached[job_id], {}) for job_id in changed}
    # Many values: the column's own type would convert each in Python.
    value = type_coerce(Metric.value, Double)
    points = select(Metric.job_id, Metric.step, value).where(Metric.job_id.in_(changed), Metric.name == rule.metric)
    if isinstance(rule, SuccessiveHalving):
        # Values at the rungs are enough, with the last one of members that ended before.
        rungs = list(rule.rungs(max((member[2] for member in members), default=0)))
        points = points.where(Metric.step.in_({rung * member[3] for member in members for rung in rungs}))
    for job_id, step, recorded in session.execute(points) if changed else ():
        known[job_id].by_step[step] = recorded
    for job_id, _, _, _, latest, *_ in members:
        if latest is not None:
            step, recorded = latest
            known[job_id].by_step.setdefault(step, recorded)
    return [
        Standing(
            job_id,
            State(state),
            epochs,
            {
                step // steps: math.nan if recorded is None else recorded
                for step, recorded in known[job_id].by_step.items()
            },
        )
        for job_id, state, epochs, steps, *_ in members
    ]
