"""Database operations on sweeps. Every function works in the caller's transaction."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import case, func, select
from sqlalchemy.orm import joinedload

from service.jobs.repository import check_room, move_all, new_id
from service.jobs.states import ACTIONS, LIVE, STOPPED_BY_SWEEP, TERMINAL, Action, State
from service.store.models import Job, Metric, Sweep
from service.store.rows import add_once
from service.sweeps.schemas import SweepState
from service.sweeps.storing import store_members
from workers.job.metrics import HIGHER_IS_BETTER, ValidationMetric

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from service.sweeps.storing import MemberRow

STOPPED = "stopped"  # instead of a state


def create_sweep(
    session: Session,
    *,
    spec: dict[str, Any],
    members: Sequence[MemberRow],
    body_sha256: str,
    idempotency_key: str | None = None,
    max_queued_jobs: int | None = None,
) -> tuple[Sweep, bool]:
    """Add a sweep with its jobs; returns the sweep and whether it is new.

    The same `idempotency_key` with the same body returns the first sweep again. Raises IdempotencyMismatchError where
    the body differs, and QueueFullError where more than `max_queued_jobs` would be queued.
    """
    sweep_id, created_at = new_id("sweep")
    sweep, created = add_once(
        session,
        Sweep(
            id=sweep_id,
            name=spec["name"],
            experiment=spec["experiment"],
            spec=spec,
            parallel=spec["parallel"],
            idempotency_key=idempotency_key,
            body_sha256=body_sha256,
            created_at=created_at,
        ),
    )
    if created:
        if max_queued_jobs is not None:
            check_room(session, max_queued_jobs, len(members))
        store_members(session, sweep_id, members)
    return sweep, created


def list_sweeps(session: Session, *, limit: int, starting_after: str | None = None) -> tuple[Sequence[Sweep], bool]:
    """Sweeps, newest first, after the sweep `starting_after`; and whether there are more."""
    query = select(Sweep).order_by(Sweep.id.desc()).limit(limit + 1)
    if starting_after is not None:
        query = query.where(Sweep.id < starting_after)
    sweeps = session.scalars(query).all()
    return sweeps[:limit], len(sweeps) > limit


def states_of(session: Session, sweep_ids: Collection[str]) -> dict[str, Counter[str]]:
    """Number of jobs of each sweep in each state; those that its stopping rule has cancelled are `STOPPED`."""
    by_rule = (Job.state == State.CANCELLED) & Job.reason.startswith(STOPPED_BY_SWEEP, autoescape=True)
    standing = case((by_rule, STOPPED), else_=Job.state).label("standing")
    query = select(Job.sweep_id, standing, func.count()).where(Job.sweep_id.in_(sweep_ids))
    states: dict[str, Counter[str]] = {sweep_id: Counter() for sweep_id in sweep_ids}
    for sweep_id, state, count in session.execute(query.group_by(Job.sweep_id, standing)):
        if sweep_id is not None:
            states[sweep_id][state] = count
    return states


def state_of(jobs: Mapping[str, int]) -> SweepState:
    """A sweep's state, from the number of its jobs in each state."""
    if not any(jobs.values()):
        return SweepState.EMPTY
    present = {State(state) for state, count in jobs.items() if count and state != STOPPED}
    if present & LIVE or (State.QUEUED in present and (present & TERMINAL or jobs.get(STOPPED))):
        return SweepState.RUNNING
    for state in (State.QUEUED, State.PAUSED, State.FAILED, State.CANCELLED):
        if state in present:
            return SweepState(state.value)
    return SweepState.SUCCEEDED


def cancel_sweep(session: Session, sweep_id: str) -> bool:
    """Cancel all jobs of a sweep that have not ended; returns False if there is none."""
    query = select(Job.id, Job.state).where(Job.sweep_id == sweep_id, Job.state.not_in(TERMINAL)).order_by(Job.id)
    found = defaultdict(list)
    for job_id, state in session.execute(query.with_for_update(key_share=True)):
        found[State(state)].append(job_id)
    moves = {state: ACTIONS[Action.CANCEL][state] for state in found}
    changes = {state: target for state, target in moves.items() if target is not state}
    for state, target in changes.items():
        move_all(session, found[state], from_=state, to=target, reason="cancel_requested")
    return bool(changes)


def jobs_of(session: Session, sweep_id: str) -> Sequence[Job]:
    """The jobs of a sweep in the order of creation, each with its run in MLflow."""
    query = select(Job).options(joinedload(Job.mlflow_run)).where(Job.sweep_id == sweep_id).order_by(Job.id)
    return session.scalars(query).all()


def best_values(session: Session, sweep_id: str) -> dict[str, dict[str, float]]:
    """The best finite value of each validation metric, by the ids of a sweep's jobs."""
    query = (
        select(Metric.job_id, Metric.name, func.min(Metric.value), func.max(Metric.value))
        .join(Job, Job.id == Metric.job_id)
        .where(Job.sweep_id == sweep_id, Metric.name.in_(get_args(ValidationMetric)))
        .where(Metric.value.between(-sys.float_info.max, sys.float_info.max))
        .group_by(Metric.job_id, Metric.name)
    )
    bests: dict[str, dict[str, float]] = {}
    for job_id, name, low, high in session.execute(query):
        bests.setdefault(job_id, {})[name] = high if name in HIGHER_IS_BETTER else low
    return bests


def parallel_limits(session: Session, jobs: Iterable[Job]) -> dict[str | None, int]:
    """Maximum number of running jobs, by sweep, of the sweeps of these jobs that have one."""
    sweep_ids = {job.sweep_id for job in jobs} - {None}
    if not sweep_ids:
        return {}
    rows = session.execute(select(Sweep.id, Sweep.parallel).where(Sweep.id.in_(sweep_ids)))
    return {sweep_id: parallel for sweep_id, parallel in rows if parallel is not None}
