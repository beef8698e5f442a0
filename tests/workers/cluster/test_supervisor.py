from __future__ import annotations

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
    events_until,
    of_kind,
    rest_of,
    undisturbed,
    wait_until,
    with_workers,
)
from tests.workers.fixtures.helpers import assignment, blobs, job, points_of, series_of
from workers.cluster.attempt import Attempt, AttemptLostError
from workers.job.spec import ResourcesSpec
from workers.record.events import Checkpointed, Ended, Event, Progress, Restarted, Started

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
    """Long enough to be disturbed on the way."""
    return undisturbed(job(**{"training.epochs": 300}), dataset, tmp_path_factory.mktemp("whole"))


def endless(dataset: DatasetInfo, directory: Path, **changes: Any) -> Any:
    return assignment(job(**ENDLESS, **changes), dataset, directory, prepared=False)


def told_once(story: list[Event]) -> bool:
    """Whether no point came twice."""
    return all(len(points) == len(dict(points)) for points in series_of(story).values())


@contextmanager
def reserved(cpus: int) -> Iterator[None]:
    """Somebody else has all of the cluster."""
    wait_until(all_cpus_are_free, "the cluster to be free")
    group = placement_group([{"CPU": cpus}])
    assert group.wait(TIMEOUT)
    yield
    remove_placement_group(group)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_bits_of_one_here(
    tmp_path: Path, short: Undisturbed, supervisor: str, workers: int
) -> None:
    story = rest_of(Attempt.start(short.again(tmp_path, workers=workers), supervisor), [])
    short.assert_same(story, tmp_path)
    (started,) = of_kind(story, Started)
    assert (started.step, started.workers, started.changed) == (0, workers, {})
    assert started.fingerprint["numpy"] == np.__version__
    assert story[0] == started
    assert told_once(story)


def test_more_workers_than_there_is_room_for(
    tmp_path: Path, short: Undisturbed, supervisor: str, ray_cluster: int
) -> None:
    story = rest_of(Attempt.start(short.again(tmp_path, workers=ray_cluster + 1), supervisor), [])
    short.assert_same(story, tmp_path)
    (started,) = of_kind(story, Started)
    assert started.workers == ray_cluster


