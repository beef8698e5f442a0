"""Faults during an attempt: the job ends with the same bits, or its end states the reason."""

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
    all_events,
    events_until,
    is_gone,
    of_kind,
    on_actor,
    pid_of,
    undisturbed,
    wait_until,
    workers_of,
)
from tests.workers.fixtures.helpers import blobs, job, points_of
from tests.workers.fixtures.tabular import passengers
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
    """Long enough for a fault during training."""
    directory = tmp_path_factory.mktemp("whole")
    spec = job(**{"training.epochs": 300, "checkpoints": {"every_steps": 100, "keep": 3}})
    return undisturbed(spec, blobs(directory), directory / "out")


@pytest.fixture
def own_supervisor() -> Iterator[str]:
    """A supervisor for a single test, which may damage it."""
    supervisors = Supervisors()
    name = supervisors.take()
    yield name
    if (found := Attempt.find("nobody's", 0, name)) is not None:
        found.dismiss()


def begun(given: Assignment, supervisor: str, checkpoints: int = 1) -> tuple[Attempt, Events, list[int]]:
    """Start an attempt and wait for checkpoints; return it, its events and the process ids of its workers."""
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
    history = all_events(attempt, events)
    whole.assert_same(history, tmp_path)
    (restarted,) = of_kind(history, Restarted)
    assert restarted.reason == "worker_lost"
    first, second = of_kind(history, Started)
    assert (first.step, first.workers, second.workers) == (0, 2, 2)
    before = history[: history.index(restarted)]
    assert second.step == of_kind(before, Checkpointed)[-1].step
    assert all(is_gone(process) for process in processes)


def test_killed_workers_change_no_bit_of_a_job_on_a_prepared_table(tmp_path: Path, supervisor: str) -> None:
    """Each group of workers gets the statistics of the training rows, which the supervisor computes."""
    linear = {"data.dataset": "passengers", "model.layers": [{"type": "linear", "units": 2}]}
    spec = job(**linear, **{"training.epochs": 300, "checkpoints": {"every_steps": 100, "keep": 3}})
    expected = undisturbed(spec, passengers(tmp_path), tmp_path / "one")
    attempt, events, processes = begun(expected.again(tmp_path / "two", restarts_left=1), supervisor)
    kill(processes)
    history = all_events(attempt, events)
    expected.assert_same(history, tmp_path / "two")
    assert len(of_kind(history, Restarted)) == 1


def test_each_lost_worker_is_counted(tmp_path: Path, whole: Undisturbed, supervisor: str) -> None:
    attempt, events, processes = begun(whole.again(tmp_path, restarts_left=1), supervisor)
    kill(processes)
    events += events_until(attempt, Started, after=events[-1][0])
    kill(workers_of(attempt))
    history = all_events(attempt, events)
    assert len(of_kind(history, Restarted)) == 1
    end = history[-1]
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
    history = all_events(attempt, events)
    assert not of_kind(history, Restarted)
    assert isinstance(history[-1], Ended)
    assert history[-1].reason == "too_many_restarts"
    again = all_events(Attempt.start(given, supervisor), [])
    assert of_kind(again, Started)[0].step >= 100
    whole.assert_same([*history[:-1], *again], tmp_path)


@pytest.mark.parametrize("command", ["cancel", "pause"])
def test_workers_that_are_lost_after_a_command_to_stop_have_stopped(
    tmp_path: Path, whole: Undisturbed, supervisor: str, command: str
) -> None:
    """The job is cancelled, or paused at its last checkpoint. This is not reported as a failure."""
    given = whole.again(tmp_path)
    assert given.restarts_left == 0
    attempt, events, processes = begun(given, supervisor)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    ray.get(getattr(attempt._actor, command).remote(given.job, 1), timeout=TIMEOUT)
    kill(processes)
    history = all_events(attempt, events)
    assert not of_kind(history, Restarted)
    if command == "cancel":
        assert history[-1] == Ended("cancelled", "cancelled_by_user")
        return
    assert history[-1] == Ended("paused", "paused_by_user")
    again = all_events(Attempt.start(given, supervisor), [])
    assert of_kind(again, Started)[0].step == checkpoint_of(history)
    whole.assert_same([*history[:-1], *again], tmp_path)


def checkpoint_of(history: list[Event]) -> int:
    return max(event.step for event in of_kind(history, Checkpointed))


def test_a_suspended_worker_is_detected(tmp_path: Path, whole: Undisturbed, own_supervisor: str) -> None:
    actor = ray.get_actor(own_supervisor, namespace="gradfleet")

    def shorten_timeouts(_: Any) -> None:
        from workers.cluster import group  # noqa: PLC0415  in the actor's process

        group.PING_INTERVAL, group.SILENCE = 0.2, 5.0

    on_actor(actor, shorten_timeouts)
    attempt, events, processes = begun(whole.again(tmp_path, restarts_left=1), own_supervisor)
    os.kill(processes[1], signal.SIGSTOP)
    history = all_events(attempt, events)
    whole.assert_same(history, tmp_path)
    (restarted,) = of_kind(history, Restarted)
    assert restarted == Restarted("worker_silent", "worker 1 has not answered for 5 s")
    wait_until(lambda: all(map(is_gone, processes)), "the stopped process to be gone")


