"""Placement of workers on GPUs. Ray is configured with a GPU that this machine does not need to have."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
import ray

from tests.workers.fixtures.attempts import TIMEOUT, all_events, is_gone, on_actor, pid_of, wait_until
from tests.workers.fixtures.helpers import assignment, blobs, job
from workers.cluster.attempt import Attempt
from workers.cluster.group import IdleWorkers, WorkerGroup
from workers.cluster.placement import Placement
from workers.job.spec import ResourcesSpec
from workers.record.events import Ended

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(4 * TIMEOUT), pytest.mark.usefixtures("ray_cluster")]


def all_is_free() -> bool:
    free, there = ray.available_resources(), ray.cluster_resources()
    return all(free.get(name) == there[name] for name in ("CPU", "GPU"))


def test_a_worker_starts_on_a_reserved_gpu_and_releases_it() -> None:
    async def ignore(_: str) -> None:
        pass

    placement = Placement("supervisor")
    try:
        resources = ResourcesSpec(workers=1, cpus_per_worker=2, gpus_per_worker=1)
        places = asyncio.run(placement.reserve(resources, None, ignore))
        group = WorkerGroup(places, IdleWorkers())
        asyncio.run(group._start_all())
        (worker,) = group._workers
        assert on_actor(worker, lambda _: os.environ["CUDA_VISIBLE_DEVICES"]) == "0"
        assert on_actor(worker, lambda _: ray.get_runtime_context().get_assigned_resources()) == {"CPU": 2, "GPU": 1}
        process = pid_of(worker)
        group.keep()
        wait_until(lambda: is_gone(process), "the worker to end")
    finally:
        placement.release()
    wait_until(all_is_free, "the GPU to be free")


def test_a_gpu_job_without_cupy_names_the_missing_package(supervisor: str, tmp_path: Path) -> None:
    given = assignment(job(**{"resources.gpus_per_worker": 1}), blobs(tmp_path), tmp_path, prepared=False)
    attempt = Attempt.start(given, supervisor)
    end = all_events(attempt, [])[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.reason) == ("failed", "gpu_unavailable")
    assert "needs CuPy" in str(end.message)
    wait_until(all_is_free, "the GPU to be free")
