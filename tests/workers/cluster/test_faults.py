"""What breaks while an attempt runs, seen from its supervisor: the job comes to the same bits, or it says why not."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest
import ray

from tests.workers.fixtures.attempts import (
    TIMEOUT,
    Events,
    Undisturbed,
    all_cpus_are_free,
    events_until,
    is_gone,
    of_kind,
    on_actor,
    pid_of,
    rest_of,
    undisturbed,
    wait_until,
    workers_of,
)
from tests.workers.fixtures.helpers import blobs, job, points_of
from workers.cluster.attempt import Attempt, AttemptLostError, Supervisors
from workers.record.events import Checkpointed, Ended, Noted, Restarted, Started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.record.events import Event
    from workers.training.assignment import Assignment

pytestmark = [pytest.mark.timeout(4 * TIMEOUT), pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Long enough to be disturbed on the way."""
    directory = tmp_path_factory.mktemp("whole")
    spec = job(**{"training.epochs": 300, "checkpoints": {"every_steps": 100, "keep": 3}})
    return undisturbed(spec, blobs(directory), directory / "out")


@pytest.fixture
def own_supervisor() -> Iterator[str]:
    """One of a test's own, to be spoilt."""
    supervisors = Supervisors()
    name = supervisors.take()
    yield name
    if (found := Attempt.find("nobody's", 0, name)) is not None:
        found.dismiss()


def begun(given: Assignment, supervisor: str, checkpoints: int = 1) -> tuple[Attempt, Events, list[int]]:
    """An attempt that has written so many checkpoints, and its workers' processes."""
    attempt = Attempt.start(given, supervisor)
    processes = workers_of(attempt)
    return attempt, events_until(attempt, Checkpointed, count=checkpoints), processes


def kill(processes: list[int]) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("killed", [[0], [1], [0, 1]], ids=str)
def test_killed_workers_change_no_bit(tmp_path: Path, whole: Undisturbed, supervisor: str, killed: list[int]) -> None:
    attempt, events, processes = begun(whole.again(tmp_path, restarts_left=1), supervisor)
    kill([processes[rank] for rank in killed])
    story = rest_of(attempt, events)
    whole.assert_same(story, tmp_path)
    (restarted,) = of_kind(story, Restarted)
    assert restarted.reason == "worker_lost"
    first, second = of_kind(story, Started)
    assert (first.step, first.workers, second.workers) == (0, 2, 2)
    before = story[: story.index(restarted)]
    assert second.step == of_kind(before, Checkpointed)[-1].step
    assert all(is_gone(process) for process in processes)


def test_each_loss_is_counted(tmp_path: Path, whole: Undisturbed, supervisor: str) -> None:
    attempt, events, processes = begun(whole.again(tmp_path, restarts_left=1), supervisor)
    kill(processes)
    events += events_until(attempt, Started, after=events[-1][0])
    kill(workers_of(attempt))
    story = rest_of(attempt, events)
    assert len(of_kind(story, Restarted)) == 1
    end = story[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.reason) == ("failed", "too_many_restarts")
    assert end.message.startswith("worker_lost: a worker process ended by itself")
    assert end.message.endswith("max_restarts is 3")


def test_a_job_that_was_lost_too_often_keeps_its_checkpoint(
    tmp_path: Path, whole: Undisturbed, supervisor: str
) -> None:
    given = whole.again(tmp_path)
    assert given.restarts_left == 0
    attempt, events, processes = begun(given, supervisor)
    kill(processes[1:])
    story = rest_of(attempt, events)
    assert not of_kind(story, Restarted)
    assert isinstance(story[-1], Ended)
    assert story[-1].reason == "too_many_restarts"
    again = rest_of(Attempt.start(given, supervisor), [])
    assert of_kind(again, Started)[0].step >= 100
    whole.assert_same([*story[:-1], *again], tmp_path)


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_workers_that_are_lost_when_they_are_to_stop_have_stopped(
    tmp_path: Path, whole: Undisturbed, supervisor: str, wish: str
) -> None:
    """What was asked for happens, from the checkpoint that there is; there is no failure to speak of."""
    given = whole.again(tmp_path)
    assert given.restarts_left == 0
    attempt, events, processes = begun(given, supervisor)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    ray.get(getattr(attempt._actor, wish).remote(given.job, 1), timeout=TIMEOUT)
    kill(processes)
    story = rest_of(attempt, events)
    assert not of_kind(story, Restarted)
    if wish == "cancel":
        assert story[-1] == Ended("cancelled", "cancelled_by_user")
        return
    assert story[-1] == Ended("paused", "paused_by_user")
    again = rest_of(Attempt.start(given, supervisor), [])
    assert of_kind(again, Started)[0].step == checkpoint_of(story)
    whole.assert_same([*story[:-1], *again], tmp_path)


def checkpoint_of(story: list[Event]) -> int:
    return max(event.step for event in of_kind(story, Checkpointed))


def test_a_stopped_worker_is_noticed(tmp_path: Path, whole: Undisturbed, own_supervisor: str) -> None:
    actor = ray.get_actor(own_supervisor, namespace="gradfleet")

    def make_impatient(_: Any) -> None:
        from workers.cluster import group  # noqa: PLC0415  in the actor's process

        group.PING_INTERVAL, group.SILENCE = 0.2, 5.0

    on_actor(actor, make_impatient)
    attempt, events, processes = begun(whole.again(tmp_path, restarts_left=1), own_supervisor)
    os.kill(processes[1], signal.SIGSTOP)
    story = rest_of(attempt, events)
    whole.assert_same(story, tmp_path)
    (restarted,) = of_kind(story, Restarted)
    assert restarted == Restarted("worker_silent", "worker 1 has not answered for 5 s")
    wait_until(lambda: all(map(is_gone, processes)), "the stopped process to be gone")


