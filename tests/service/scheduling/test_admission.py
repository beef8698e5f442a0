from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.scheduling.admission import Admission, resources_of
from service.store.models import Job

CAPACITY = {"CPU": 4.0, "GPU": 1.0}


def job(number: int, workers: int, gpus: int = 0) -> Job:
    resources = {"workers": workers, "cpus_per_worker": 1, "gpus_per_worker": gpus}
    return Job(id=f"job_{number}", spec={"resources": resources})


def admission(
    queued: list[Job],
    live: list[Job],
    capacity: dict[str, float],
    most: int | None,
    parallel: dict[str | None, int] | None = None,
    held: dict[str, str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """What starts, and what the others wait for, if the whole queue is considered at once."""
    decisions = Admission(live, capacity, most)
    decisions.parallel.update(parallel or {})
    decisions.consider(queued, held or {})
    return decisions.starting, decisions.waiting


def used(jobs: list[Job]) -> dict[str, int]:
    return {name: sum(resources_of(each).total[name] for each in jobs) for name in CAPACITY}


jobs = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1)), max_size=8)


@given(shapes=jobs, most=st.none() | st.integers(1, 4))
def test_jobs_start_in_order_within_the_capacity(shapes: list[Any], most: int | None) -> None:
    queued = [job(number, *shape) for number, shape in enumerate(shapes)]
    starting, waiting = admission(queued, [], CAPACITY, most)
    assert sorted([*starting, *waiting]) == sorted(each.id for each in queued)
    started = [each for each in queued if each.id in starting]
    assert all(used(started)[name] <= capacity for name, capacity in CAPACITY.items())
    assert most is None or len(started) <= most
    able = [each for each in queued if all(used([each])[name] <= capacity for name, capacity in CAPACITY.items())]
    assert started == able[: len(started)], "in order, without those that can never start"
    for each in set(queued) - set(able):
        assert waiting[each.id].startswith("cluster_too_small: ")
    if len(able) > len(started) and (most is None or len(started) < most):
        together = used([*started, able[len(started)]])
        assert any(together[name] > capacity for name, capacity in CAPACITY.items()), "the next job does not fit"


def test_reasons_have_numbers() -> None:
    queued = [job(1, 5), job(2, 3), job(3, 1), job(4, 1)]
    assert admission(queued, [job(0, 2)], CAPACITY, None) == (
        [],
        {
            "job_1": "cluster_too_small: needs 5 CPUs, and the whole cluster has 4",
            "job_2": "waiting_for_cpus: needs 3 CPUs, and 2 of the cluster's 4 are free",
            "job_3": "waiting_for_turn: behind job_2",
            "job_4": "waiting_for_turn: behind job_3",
        },
    )
    assert admission(queued[2:], [job(0, 2)], CAPACITY, 2) == (
        ["job_3"],
        {"job_4": "waiting_for_other_jobs: 2 of at most 2 jobs run"},
    )
    assert admission([job(5, 1, gpus=1)], [], {"CPU": 4, "GPU": 0}, None)[1] == {
        "job_5": "cluster_too_small: needs 1 GPUs, and the whole cluster has 0"
    }


def test_the_parallel_jobs_of_a_sweep_are_limited() -> None:
    """Members that wait for their sweep do not block other jobs."""
    queued = [job(number, 1) for number in range(1, 5)]
    running = job(0, 1)
    for member in (running, *queued[:3]):
        member.sweep_id = "sweep_1"
    assert admission(queued, [running], CAPACITY, None, {"sweep_1": 2}) == (
        ["job_1", "job_4"],
        {
            "job_2": "waiting_for_sweep: 2 of at most 2 jobs of its sweep run",
            "job_3": "waiting_for_sweep: 2 of at most 2 jobs of its sweep run",
        },
    )
    assert admission(queued, [running], CAPACITY, None)[0] == ["job_1", "job_2", "job_3"]


def test_held_jobs_do_not_block_others() -> None:
    queued = [job(number, 2) for number in range(1, 4)]
    starting, waiting = admission(queued, [], CAPACITY, None, held={"job_1": "waiting_for_sweep: others"})
    assert (starting, waiting) == (["job_2", "job_3"], {"job_1": "waiting_for_sweep: others"})


@given(sweeps=st.lists(st.sampled_from([None, "a", "b"]), max_size=8), most=st.integers(1, 3))
def test_limits_of_sweeps_are_independent(sweeps: list[str | None], most: int) -> None:
    queued = [job(number, 1) for number in range(len(sweeps))]
    for member, sweep_id in zip(queued, sweeps, strict=True):
        member.sweep_id = sweep_id
    starting, _ = admission(queued, [], {"CPU": 100.0, "GPU": 0.0}, None, {"a": most})
    started = [member.sweep_id for member in queued if member.id in starting]
    assert started.count("a") == min(sweeps.count("a"), most)
    assert [started.count(other) for other in (None, "b")] == [sweeps.count(other) for other in (None, "b")]
