"""Idle supervisors, which are kept for the next attempts."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import ray
from ray.exceptions import RayActorError
from ray.util import list_named_actors

from tests.workers.fixtures.attempts import TIMEOUT, Undisturbed, all_events, is_gone, pid_of, undisturbed, wait_until
from tests.workers.fixtures.helpers import blobs, job
from workers.cluster.attempt import NAMESPACE, Attempt, Supervisors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(4 * TIMEOUT), pytest.mark.usefixtures("ray_cluster", "existing")]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    directory = tmp_path_factory.mktemp("short")
    return undisturbed(job(**{"training.epochs": 1}), blobs(directory), directory / "out")


@pytest.fixture(autouse=True)
def long_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, starting a supervisor takes longer than the usual timeout."""
    monkeypatch.setattr(f"{Attempt.__module__}.CALL_TIMEOUT", TIMEOUT)


def running() -> set[str]:
    return {actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE}


@pytest.fixture
def existing() -> Iterator[set[str]]:
    """Names of the supervisors that existed before the test. Those that the test has started are killed after it."""
    before = running()
    yield before
    for name in running() - before:
        Supervisors().end(name)
    wait_until(lambda: running() <= before, "a test's supervisors to be gone")


def process_of(name: str) -> int:
    return pid_of(ray.get_actor(name, namespace=NAMESPACE))


def test_an_idle_supervisor_is_taken_once(existing: set[str]) -> None:
    supervisors = Supervisors()
    supervisors.keep_warm()
    supervisors.keep_warm()
    (waiting,) = running() - existing
    assert supervisors.take() == waiting
    assert supervisors.take() != waiting
    assert len(running() - existing) == 2


def test_an_idle_supervisor_that_died_is_replaced(existing: set[str], tmp_path: Path, short: Undisturbed) -> None:
    supervisors = Supervisors()
    supervisors.keep_warm()
    (waiting,) = running() - existing
    process = process_of(waiting)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: is_gone(process), "the supervisor to be gone")
    name = supervisors.take()
    assert name != waiting
    short.assert_same(all_events(Attempt.start(short.again(tmp_path), name), []), tmp_path)


def test_a_supervisor_is_reused_after_its_attempt_has_ended(
    existing: set[str], tmp_path: Path, short: Undisturbed
) -> None:
    supervisors = Supervisors()
    attempt = Attempt.start(short.again(tmp_path), supervisors.take())
    all_events(attempt, [])
    supervisors.give_back(attempt)
    assert supervisors.take() == attempt.supervisor
    # If another supervisor is idle already, it is ended.
    supervisors.keep_warm()
    (waiting,) = running() - existing - {attempt.supervisor}
    supervisors.give_back(attempt)
    wait_until(lambda: running() - existing == {waiting}, "one supervisor to be left")
    assert supervisors.take() == waiting


def test_supervisors_of_an_earlier_service_are_adopted(existing: set[str]) -> None:
    former = Supervisors()
    busy, one, other = (former.take() for _ in range(3))
    supervisors = Supervisors()
    supervisors.adopt({busy, *existing})
    wait_until(lambda: len(running() - existing) == 2, "an idle supervisor and the busy one to be left")
    assert busy in running()
    assert supervisors.take() in {one, other}


def test_a_supervisor_that_ends_while_it_is_adopted_is_ignored(
    existing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Supervisors().take()
    named = list_named_actors(all_namespaces=True)
    gone = {"name": "supervisor-gone", "namespace": NAMESPACE}
    monkeypatch.setattr("ray.util.list_named_actors", lambda **_: [gone, *named])
    supervisors = Supervisors()
    supervisors.adopt(existing)
    assert supervisors.take() == name


def test_an_ended_supervisor_starts_no_attempt(existing: set[str], tmp_path: Path, short: Undisturbed) -> None:
    """Also if it was taken before it was ended."""
    supervisors = Supervisors()
    name = supervisors.take()
    supervisors.end(name)
    with pytest.raises((ValueError, RayActorError)):
        Attempt.start(short.again(tmp_path), name)
    wait_until(lambda: running() <= existing, "the supervisor to be gone")
    supervisors.end(name)
