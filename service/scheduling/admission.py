"""Admission: which queued jobs start now, and what the others wait for."""

from __future__ import annotations

from collections import Counter
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING

from workers.job.spec import ResourcesSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.store.models import Job

NO_LIMITS: Mapping[str | None, int] = MappingProxyType({})
NONE_HELD: Mapping[str, str] = MappingProxyType({})


def admission(
    queued: Sequence[Job],
    live: Sequence[Job],
    capacity: Mapping[str, float],
    max_running_jobs: int | None,
    parallel: Mapping[str | None, int] = NO_LIMITS,
    held: Mapping[str, str] = NONE_HELD,
) -> tuple[list[str], dict[str, str]]:
    """Ids of the jobs that start, and for each other job the reason why it waits.

    `queued` is in order of priority. A job starts when all its workers fit into the part of `capacity` that `live` jobs
    do not use. No job overtakes a waiting one, so that large jobs are not starved. Exceptions are jobs that need more
    than the whole cluster, jobs whose sweep runs as many as `parallel` allows (by sweep id), and jobs that are `held`
    for a reason (by job id).
    """
    starting: list[str] = []
    waiting: dict[str, str] = {}
    free = free_resources(live, capacity)
    ahead: str | None = None
    members = Counter(job.sweep_id for job in live)
    for job in queued:
        if job.id in held:
            waiting[job.id] = held[job.id]
            continue
        needs = resources_of(job).total
        if too_big := next((name for name, needed in needs.items() if needed > capacity[name]), None):
            waiting[job.id] = (
                f"cluster_too_small: needs {needs[too_big]} {too_big}s, and the whole cluster has {capacity[too_big]:g}"
            )
            continue
        if members[job.sweep_id] >= (most := parallel.get(job.sweep_id, inf)):
            waiting[job.id] = f"waiting_for_sweep: {members[job.sweep_id]} of at most {most} jobs of its sweep run"
            continue
        running = len(live) + len(starting)
        if ahead is not None:
            # The job directly ahead, not the first waiting one, so that few reasons change when the queue moves.
            waiting[job.id] = f"waiting_for_turn: behind {ahead}"
        elif max_running_jobs is not None and running >= max_running_jobs:
            waiting[job.id] = f"waiting_for_other_jobs: {running} of at most {max_running_jobs} jobs run"
        elif lacking := next((name for name, needed in needs.items() if needed > free[name]), None):
            waiting[job.id] = (
                f"waiting_for_{lacking.lower()}s: needs {needs[lacking]} {lacking}s, and {free[lacking]:g} of the "
                f"cluster's {capacity[lacking]:g} are free"
            )
        else:
            free = {name: there - needs[name] for name, there in free.items()}
            starting.append(job.id)
            members[job.sweep_id] += 1
            continue
        ahead = job.id
    return starting, waiting


def resources_of(job: Job) -> ResourcesSpec:
    """Resources of a job."""
    return ResourcesSpec.model_validate(job.spec["resources"])


def free_resources(live: Sequence[Job], capacity: Mapping[str, float]) -> dict[str, float]:
    """Resources that live jobs do not use, by Ray's names; 0 if the cluster has become too small."""
    needs = [resources_of(job).total for job in live]
    return {name: max(there - sum(needed[name] for needed in needs), 0) for name, there in capacity.items()}