def test_the_room_is_given_back(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = assignment(job(), dataset, tmp_path, prepared=False)
    story = rest_of(Attempt.start(given, supervisor), [])
    assert story[-1] == Ended("succeeded", "completed")
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")


def test_an_attempt_is_found_heard_and_cancelled_from_outside(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str
) -> None:
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
    # What was not confirmed comes again, and more behind it.
    first, second = attempt.poll(last), attempt.poll(last)
    numbers = [number for number, _ in second]
    assert numbers[: len(first)] == [number for number, _ in first] == list(range(last + 1, last + 1 + len(first)))
    attempt.cancel()
    story = rest_of(attempt, events)
    assert story[-1] == Ended("cancelled", "cancelled_by_user")
    progress = story[-2]
    assert isinstance(progress, Progress)
    # Of the steps of a long job, every 600th is told.
    steps = [step for step, _ in series_of(story)["train/loss"]]
    assert steps == [1, *range(600, progress.step + 1, 600)]
    assert not of_kind(story, Checkpointed)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_supervisor_has_one_attempt_at_a_time(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = endless(dataset, tmp_path / "first")
    attempt = Attempt.start(given, supervisor)
    other = endless(dataset, tmp_path / "other")
    with pytest.raises(RayTaskError, match="has an attempt that has not ended"):
        Attempt.start(other, supervisor)
    # A call that names another attempt changes nothing.
    stranger = Attempt(other.job, 1, supervisor, attempt._actor)
    stranger.cancel()
    stranger.pause()
    stranger.resize(ResourcesSpec(workers=3))
    with pytest.raises(AttemptLostError, match="has another attempt"):
        stranger.poll(0)
    events = events_until(attempt, Progress, count=3)
    attempt.cancel()
    story = rest_of(attempt, events)
    assert story[-1] == Ended("cancelled", "cancelled_by_user")
    assert len(of_kind(story, Started)) == 1
    # Now there is room for the other one.
    Attempt.start(other, supervisor)
    with pytest.raises(AttemptLostError, match="has another attempt"):
        attempt.poll(0)
    stranger.cancel()
    assert rest_of(stranger, [])[-1] == Ended("cancelled", "cancelled_by_user")


def test_pausing_and_resuming_with_other_workers_changes_no_bit(
    tmp_path: Path, whole: Undisturbed, supervisor: str
) -> None:
    first = whole.again(tmp_path)
    told: list[Event] = []
    steps = 0
    for number, workers in enumerate((2, 3, 1), start=1):
        given = replace(with_workers(first, workers), attempt=number, reported_step=steps)
        attempt = Attempt.start(given, supervisor)
        events = events_until(attempt, Progress, count=2)
        if number < 3:
            attempt.pause()
        story = rest_of(attempt, events)
        (started,) = of_kind(story, Started)
        assert (started.step, started.workers) == (steps, workers)
        steps = of_kind(story, Progress)[-1].step
        if number < 3:
            assert story[-1] == Ended("paused", "paused_by_user")
            assert of_kind(story, Checkpointed)[-1].step == steps
        told += story
    whole.assert_same(told, tmp_path)
    assert told_once(told)


def test_an_attempt_ends_at_its_last_step_and_another_goes_on(
    tmp_path: Path, short: Undisturbed, supervisor: str
) -> None:
    given = short.again(tmp_path)
    held = rest_of(Attempt.start(replace(given, until_step=6), supervisor), [])
    assert (held[-1].outcome, held[-1].reason) == ("paused", "reached_step")
    assert [of_kind(held, kind)[-1].step for kind in (Progress, Checkpointed)] == [6, 6]
    rest = rest_of(Attempt.start(replace(given, attempt=2, reported_step=6), supervisor), [])
    short.assert_same([*held, *rest], tmp_path)
    assert told_once([*held, *rest])


def test_another_number_of_workers_while_it_runs_changes_no_bit(
    tmp_path: Path, whole: Undisturbed, supervisor: str
) -> None:
    attempt = Attempt.start(whole.again(tmp_path, workers=1), supervisor)
    events = events_until(attempt, Progress, count=2)
    for workers in (3, 2):
        attempt.resize(ResourcesSpec(workers=workers))
        events += events_until(attempt, Started, after=events[-1][0])
        events += events_until(attempt, Progress, after=events[-1][0])
    story = rest_of(attempt, events)
    whole.assert_same(story, tmp_path)
    assert told_once(story)
    starts = of_kind(story, Started)
    assert [started.workers for started in starts] == [1, 3, 2]
    assert 0 == starts[0].step < starts[1].step < starts[2].step
    assert not of_kind(story, Restarted)


def test_the_same_number_of_workers_is_no_reason_to_stop(tmp_path: Path, short: Undisturbed, supervisor: str) -> None:
    attempt = Attempt.start(short.again(tmp_path), supervisor)
    attempt.resize(ResourcesSpec(workers=2))
    assert len(of_kind(rest_of(attempt, []), Started)) == 1


@pytest.mark.parametrize("ask", [Attempt.cancel, Attempt.pause])
def test_what_has_not_begun_need_not_end(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str, ask: Callable[[Attempt], None]
) -> None:
    """Asked at once, an attempt ends before its first step, or very soon after it."""
    attempt = Attempt.start(endless(dataset, tmp_path), supervisor)
    ask(attempt)
    story = rest_of(attempt, [])
    expected = {Attempt.cancel: ("cancelled", "cancelled_by_user"), Attempt.pause: ("paused", "paused_by_user")}
    assert (story[-1].outcome, story[-1].reason) == expected[ask]


@pytest.mark.parametrize("ask", [Attempt.cancel, Attempt.pause])
def test_what_waits_for_room_can_be_ended(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str, ray_cluster: int, ask: Callable[[Attempt], None]
) -> None:
    with reserved(ray_cluster):
        attempt = Attempt.start(endless(dataset, tmp_path), supervisor)
        assert attempt.poll(0) == []
        ask(attempt)
        (end,) = rest_of(attempt, [])
    assert end.outcome in {"cancelled", "paused"}
    assert list(tmp_path.iterdir()) == []


def test_what_waits_for_room_begins_when_there_is_some(
    tmp_path: Path, short: Undisturbed, supervisor: str, ray_cluster: int
) -> None:
    with reserved(ray_cluster):
        attempt = Attempt.start(short.again(tmp_path), supervisor)
        assert attempt.poll(0) == []
    short.assert_same(rest_of(attempt, []), tmp_path)


@pytest.mark.parametrize("standardize", [True, False])
def test_a_dataset_that_is_gone_fails_the_attempt(tmp_path: Path, supervisor: str, standardize: bool) -> None:
    dataset = blobs(tmp_path)
    spec = job(**{"data.standardize": standardize, "resources.workers": 2})
    given = assignment(spec, dataset, tmp_path / "out", prepared=False)
    Path(dataset.path).unlink()
    end = rest_of(Attempt.start(given, supervisor), [])[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.reason) == ("failed", "dataset_unavailable")
    # A sentence for people, without the traceback that Ray adds.
    assert "gone" in end.message
    assert "\n" not in end.message


@pytest.mark.parametrize("workers", [1, 3])
def test_a_poisoned_step_fails_the_attempt_and_names_the_last_finite_checkpoint(
    tmp_path: Path, dataset: DatasetInfo, supervisor: str, workers: int
) -> None:
    changes = {"optimizer.lr": 1e9, "resources.workers": workers, "checkpoints": {"every_steps": 1, "keep": 1000}}
    given = assignment(job(**changes), dataset, tmp_path, prepared=False)
    story = rest_of(Attempt.start(given, supervisor), [])
    end = story[-1]
    assert isinstance(end, Ended)
    assert (end.outcome, end.reason) == ("failed", "non_finite_loss")
    steps = [event.step for event in of_kind(story, Checkpointed)]
    assert steps
    assert end.message.endswith(f"; the last finite checkpoint is of step {steps[-1]}")
    poisoned = steps[-1] + 1
    assert f"step {poisoned};" in end.message or f"after step {poisoned};" in end.message
    assert list(points_of(story)["train/loss"])[-1] >= steps[-1]
    for path in (tmp_path / "checkpoints").glob("*/*.safetensors"):
        assert all(np.isfinite(tensor).all() for tensor in load_file(path).values())


def test_a_poisoned_step_without_a_checkpoint(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = assignment(job(**{"optimizer.lr": 1e30}), dataset, tmp_path, prepared=False)
    story = rest_of(Attempt.start(given, supervisor), [])
    assert isinstance(story[-1], Ended)
    assert story[-1].reason == "non_finite_loss"
    assert story[-1].message.endswith("; there is no checkpoint from before")
    assert series_of(story)["train/loss"][0][0] == 1


def test_a_spec_that_is_wrong_is_refused(tmp_path: Path, dataset: DatasetInfo, supervisor: str) -> None:
    given = endless(dataset, tmp_path)
    given.spec["loss"] = {"type": "os.system"}
    with pytest.raises(RayError, match="loss"):
        Attempt.start(given, supervisor)
    # And does no harm.
    spec = assignment(job(**{"training.epochs": 1}), dataset, tmp_path, prepared=False)
    assert rest_of(Attempt.start(spec, supervisor), [])[-1] == Ended("succeeded", "completed")
