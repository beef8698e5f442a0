"""Admission: which queued jobs start now, and what the others wait for."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING

from workers.job.spec import ResourcesSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.store.models import Job


class Admission:
    """Decides about queued jobs in the order of priority, as many at a time as the caller has read.

    A job starts when all its workers fit into the part of `capacity` that `live` jobs do not use. No job overtakes a
    waiting one, so that large jobs are not starved: once a job waits, `ahead` is set, and no later one starts.
    Exceptions are jobs that need more than the whole cluster, jobs whose sweep runs as many as `parallel` allows (by
    sweep id), and jobs that are held.

    `starting` has the ids of the jobs that start, and `waiting` the reason of each other job, by its id.
    """

    def __init__(self, live: Sequence[Job], capacity: Mapping[str, float], max_running_jobs: int | None) -> None:
        self.starting: list[str] = []
        self.waiting: dict[str, str] = {}
        self.parallel: dict[str | None, int] = {}
        self.ahead: str | None = None
        self._capacity, self._most = capacity, max_running_jobs
        self._free = free_resources(live, capacity)
        self._live = len(live)
        self._members = Counter(job.sweep_id for job in live)

    @property
    def full_sweeps(self) -> list[str]:
        """The sweeps that run as many jobs as they may."""
        full = (sweep_id for sweep_id, most in self.parallel.items() if self._members[sweep_id] >= most)
        return [sweep_id for sweep_id in full if sweep_id is not None]

    def consider(self, queued: Sequence[Job], held: Mapping[str, str]) -> None:
        """Decide about the next jobs; `held` are those that wait for another reason, by id."""
        for job in queued:
            if reason := held.get(job.id) or self._never(job):
                self.waiting[job.id] = reason
            elif reason := self._not_now(job):
                self.waiting[job.id], self.ahead = reason, job.id
            else:
                needs = resources_of(job).total
                self._free = {name: there - needs[name] for name, there in self._free.items()}
                self.starting.append(job.id)
                self._members[job.sweep_id] += 1

    def _never(self, job: Job) -> str | None:
        """Why a job waits that others may overtake."""
        needs = resources_of(job).total
        if too_big := next((name for name, needed in needs.items() if needed > self._capacity[name]), None):
            there = f"{self._capacity[too_big]:g}"
            return f"cluster_too_small: needs {needs[too_big]} {too_big}s, and the whole cluster has {there}"
        if (running := self._members[job.sweep_id]) >= (most := self.parallel.get(job.sweep_id, inf)):
            return f"waiting_for_sweep: {running} of at most {most} jobs of its sweep run"
        return None

    def _not_now(self, job: Job) -> str | None:
        running, needs = self._live + len(self.starting), resources_of(job).total
        if self.ahead is not None:
            # The job directly ahead, not the first waiting one, so that few reasons change when the queue moves.
            return f"waiting_for_turn: behind {self.ahead}"
        if self._most is not None and running >= self._most:
            return f"waiting_for_other_jobs: {running} of at most {self._most} jobs run"
        if lacking := next((name for name, needed in needs.items() if needed > self._free[name]), None):
            return (
                f"waiting_for_{lacking.lower()}s: needs {needs[lacking]} {lacking}s, and {self._free[lacking]:g} of "
                f"the cluster's {self._capacity[lacking]:g} are free"
            )
        return None


def resources_of(job: Job) -> ResourcesSpec:
    """Resources of a job."""
    return ResourcesSpec.model_validate(job.spec["resources"])


def free_resources(live: Sequence[Job], capacity: Mapping[str, float]) -> dict[str, float]:
    """Resources that live jobs do not use, by Ray's names; 0 if the cluster has become too small."""
    needs = [resources_of(job).total for job in live]
    return {name: max(there - sum(needed[name] for needed in needs), 0) for name, there in capacity.items()}