def test_workers_that_died_while_they_waited_are_replaced(
    tmp_path: Path, whole: Undisturbed, own_supervisor: str
) -> None:
    """Nobody was lost: nothing was under way."""
    actor = ray.get_actor(own_supervisor, namespace="gradfleet")
    waiting = on_actor(actor, lambda supervisor: [worker for _, worker in supervisor._idle._idle])
    assert len(waiting) == 2
    processes = ray.get([worker.ping.remote() for worker in waiting], timeout=TIMEOUT)
    kill(processes)
    story = rest_of(Attempt.start(whole.again(tmp_path), own_supervisor), [])
    whole.assert_same(story, tmp_path)
    assert not of_kind(story, Restarted)


def test_workers_go_on_to_the_next_attempt(tmp_path: Path, whole: Undisturbed, own_supervisor: str) -> None:
    """A new process takes long to start."""
    given = whole.again(tmp_path)
    attempt, events, processes = begun(given, own_supervisor)
    attempt.pause()
    story = rest_of(attempt, events)
    attempt, events, next_processes = begun(given, own_supervisor)
    assert sorted(next_processes) == sorted(processes)
    whole.assert_same([*story[:-1], *rest_of(attempt, events)], tmp_path)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def checkpoints_of(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.parametrize("whole_ones", [0, 1])
def test_a_checkpoint_that_is_damaged_while_training_runs(
    tmp_path: Path, whole: Undisturbed, supervisor: str, whole_ones: int
) -> None:
    """The one before it is used, and where there is none, the beginning."""
    attempt, events, processes = begun(whole.again(tmp_path, restarts_left=1), supervisor, checkpoints=2)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    there = checkpoints_of(tmp_path)
    for path in there[whole_ones:]:
        damage(path / "optimizer.safetensors")
    kill(processes)
    story = rest_of(attempt, events)
    whole.assert_same(story, tmp_path)
    noted = of_kind(story, Noted)
    assert [event.kind for event in noted] == ["checkpoint_refused"] * len(there[whole_ones:])
    for event, path in zip(noted, reversed(there[whole_ones:]), strict=True):
        assert path.name in event.data["message"]
        assert "optimizer.safetensors" in event.data["message"]
    _, started = of_kind(story, Started)
    assert started.step == (int(there[0].name) if whole_ones else 0)


def test_a_checkpoint_that_is_damaged_during_a_pause(tmp_path: Path, whole: Undisturbed, supervisor: str) -> None:
    given = whole.again(tmp_path)
    attempt, events, _ = begun(given, supervisor)
    attempt.pause()
    story = rest_of(attempt, events)
    before, newest = checkpoints_of(tmp_path)[-2:]
    damage(newest / "checkpoint.json")
    again = rest_of(Attempt.start(given, supervisor), [])
    (noted,) = of_kind(again, Noted)
    assert noted.kind == "checkpoint_refused"
    assert newest.name in noted.data["message"]
    assert of_kind(again, Started)[0].step == int(before.name)
    whole.assert_same([*story[:-1], *again], tmp_path)


def test_a_disk_that_takes_no_checkpoint_stops_no_training(
    tmp_path: Path, whole: Undisturbed, own_supervisor: str
) -> None:
    """The system lets the leader write files of 100 bytes only, and then any."""
    attempt, events, processes = begun(whole.again(tmp_path), own_supervisor)
    unlimited = resource.prlimit(processes[0], resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    events += events_until(attempt, Noted, after=events[-1][0])
    assert unlimited == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(processes[0], resource.RLIMIT_FSIZE, unlimited)
    story = rest_of(attempt, events)
    whole.assert_same(story, tmp_path)
    failed = of_kind(story, Noted)
    assert {event.kind for event in failed} == {"checkpoint_failed"}
    written = [event.step for event in of_kind(story, Checkpointed)]
    assert sorted([*written, *(event.data["step"] for event in failed)]) == sorted({*range(100, 1801, 100), *written})
    assert "File too large" in failed[0].data["message"]


def test_a_killed_supervisor_takes_its_workers_along(tmp_path: Path, whole: Undisturbed) -> None:
    name = Supervisors().take()
    given = whole.again(tmp_path)
    attempt, events, processes = begun(given, name)
    kill([pid_of(attempt._actor)])
    with pytest.raises(AttemptLostError, match="the supervisor is gone"):
        rest_of(attempt, events)
    assert Attempt.find(given.job, 1, name) is None
    wait_until(lambda: all(map(is_gone, processes)), "the workers' processes to be gone")
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")
    # Another one goes on from the checkpoint.
    supervisors = Supervisors()
    attempt = Attempt.start(given, supervisors.take())
    story = rest_of(attempt, [])
    assert of_kind(story, Started)[0].step >= 100
    told = points_of([event for _, event in events] + story)
    assert told["train/loss"] == points_of(whole.outcome.events)["train/loss"]
    whole.assert_same([*(event for _, event in events), *story], tmp_path)
    attempt.dismiss()


def test_dismissing_an_attempt_ends_its_workers(tmp_path: Path, whole: Undisturbed) -> None:
    attempt, _, processes = begun(whole.again(tmp_path), Supervisors().take())
    attempt.dismiss()
    wait_until(lambda: all(map(is_gone, processes)), "the workers' processes to be gone")
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")
    with pytest.raises(AttemptLostError):
        rest_of(attempt, [])
