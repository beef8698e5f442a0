from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.helpers import assignment, blobs, completed, job, series_of
from workers import supervisor as supervisor_module
from workers.cluster import Attempt, AttemptLostError, cluster_cpus
from workers.events import Checkpointed, Ended, Event, Progress, Started
from workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.dataset import DatasetInfo
    from workers.trainer import Assignment

# On a busy machine the processes of an attempt take half a minute to start.
TIMEOUT = 120.0  # seconds
pytestmark = pytest.mark.timeout(4 * TIMEOUT)

ENDLESS = {"training.epochs": 1_000_000}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return blobs(tmp_path_factory.mktemp("blobs"))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, f"waited {TIMEOUT:g} s for {what}"
        time.sleep(0.01)


def events_until(attempt: Attempt, kind: type[Event], after: int = 0) -> list[tuple[int, Event]]:
    """Poll until an event of a kind has come, confirming as the control plane does; all events of the way."""
    events: list[tuple[int, Event]] = []

    def came() -> bool:
        events.extend(attempt.poll(events[-1][0] if events else after))
        return any(isinstance(event, kind) for _, event in events)

    wait_until(came, kind.__name__)
    return events


def ended(events: list[tuple[int, Event]]) -> Ended:
    number, event = events[-1]
    assert isinstance(event, Ended)
    assert [each for each, _ in events] == list(range(events[0][0], number + 1))
    assert sum(isinstance(event, Ended) for _, event in events) == 1
    return event


def all_cpus_are_free() -> bool:
    import ray  # noqa: PLC0415

    return bool(ray.available_resources().get("CPU", 0) == cluster_cpus())


def on_actor(actor: Any, function: Callable[[Any], Any], **options: Any) -> Any:
    """Run a function in an actor's process, on the actor's object."""
    import ray  # noqa: PLC0415

    return ray.get(actor.__ray_call__.options(**options).remote(function), timeout=TIMEOUT)


def worker_pids(attempt: Attempt) -> list[int]:
    """The processes of an attempt's workers, as they name themselves."""
    workers = on_actor(attempt._supervisor, lambda supervisor: supervisor._workers)
    return [on_actor(worker, lambda _: os.getpid(), concurrency_group="control") for worker in workers]


@pytest.mark.usefixtures("ray_cluster")
def test_any_number_of_workers_on_a_cluster_gives_the_bits_of_one_here(tmp_path: Path, dataset: DatasetInfo) -> None:
    here = completed(assignment(job(), dataset, tmp_path / "here"))
    for workers in (1, 2):
        directory = tmp_path / str(workers)
        given = assignment(job(**{"resources.workers": workers}), dataset, directory, prepared=False)
        attempt = Attempt.start(given)
        events = events_until(attempt, Ended)
        assert ended(events) == Ended("succeeded", "completed")
        story = [event for _, event in events]
        assert isinstance(story[0], Started)
        assert story[0].fingerprint["numpy"]
        assert isinstance(story[-2], Checkpointed)
        assert story[-2] == here.events[-1]
        assert series_of(story) == here.series
        assert (directory / "model.safetensors").read_bytes() == (tmp_path / "here/model.safetensors").read_bytes()
        attempt.dismiss()
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")


@pytest.mark.usefixtures("ray_cluster")
def test_an_attempt_is_found_heard_and_cancelled_from_outside(tmp_path: Path, dataset: DatasetInfo) -> None:
    given = assignment(job(**ENDLESS, **{"resources.workers": 2}), dataset, tmp_path / "out", prepared=False)
    assert Attempt.find(given.job, 1) is None
    Attempt.start(given)
    attempt = Attempt.find(given.job, 1)
    assert attempt is not None
    assert Attempt.find(given.job, 2) is None
    events = events_until(attempt, Progress)
    last = events[-1][0]
    # What was not confirmed comes again, and more behind it.
    first, second = attempt.poll(last), attempt.poll(last)
    numbers = [number for number, _ in second]
    assert numbers[: len(first)] == [number for number, _ in first] == list(range(last + 1, last + 1 + len(first)))
    attempt.cancel()
    rest = events_until(attempt, Ended, after=last)
    assert ended(rest) == Ended("cancelled", "cancelled_by_user")
    progress = rest[-2][1]
    assert isinstance(progress, Progress)
    assert progress.step > 0
    steps = [step for step, _ in series_of([event for _, event in [*events, *rest]])["train/loss"]]
    assert steps == list(range(1, progress.step + 1))
    assert not (tmp_path / "out").exists()
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")
    attempt.dismiss()
    wait_until(lambda: Attempt.find(given.job, 1) is None, "the supervisor to be gone")
    with pytest.raises(AttemptLostError):
        attempt.poll(0)


@pytest.mark.usefixtures("ray_cluster")
def test_dismissing_an_attempt_ends_its_workers(tmp_path: Path, dataset: DatasetInfo) -> None:
    attempt = Attempt.start(assignment(job(**ENDLESS), dataset, tmp_path / "out", prepared=False))
    events_until(attempt, Progress)
    (pid,) = worker_pids(attempt)
    attempt.dismiss()
    wait_until(all_cpus_are_free, "the worker's CPU to be free")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the worker's process to be gone")


