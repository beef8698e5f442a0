"""Records the digests of a job's parameters at its milestones, and of the states in its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from service.jobs.events import add_event
from service.jobs.repository import changed, held
from service.store.models import Checkpoint, Job, Milestone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session


def record_milestones(session: Session, job_id: str, attempt: int, digests: Mapping[int, str]) -> bool:
    """Record digests, by step; returns False and records nothing if the attempt is not the job's current one.

    Only the first digest of a step is stored. A later one must be equal; if some differ, one `determinism_violation`
    event has the first of them and their number.
    """
    if not changed(session, update(Job).where(*held(job_id, attempt)).values(attempt=attempt)):
        return False
    recorded = read_milestones(session, job_id)
    fresh = {step: digest for step, digest in digests.items() if step not in recorded}
    if fresh:
        rows = [{"job_id": job_id, "step": step, "params_sha256": digest} for step, digest in fresh.items()]
        session.execute(insert(Milestone), rows)
    differing = [step for step, digest in digests.items() if recorded.get(step, digest) != digest]
    if differing:
        step = differing[0]
        values = {"recorded": recorded[step], "recomputed": digests[step], "differing_points": len(differing)}
        data = {"name": "params_sha256", "step": step, **values}
        add_event(session, job_id, "determinism_violation", attempt=attempt, data=data)
    return True


def read_milestones(session: Session, job_id: str) -> dict[int, str]:
    """The recorded digests of a job, by step, in order."""
    query = select(Milestone.step, Milestone.params_sha256).where(Milestone.job_id == job_id).order_by(Milestone.step)
    return dict(session.execute(query).all())


def record_state(session: Session, job_id: str, step: int, digest: str, *, keep: int) -> None:
    """Record the digest of the state in a checkpoint, and forget those of all but the newest `keep` checkpoints."""
    session.merge(Checkpoint(job_id=job_id, step=step, state_sha256=digest))
    session.flush()
    of_job = select(Checkpoint.step).where(Checkpoint.job_id == job_id)
    newest_removed = session.scalar(of_job.order_by(Checkpoint.step.desc()).offset(keep).limit(1))
    if newest_removed is not None:
        session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step <= newest_removed))


def read_states(session: Session, job_id: str) -> dict[int, str]:
    """The recorded digests of the states in a job's checkpoints, by step, in order."""
    query = select(Checkpoint.step, Checkpoint.state_sha256).where(Checkpoint.job_id == job_id)
    return dict(session.execute(query.order_by(Checkpoint.step)).all())
