from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from safetensors.numpy import load_file

from tests.workers.fixtures.attempts import (
    TIMEOUT,
    Undisturbed,
    all_cpus_are_free,
    all_events,
    events_until,
    of_kind,
    undisturbed,
    wait_until,
    with_workers,
)
from tests.workers.fixtures.helpers import DIVERGING, assignment, blobs, flip_bytes, job, points_of, series_of
from workers.cluster.attempt import Attempt, AttemptLostError
from workers.cluster.placement import reservations
from workers.job.spec import ResourcesSpec
from workers.record.checkpoint import place_of
from workers.record.events import Checkpointed, Ended, Event, Progress, Restarted, Started, Waiting
from workers.training.assignment import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.data.dataset import DatasetInfo

pytestmark = [pytest.mark.timeout(4 * TIMEOUT), pytest.mark.usefixtures("ray_cluster")]

ENDLESS = {"training.epochs": 1_000_000}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return blobs(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def short(dataset: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(job(**{"training.shards": 5}), dataset, tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def whole(dataset: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Long enough for changes during training."""
    return undisturbed(job(**{"training.epochs": 300}), dataset, tmp_path_factory.mktemp("whole"))


def endless(dataset: DatasetInfo, directory: Path, **changes: Any) -> Any:
    return assignment(job(**ENDLESS, **changes), dataset, directory, prepared=False)


def reported_once(history: list[Event]) -> bool:
    """Whether no point was reported twice."""
    return all(len(points) == len(dict(points)) for points in series_of(history).values())


@contextmanager
def reserved(cpus: int) -> Iterator[None]:
    """Reserve all CPUs of the cluster."""
    wait_until(all_cpus_are_free, "the cluster to be free")
    group = placement_group([{"CPU": cpus}])
    assert group.wait(TIMEOUT)
    yield
    remove_placement_group(group)


def test_workers_without_a_shard_are_not_started(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    one = undisturbed(job(**{"training.shards": 1, "resources.workers": 1}), dataset, tmp_path / "one")
    history = all_events(Attempt.start(one.again(tmp_path / "two", workers=2), supervisor), [])
    one.assert_same(history, tmp_path / "two")
    (started,) = of_kind(history, Started)
    assert started.workers == 1


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_bits(
    tmp_path: Path, short: Undisturbed, supervisor: str, workers: int
) -> None:
    history = all_events(Attempt.start(short.again(tmp_path, workers=workers), supervisor), [])
    short.assert_same(history, tmp_path)
    (started,) = of_kind(history, Started)
    assert (started.step, started.workers, started.changed) == (0, workers, {})
    assert started.fingerprint["numpy"] == np.__version__
    assert history[0] == started
    assert reported_once(history)


def test_more_workers_than_cpus(tmp_path: Path, short: Undisturbed, supervisor: str, ray_cluster: int) -> None:
    history = all_events(Attempt.start(short.again(tmp_path, workers=ray_cluster + 1), supervisor), [])
    short.assert_same(history, tmp_path)
    (started,) = of_kind(history, Started)
    assert started.workers == ray_cluster


def test_the_cpus_are_released(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = assignment(job(), dataset, tmp_path, prepared=False)
    history = all_events(Attempt.start(given, supervisor), [])
    assert history[-1] == Ended("succeeded", "completed")
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")


def test_an_attempt_is_found_polled_and_cancelled(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = endless(dataset, tmp_path / "out", **{"resources.workers": 2})
    assert Attempt.find(given.job, 1, supervisor) is None
    Attempt.start(given, supervisor)
    attempt = Attempt.find(given.job, 1, supervisor)
    assert attempt is not None
    assert Attempt.find(given.job, 2, supervisor) is None
    assert Attempt.find("another", 1, supervisor) is None
    assert Attempt.find(given.job, 1, "nobody") is None
    events = events_until(attempt, Progress)
    last = events[-1][0]
    # Unconfirmed events are returned again, followed by new ones.
    first, second = attempt.poll(last), attempt.poll(last)
    numbers = [number for number, _ in second]
    assert numbers[: len(first)] == [number for number, _ in first] == list(range(last + 1, last + 1 + len(first)))
    attempt.cancel()
    history = all_events(attempt, events)
    assert history[-1] == Ended("cancelled", "cancelled_by_user")
    progress = history[-2]
    assert isinstance(progress, Progress)
    # Of the steps of a long job, every 600th is reported.
    steps = [step for step, _ in series_of(history)["train/loss"]]
    assert steps == [1, *range(600, progress.step + 1, 600)]
    assert not of_kind(history, Checkpointed)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_supervisor_has_one_attempt_at_a_time(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = endless(dataset, tmp_path / "first")
    attempt = Attempt.start(given, supervisor)
    other = endless(dataset, tmp_path / "other")
    with pytest.raises(RayTaskError, match="has an attempt that has not ended"):
        Attempt.start(other, supervisor)
    # A call that names another attempt changes nothing.
    other_attempt = Attempt(other.job, 1, supervisor, attempt._actor)
    other_attempt.cancel()
    other_attempt.pause()
    other_attempt.resize(ResourcesSpec(workers=3))
    with pytest.raises(AttemptLostError, match="has another attempt"):
        other_attempt.poll(0)
    events = events_until(attempt, Progress, count=3)
    attempt.cancel()
    history = all_events(attempt, events)
    assert history[-1] == Ended("cancelled", "cancelled_by_user")
    assert len(of_kind(history, Started)) == 1
    # Now the other attempt can start.
    Attempt.start(other, supervisor)
    with pytest.raises(AttemptLostError, match="has another attempt"):
        attempt.poll(0)
    other_attempt.cancel()
    assert all_events(other_attempt, [])[-1] == Ended("cancelled", "cancelled_by_user")


def test_pausing_and_resuming_with_other_workers_changes_no_bit(
    tmp_path: Path, whole: Undisturbed, supervisor: str
) -> None:
    first = whole.again(tmp_path)
    reported: list[Event] = []
    steps = 0
    for number, workers in enumerate((2, 3, 1), start=1):
        given = replace(with_workers(first, workers), attempt=number, reported_step=steps)
        attempt = Attempt.start(given, supervisor)
        events = events_until(attempt, Progress, count=2)
        if number < 3:
            attempt.pause()
        history = all_events(attempt, events)
        (started,) = of_kind(history, Started)
        assert (started.step, started.workers) == (steps, workers)
        steps = of_kind(history, Progress)[-1].step
        if number < 3:
            assert history[-1] == Ended("paused", "paused_by_user")
            assert of_kind(history, Checkpointed)[-1].step == steps
        reported += history
    whole.assert_same(reported, tmp_path)
    assert reported_once(reported)


def test_an_attempt_ends_at_its_last_step_and_another_continues(
    tmp_path: Path, short: Undisturbed, supervisor: str
) -> None:
    given = short.again(tmp_path)
    held = all_events(Attempt.start(replace(given, until_step=6), supervisor), [])
    assert (held[-1].outcome, held[-1].reason) == ("paused", "reached_step")
    assert [of_kind(held, kind)[-1].step for kind in (Progress, Checkpointed)] == [6, 6]
    rest = all_events(Attempt.start(replace(given, attempt=2, reported_step=6), supervisor), [])
    short.assert_same([*held, *rest], tmp_path)
    assert reported_once([*held, *rest])


def test_an_interval_is_replayed_from_the_checkpoint_of_another_job(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str
) -> None:
    checkpoints = {"every_steps": 6, "keep": 9}
    spec = job(**{"training.shards": 5, "checkpoints": checkpoints})
    whole = undisturbed(spec, dataset, tmp_path / "whole")
    states = {event.step: event.state_sha256 for event in of_kind(whole.outcome.events, Checkpointed)}
    given, place = whole.given, place_of(tmp_path / "whole", 6)
    begin = Replay(given.job, given.computation_sha256, place, states[6])

    def replayed(name: str, replay: Replay) -> list[Event]:
        again = whole.again(tmp_path / name, until_step=12, reported_step=6, replay=replay, restarts_left=3)
        return all_events(Attempt.start(again, supervisor), [])

    history = replayed("again", begin)
    assert (history[-1].outcome, history[-1].reason) == ("paused", "reached_step")
    assert [(event.step, event.state_sha256) for event in of_kind(history, Checkpointed)] == [(12, states[12])]

    (*_, end) = history = replayed("another digest", replace(begin, state_sha256=states[12]))
    assert (end.outcome, end.reason) == ("failed", "checkpoint_changed"), "no restart can help"
    assert "is not the one that was certified" in end.message
    assert not of_kind(history, Started)

    (place / "optimizer.safetensors").write_bytes(b"")
    (end,) = replayed("damaged", begin)
    assert (end.outcome, end.reason) == ("failed", "checkpoint_changed")
    assert "optimizer.safetensors does not have its checksum" in end.message

    shutil.rmtree(place)
    (end,) = replayed("removed", begin)
    assert (end.outcome, end.reason) == ("failed", "storage_error")
    assert end.message == f"checkpoint 000000000006 of {given.job} is no longer there"


def test_resizing_during_training_changes_no_bit(tmp_path: Path, whole: Undisturbed, supervisor: str) -> None:
    attempt = Attempt.start(whole.again(tmp_path, workers=1), supervisor)
    events = events_until(attempt, Progress, count=2)
    for workers in (3, 2):
        attempt.resize(ResourcesSpec(workers=workers))
        events += events_until(attempt, Started, after=events[-1][0])
        events += events_until(attempt, Progress, after=events[-1][0])
    history = all_events(attempt, events)
    whole.assert_same(history, tmp_path)
    assert reported_once(history)
    starts = of_kind(history, Started)
    assert [started.workers for started in starts] == [1, 3, 2]
    assert 0 == starts[0].step < starts[1].step < starts[2].step
    assert not of_kind(history, Restarted)


def test_resizing_to_the_same_number_of_workers_does_not_stop_training(
    tmp_path: Path, short: Undisturbed, supervisor: str
) -> None:
    attempt = Attempt.start(short.again(tmp_path), supervisor)
    attempt.resize(ResourcesSpec(workers=2))
    assert len(of_kind(all_events(attempt, []), Started)) == 1


@pytest.mark.parametrize("command", [Attempt.cancel, Attempt.pause])
def test_an_attempt_can_be_stopped_right_after_its_start(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str, command: Callable[[Attempt], None]
) -> None:
    """If the command follows the start immediately, the attempt ends before its first step or soon after it."""
    attempt = Attempt.start(endless(dataset, tmp_path), supervisor)
    command(attempt)
    history = all_events(attempt, [])
    expected = {Attempt.cancel: ("cancelled", "cancelled_by_user"), Attempt.pause: ("paused", "paused_by_user")}
    assert (history[-1].outcome, history[-1].reason) == expected[command]


@pytest.mark.parametrize("command", [Attempt.cancel, Attempt.pause])
def test_an_attempt_that_waits_for_cpus_can_be_stopped(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str, ray_cluster: int, command: Callable[[Attempt], None]
) -> None:
    with reserved(ray_cluster):
        attempt = Attempt.start(endless(dataset, tmp_path), supervisor)
        assert attempt.poll(0) == []
        command(attempt)
        *_, end = all_events(attempt, [])
    assert isinstance(end, Ended)
    assert end.outcome in {"cancelled", "paused"}
    assert list(tmp_path.iterdir()) == []


def test_an_attempt_that_waits_for_cpus_starts_when_they_are_free(
    tmp_path: Path, short: Undisturbed, supervisor: str, ray_cluster: int
) -> None:
    with reserved(ray_cluster):
        attempt = Attempt.start(short.again(tmp_path), supervisor)
        assert attempt.poll(0) == []
        events = events_until(attempt, Waiting)
        assert Waiting("waiting_for_resources: needs 2 CPUs, which were not free for 5 s") in [
            each for _, each in events
        ]
        ours = [owner for owner, _ in reservations()]
        assert ours == [supervisor], "there is one request"
    history = all_events(attempt, events)
    short.assert_same(history, tmp_path)
    assert len(of_kind(history, Waiting)) == 1


@pytest.mark.parametrize("standardize", [True, False])
def test_a_dataset_that_is_gone_fails_the_attempt(tmp_path: Path, supervisor: str, standardize: bool) -> None:
    dataset = blobs(tmp_path)
    spec = job(**{"data.standardize": standardize, "resources.workers": 2})
    given = assignment(spec, dataset, tmp_path / "out", prepared=False)
    Path(dataset.path).unlink()
    end = all_events(Attempt.start(given, supervisor), [])[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.reason) == ("failed", "dataset_unavailable")
    # A sentence for users, without the traceback that Ray adds.
    assert "gone" in end.message
    assert "\n" not in end.message


@pytest.mark.parametrize("standardize", [True, False])
def test_a_dataset_that_is_damaged_fails_the_attempt(tmp_path: Path, supervisor: str, standardize: bool) -> None:
    dataset = blobs(tmp_path)
    spec = job(**{"data.standardize": standardize, "resources.workers": 2})
    given = assignment(spec, dataset, tmp_path / "out", prepared=False)
    flip_bytes(Path(dataset.path), dataset)
    events = all_events(Attempt.start(given, supervisor), [])
    end = events[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.reason) == ("failed", "dataset_unavailable")
    assert re.fullmatch("dataset 'blobs': the dataset's file is damaged.*; register the dataset again", end.message)
    assert not any(isinstance(event, Started) for event in events)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_poisoned_step_fails_the_attempt_and_names_the_last_finite_checkpoint(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str, workers: int
) -> None:
    changes = {"optimizer.lr": 1e9, "resources.workers": workers, "checkpoints": {"every_steps": 1, "keep": 1000}}
    given = assignment(job(**changes), dataset, tmp_path, prepared=False)
    history = all_events(Attempt.start(given, supervisor), [])
    end = history[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.reason) == ("failed", "non_finite_loss")
    steps = [event.step for event in of_kind(history, Checkpointed)]
    assert steps
    assert end.message.endswith(f"; the last finite checkpoint is of step {steps[-1]}")
    poisoned = steps[-1] + 1
    assert f"step {poisoned};" in end.message or f"after step {poisoned};" in end.message
    assert list(points_of(history)["train/loss"])[-1] >= steps[-1]
    for path in (tmp_path / "checkpoints").glob("*/*.safetensors"):
        assert all(np.isfinite(tensor).all() for tensor in load_file(path).values())


def test_a_poisoned_step_without_a_checkpoint(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = assignment(job(**DIVERGING), dataset, tmp_path, prepared=False)
    history = all_events(Attempt.start(given, supervisor), [])
    assert isinstance(history[-1], Ended)
    assert history[-1].reason == "non_finite_loss"
    assert history[-1].message.endswith("; there is no earlier checkpoint")
    assert series_of(history)["train/loss"][0][0] == 1


def test_an_invalid_spec_is_refused(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = endless(dataset, tmp_path)
    given.spec["loss"] = {"type": "os.system"}
    with pytest.raises(RayError, match="loss"):
        Attempt.start(given, supervisor)
    # The supervisor still works.
    spec = assignment(job(**{"training.epochs": 1}), dataset, tmp_path, prepared=False)
    assert all_events(Attempt.start(spec, supervisor), [])[-1] == Ended("succeeded", "completed")
