"""Attempts on a Ray cluster, followed as the control plane follows them, and their processes."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray

from tests.workers.helpers import Outcome, assignment, checkpoint_files, completed, points_of
from workers.cluster.attempt import cluster_cpus
from workers.record.events import Checkpointed, Ended, Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workers.cluster.attempt import Attempt
    from workers.data.dataset import DatasetInfo
    from workers.training.trainer import Assignment

# On a busy machine the processes of an attempt take half a minute to start.
TIMEOUT = 120.0  # seconds

Events = list[tuple[int, Event]]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, f"waited {TIMEOUT:g} s for {what}"
        time.sleep(0.01)


def events_until(attempt: Attempt, kind: type[Event] = Ended, *, after: int = 0, count: int = 1) -> Events:
    """Poll until so many events of a kind have come, confirming as the control plane does; all events of the way."""
    events: Events = []

    def came() -> bool:
        events.extend(attempt.poll(events[-1][0] if events else after))
        return sum(isinstance(event, kind) for _, event in events) >= count

    wait_until(came, f"{count} {kind.__name__}")
    return events


def rest_of(attempt: Attempt, events: Events) -> list[Event]:
    """Follow an attempt to its end; all its events, the first ones given."""
    numbered = [*events, *events_until(attempt, after=events[-1][0] if events else 0)]
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))
    story = [event for _, event in numbered]
    assert [isinstance(event, Ended) for event in story].index(True) == len(story) - 1
    return story


def of_kind(story: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in story if isinstance(event, kind)]


def with_workers(given: Assignment, workers: int) -> Assignment:
    return replace(given, spec={**given.spec, "resources": given.spec["resources"] | {"workers": workers}})


@dataclass
class Undisturbed:
    """A job, and what came of it in this process."""

    given: Assignment
    outcome: Outcome
    files: list[bytes]

    def again(self, directory: Path, *, workers: int = 2, **changes: Any) -> Assignment:
        """The same job, to be trained elsewhere."""
        given = replace(self.given, job=f"job-{secrets.token_hex(8)}", directory=directory, scaling=None)
        return replace(with_workers(given, workers), **changes)

    def assert_same(self, story: list[Event], directory: Path) -> None:
        """The job came to the same: each point, the parameters, the files."""
        assert story[-1] == Ended("succeeded", "completed")
        assert of_kind(story, Checkpointed)[-1] == of_kind(self.outcome.events, Checkpointed)[-1]
        assert points_of(story) == points_of(self.outcome.events)
        assert checkpoint_files(directory) == self.files


def undisturbed(spec: dict[str, Any], dataset: DatasetInfo, directory: Path) -> Undisturbed:
    """Train a job here."""
    given = assignment(spec, dataset, directory)
    return Undisturbed(given, completed(given), checkpoint_files(directory))


def on_actor(actor: Any, function: Callable[[Any], Any], **options: Any) -> Any:
    """Run a function in an actor's process, on the actor's object."""
    return ray.get(actor.__ray_call__.options(**options).remote(function), timeout=TIMEOUT)


def pid_of(actor: Any) -> int:
    return int(on_actor(actor, lambda _: os.getpid()))


def workers_of(attempt: Attempt) -> list[int]:
    """The processes of the workers that train."""

    def trains(supervisor: Any) -> bool:
        group = supervisor._current._group
        return group is not None and bool(group._training)

    wait_until(lambda: bool(on_actor(attempt._actor, trains)), "the workers to train")
    actors = on_actor(attempt._actor, lambda supervisor: supervisor._current._group._workers)
    return ray.get([actor.ping.remote() for actor in actors], timeout=TIMEOUT)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def all_cpus_are_free() -> bool:
    return bool(ray.available_resources().get("CPU", 0) == cluster_cpus())