def test_idle_workers_that_died_are_replaced(tmp_path: Path, whole: Undisturbed, own_supervisor: str) -> None:
    """This is not a restart, because no training was running."""
    actor = ray.get_actor(own_supervisor, namespace="gradfleet")
    waiting = on_actor(actor, lambda supervisor: [worker for _, worker in supervisor._idle._idle])
    assert len(waiting) == 2
    processes = ray.get([worker.ping.remote() for worker in waiting], timeout=TIMEOUT)
    kill(processes)
    history = all_events(Attempt.start(whole.again(tmp_path), own_supervisor), [])
    whole.assert_same(history, tmp_path)
    assert not of_kind(history, Restarted)


def test_workers_are_reused_by_the_next_attempt(tmp_path: Path, whole: Undisturbed, own_supervisor: str) -> None:
    """Starting new processes would take longer."""
    given = whole.again(tmp_path)
    attempt, events, processes = begun(given, own_supervisor)
    attempt.pause()
    history = all_events(attempt, events)
    attempt, events, next_processes = begun(given, own_supervisor)
    assert sorted(next_processes) == sorted(processes)
    whole.assert_same([*history[:-1], *all_events(attempt, events)], tmp_path)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def checkpoints_of(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.parametrize("intact", [0, 1])
def test_a_checkpoint_that_is_damaged_while_training_runs(
    tmp_path: Path, whole: Undisturbed, supervisor: str, intact: int
) -> None:
    """Training resumes from the checkpoint before it or, if there is none, from the beginning."""
    attempt, events, processes = begun(whole.again(tmp_path, restarts_left=1), supervisor, checkpoints=2)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    there = checkpoints_of(tmp_path)
    for path in there[intact:]:
        damage(path / "optimizer.safetensors")
    kill(processes)
    history = all_events(attempt, events)
    whole.assert_same(history, tmp_path)
    noted = of_kind(history, Noted)
    assert [event.kind for event in noted] == ["checkpoint_refused"] * len(there[intact:])
    for event, path in zip(noted, reversed(there[intact:]), strict=True):
        assert path.name in event.data["message"]
        assert "optimizer.safetensors" in event.data["message"]
    _, started = of_kind(history, Started)
    assert started.step == (int(there[0].name) if intact else 0)


def test_a_checkpoint_that_is_damaged_during_a_pause(tmp_path: Path, whole: Undisturbed, supervisor: str) -> None:
    given = whole.again(tmp_path)
    attempt, events, _ = begun(given, supervisor)
    attempt.pause()
    history = all_events(attempt, events)
    before, newest = checkpoints_of(tmp_path)[-2:]
    damage(newest / "checkpoint.json")
    again = all_events(Attempt.start(given, supervisor), [])
    (noted,) = of_kind(again, Noted)
    assert noted.kind == "checkpoint_refused"
    assert newest.name in noted.data["message"]
    assert of_kind(again, Started)[0].step == int(before.name)
    whole.assert_same([*history[:-1], *again], tmp_path)


def test_training_continues_if_no_checkpoint_can_be_written(
    tmp_path: Path, whole: Undisturbed, own_supervisor: str
) -> None:
    """The operating system limits the files of the leader to 100 bytes, and later removes the limit."""
    attempt, events, processes = begun(whole.again(tmp_path), own_supervisor)
    unlimited = resource.prlimit(processes[0], resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    events += events_until(attempt, Noted, after=events[-1][0])
    assert unlimited == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(processes[0], resource.RLIMIT_FSIZE, unlimited)
    history = all_events(attempt, events)
    whole.assert_same(history, tmp_path)
    failed = of_kind(history, Noted)
    assert {event.kind for event in failed} == {"checkpoint_failed"}
    written = [event.step for event in of_kind(history, Checkpointed)]
    assert sorted([*written, *(event.data["step"] for event in failed)]) == sorted({*range(100, 1801, 100), *written})
    assert "File too large" in failed[0].data["message"]


def test_killing_a_supervisor_ends_its_workers(tmp_path: Path, whole: Undisturbed) -> None:
    name = Supervisors().take()
    given = whole.again(tmp_path)
    attempt, events, processes = begun(given, name)
    kill([pid_of(attempt._actor)])
    with pytest.raises(AttemptLostError, match="the supervisor is gone"):
        all_events(attempt, events)
    assert Attempt.find(given.job, 1, name) is None
    wait_until(lambda: all(map(is_gone, processes)), "the workers' processes to be gone")
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")
    # Another supervisor resumes from the checkpoint.
    supervisors = Supervisors()
    attempt = Attempt.start(given, supervisors.take())
    history = all_events(attempt, [])
    assert of_kind(history, Started)[0].step >= 100
    points = points_of([event for _, event in events] + history)
    assert points["train/loss"] == points_of(whole.outcome.events)["train/loss"]
    whole.assert_same([*(event for _, event in events), *history], tmp_path)
    attempt.dismiss()


def test_dismissing_an_attempt_ends_its_workers(tmp_path: Path, whole: Undisturbed) -> None:
    attempt, _, processes = begun(whole.again(tmp_path), Supervisors().take())
    attempt.dismiss()
    wait_until(lambda: all(map(is_gone, processes)), "the workers' processes to be gone")
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")
    with pytest.raises(AttemptLostError):
        all_events(attempt, [])
