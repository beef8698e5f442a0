"""The queue, read in pages: a pass of the scheduler depends on the jobs that can start, not on those that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import or_, select

from service.jobs.states import State
from service.scheduling.admission import Admission
from service.scheduling.arithmetic import without_level
from service.store.models import Job
from service.sweeps.judging import Judgement, Values, judge
from service.sweeps.repository import parallel_limits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

PAGE = 100
MOST_VALUES = 20_000  # members whose values are kept


class Place(NamedTuple):
    """The place of a job in the queue."""

    priority: int
    id: str


class Decisions(NamedTuple):
    """Decisions about queued jobs: those that start, in order, and the new reasons of others; and those of sweeps."""

    starting: Sequence[str]
    reasons: Mapping[str, str]
    judgement: Judgement
    empty: bool


class Queue:
    """Decides in each pass about the front of the queue, and about one page behind it.

    The front ends at the first job that has to wait for its turn: no later job starts. The pages behind it take turns,
    so that every job has a reason after some passes.
    """

    def __init__(self) -> None:
        self._place: Place | None = None  # of the last job of the last page behind the front
        self._values: dict[str, Values] = {}  # of the members of sweeps with a stopping rule

    def decide(
        self,
        session: Session,
        live: Sequence[Job],
        capacity: Mapping[str, float],
        levels: Sequence[Sequence[str]],
        max_running_jobs: int | None,
    ) -> Decisions:
        """Decide about queued jobs beside these live ones; `levels` are each node's levels of arithmetic."""
        if len(self._values) > MOST_VALUES:  # most are of sweeps that have ended
            self._values.clear()
        admission = Admission(live, capacity, max_running_jobs)
        admission.parallel.update(parallel_limits(session, live))
        judgement = Judgement({}, {}, {})
        seen: dict[str, Job] = {}
        place, full, unjudged = None, False, list(live)
        while admission.ahead is None and not full:
            fitting = _can_start(capacity, admission.full_sweeps)
            page = read_page(session, place, *fitting)
            judgement = judgement.joined(judge(session, [*unjudged, *page], self._values))
            admission.parallel.update(parallel_limits(session, page))
            held = {**without_level(page, levels), **judgement.hold}
            admission.consider([job for job in page if job.id not in judgement.stop], held)
            seen |= {job.id: job for job in page}
            unjudged, full = [], len(page) < PAGE
            place = Place(page[-1].priority, page[-1].id) if page else None
        behind = read_page(session, self._place)
        if self._place is not None:
            admission.ahead = self._place.id
        self._place = Place(behind[-1].priority, behind[-1].id) if len(behind) == PAGE else None
        rest = [job for job in behind if job.id not in seen and job.id not in judgement.stop]
        admission.consider(rest, without_level(rest, levels))
        seen |= {job.id: job for job in behind}
        news = {id_: reason for id_, reason in admission.waiting.items() if seen[id_].reason != reason}
        return Decisions(admission.starting, news, judgement, empty=not seen)


def read_page(session: Session, after: Place | None, *conditions: ColumnElement[bool]) -> Sequence[Job]:
    """The next `PAGE` queued jobs that fulfil the conditions, by descending priority, then the oldest first."""
    query = select(Job).where(Job.state == State.QUEUED, *conditions).order_by(Job.priority.desc(), Job.id)
    if after is None:
        return session.scalars(query.limit(PAGE)).all()
    # Two ranges of the index: one condition for both would read all jobs before the place.
    same = session.scalars(query.where(Job.priority == after.priority, Job.id > after.id).limit(PAGE)).all()
    lower = query.where(Job.priority < after.priority).limit(PAGE - len(same))
    return [*same, *session.scalars(lower)] if len(same) < PAGE else same


def _can_start(capacity: Mapping[str, float], full_sweeps: Collection[str]) -> list[ColumnElement[bool]]:
    conditions = [Job.cpus <= capacity["CPU"], Job.gpus <= capacity["GPU"]]
    if full_sweeps:
        conditions.append(or_(Job.sweep_id.is_(None), Job.sweep_id.not_in(full_sweeps)))
    return conditions
