"""Records the digests of a job's parameters at its milestones, and compares those that are recorded twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from service.jobs.events import add_event
from service.jobs.repository import changed, held
from service.store.models import Job, Milestone

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
