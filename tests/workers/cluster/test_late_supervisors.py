"""Supervisors that begin an attempt late or never, and those that are killed at any moment, keep no resources."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import ray

from tests.workers.fixtures.attempts import TIMEOUT, all_cpus_are_free, all_events, wait_until
from tests.workers.fixtures.helpers import assignment, blobs, job
from workers.cluster import attempt as attempt_module
from workers.cluster import placement
from workers.cluster.attempt import NAMESPACE, Attempt, NotBegunError, Supervisors
from workers.cluster.placement import reservations
from workers.cluster.supervisor import Supervisor
from workers.job.spec import ResourcesSpec
from workers.record.events import Ended
from workers.training.assignment import Assignment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = [pytest.mark.timeout(4 * TIMEOUT), pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def name() -> Iterator[str]:
    """Name of a new supervisor."""
    supervisors = Supervisors()
    name = supervisors.take()
    yield name
    supervisors.end(name)


@pytest.fixture
def given(tmp_path: Path) -> Assignment:
    return assignment(job(**{"training.epochs": 1}), blobs(tmp_path), tmp_path / "out", prepared=False)


def reserve(supervisor: Any) -> int:
    """Reserve resources for two workers, in the process of a supervisor."""

    async def ignore(_: str) -> None:
        pass

    return len(asyncio.run(supervisor._placement.reserve(ResourcesSpec(workers=2), None, ignore)))


def running() -> set[str]:
    """Names of the supervisors that run."""
    return {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}


class LateSupervisor(Supervisor):
    """It begins an attempt once there is a file `released` beside the job's directory."""

    async def begin(self, assignment: Assignment) -> None:
        while not (assignment.directory.parent / "released").exists():
            await asyncio.sleep(0.01)
        await super().begin(assignment)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a new supervisor that begins late and is waited for only briefly."""
    monkeypatch.setattr(attempt_module, "Supervisor", LateSupervisor)
    supervisors = Supervisors()
    name = supervisors.take()
    assert ray.get(ray.get_actor(name, namespace=NAMESPACE).ready.remote(), timeout=TIMEOUT)
    monkeypatch.setattr(attempt_module, "CALL_TIMEOUT", 0.1)
    yield name
    supervisors.end(name)


def test_an_attempt_that_begins_late_is_followed(
    tmp_path: Path, given: Assignment, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt.start(given, late)
    assert not attempt.begun
    assert attempt.poll(0) == []
    monkeypatch.setattr(attempt_module, "CALL_TIMEOUT", TIMEOUT)
    (tmp_path / "released").touch()
    assert all_events(attempt, [])[-1] == Ended("succeeded", "completed")
    assert attempt.begun


def test_a_supervisor_that_does_not_begin_is_given_up_and_keeps_nothing(
    tmp_path: Path, given: Assignment, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "BEGINNING", 0.2)
    attempt = Attempt.start(given, late)
    with pytest.raises(NotBegunError, match=r"has not begun the attempt for 0\.2 s"):
        all_events(attempt, [])
    (tmp_path / "released").touch()  # it begins when it is killed
    attempt.dismiss()
    assert_nothing_is_kept()


def test_a_supervisor_that_is_killed_before_it_begins(given: Assignment, late: str) -> None:
    attempt = Attempt.start(given, late)
    attempt.dismiss()
    with pytest.raises(NotBegunError, match="ended before it began"):
        all_events(attempt, [])
    assert_nothing_is_kept()


def test_a_supervisor_that_is_killed_before_its_process_has_started(
    given: Assignment, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "CALL_TIMEOUT", 0.0)
    attempt = Attempt.start(given, name)
    attempt.dismiss()
    with pytest.raises(NotBegunError, match="ended before it began"):
        all_events(attempt, [])
    assert_nothing_is_kept()


def test_supervisors_that_are_killed_while_they_reserve_keep_nothing() -> None:
    """Ray must not remove their reservations: in the middle of making one, it can lose the CPUs for good."""

    def reserve_and_be_killed(supervisor: Any) -> None:
        make = placement.placement_group

        def make_and_be_killed(*arguments: Any, **options: Any) -> Any:
            group = make(*arguments, **options)
            ray.kill(ray.get_runtime_context().current_actor)
            return group

        placement.placement_group = make_and_be_killed
        reserve(supervisor)

    names = [Supervisors().take() for _ in range(2)]
    for name in names:
        ray.get_actor(name, namespace=NAMESPACE).__ray_call__.remote(reserve_and_be_killed)
        wait_until(lambda: name not in running(), "the supervisor to be gone")  # noqa: B023
    assert {owner for owner, _ in reservations()} == set(names)
    assert_nothing_is_kept()


def assert_nothing_is_kept() -> None:
    """The service looks for reservations of supervisors that are gone every few seconds."""

    def nothing() -> bool:
        Supervisors().reclaim()
        return not reservations() and all_cpus_are_free()

    wait_until(nothing, "all CPUs to be free")


def test_reservations_of_supervisors_that_run_are_kept(name: str, ray_cluster: int) -> None:
    actor = ray.get_actor(name, namespace=NAMESPACE)
    actor.__ray_call__.remote(reserve)
    wait_until(lambda: ray.available_resources().get("CPU", 0) == ray_cluster - 2, "the reservation")
    Supervisors().reclaim()
    assert [owner for owner, _ in reservations()] == [name]
    Supervisors().end(name)
    assert_nothing_is_kept()