@pytest.mark.usefixtures("ray_cluster")
def test_a_job_that_waits_for_cpus_can_be_cancelled(ray_cluster: int, tmp_path: Path, dataset: DatasetInfo) -> None:
    resources = {"workers": ray_cluster + 1, "cpus_per_worker": 1}
    spec = job(resources=resources)
    attempt = Attempt.start(assignment(spec, dataset, tmp_path / "out", prepared=False))
    assert attempt.poll(0) == []
    attempt.cancel()
    assert ended(events_until(attempt, Ended)) == Ended("cancelled", "cancelled_by_user")
    attempt.dismiss()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("standardize", [True, False])
def test_a_dataset_that_is_gone_fails_the_attempt(tmp_path: Path, standardize: bool) -> None:
    dataset = blobs(tmp_path)
    spec = job(**{"data.standardize": standardize, "resources.workers": 2})
    given = assignment(spec, dataset, tmp_path / "out", prepared=False)
    Path(dataset.path).unlink()
    attempt = Attempt.start(given)
    end = ended(events_until(attempt, Ended))
    assert (end.outcome, end.reason) == ("failed", "dataset_unavailable")
    # A sentence for people, without the traceback that Ray adds.
    assert "gone" in end.message
    assert "\n" not in end.message
    attempt.dismiss()


@pytest.mark.usefixtures("ray_cluster")
def test_a_loss_that_is_not_finite_fails_the_attempt(tmp_path: Path, dataset: DatasetInfo) -> None:
    given = assignment(job(**{"optimizer.lr": 1e30, "resources.workers": 2}), dataset, tmp_path / "out", prepared=False)
    attempt = Attempt.start(given)
    events = events_until(attempt, Ended)
    end = ended(events)
    assert (end.outcome, end.reason) == ("failed", "non_finite_loss")
    assert "step" in end.message
    assert series_of([event for _, event in events])["train/loss"][0][0] == 1
    attempt.dismiss()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_loses_the_attempt(tmp_path: Path, dataset: DatasetInfo, rank: int) -> None:
    spec = job(**ENDLESS, **{"resources.workers": 2})
    attempt = Attempt.start(assignment(spec, dataset, tmp_path / "out", prepared=False))
    events = events_until(attempt, Progress)
    os.kill(worker_pids(attempt)[rank], signal.SIGKILL)
    end = ended(events_until(attempt, Ended, after=events[-1][0]))
    assert (end.outcome, end.reason) == ("lost", "worker_lost")
    wait_until(all_cpus_are_free, "the workers' CPUs to be free")
    attempt.dismiss()


@pytest.fixture
def given(tmp_path: Path, dataset: DatasetInfo) -> Assignment:
    return assignment(job(), dataset, tmp_path / "out")


def test_a_poll_confirms_what_it_names(given: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor alone, without a cluster."""
    monkeypatch.setattr(supervisor_module, "POLL_WAIT", 0.01)

    async def story() -> None:
        supervisor = Supervisor(given)
        told: list[Event] = [Progress(0, step, {}) for step in range(1, 6)]
        assert await supervisor.poll(0) == []
        for event in told[:3]:
            await supervisor.report(event)
        numbered = list(enumerate(told, start=1))
        assert await supervisor.poll(0) == numbered[:3]
        assert await supervisor.poll(0) == numbered[:3]
        assert await supervisor.poll(2) == numbered[2:3]
        # Confirmed is forgotten: who asks for less again gets what is left.
        assert await supervisor.poll(0) == numbered[2:3]
        await supervisor.report(told[3])
        assert await supervisor.poll(2) == numbered[2:4]
        assert await supervisor.poll(4) == []
        assert await supervisor.poll(4) == []
        await supervisor.report(told[4])
        assert await supervisor.poll(4) == numbered[4:]

    asyncio.run(story())


def test_nothing_comes_after_the_end(given: Assignment) -> None:
    async def story() -> None:
        supervisor = Supervisor(given)
        end = Ended("lost", "worker_lost")
        await supervisor.report(end)
        await supervisor.report(Progress(0, 1, {}))
        assert await supervisor.poll(0) == [(1, end)]

    asyncio.run(story())


def test_a_poll_hears_news_at_once(given: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "POLL_WAIT", TIMEOUT)

    async def story() -> None:
        supervisor = Supervisor(given)
        polls = [asyncio.create_task(supervisor.poll(0)) for _ in range(2)]
        await asyncio.sleep(0)
        news = Progress(0, 1, {})
        await supervisor.report(news)
        assert await asyncio.gather(*polls) == [[(1, news)], [(1, news)]]

    began = time.monotonic()
    asyncio.run(story())
    assert time.monotonic() - began < TIMEOUT / 2


def test_a_supervisor_takes_only_a_spec_that_is_right(given: Assignment) -> None:
    with pytest.raises(ValueError, match="loss"):
        Supervisor(replace(given, spec=dict(given.spec) | {"loss": {"type": "os.system"}}))
