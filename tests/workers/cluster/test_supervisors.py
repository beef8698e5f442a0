"""Supervisors that wait for attempts."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import ray
from ray.exceptions import RayActorError
from ray.util import list_named_actors

from tests.workers.fixtures.attempts import TIMEOUT, Undisturbed, is_gone, pid_of, rest_of, undisturbed, wait_until
from tests.workers.fixtures.helpers import blobs, job
from workers.cluster.attempt import NAMESPACE, Attempt, Supervisors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(4 * TIMEOUT), pytest.mark.usefixtures("ray_cluster", "only_these")]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    directory = tmp_path_factory.mktemp("short")
    return undisturbed(job(**{"training.epochs": 1}), blobs(directory), directory / "out")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a supervisor takes longer to start than is waited for one that hangs."""
    monkeypatch.setattr(f"{Attempt.__module__}.CALL_TIMEOUT", TIMEOUT)


def living() -> set[str]:
    return {actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE}


@pytest.fixture
def only_these() -> Iterator[set[str]]:
    """Names of the supervisors that were there before; those of a test are ended."""
    before = living()
    yield before
    for name in living() - before:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE))
    wait_until(lambda: living() <= before, "a test's supervisors to be gone")


def process_of(name: str) -> int:
    return pid_of(ray.get_actor(name, namespace=NAMESPACE))


def test_one_waits_and_is_taken_once(only_these: set[str]) -> None:
    supervisors = Supervisors()
    supervisors.keep_warm()
    supervisors.keep_warm()
    (waiting,) = living() - only_these
    assert supervisors.take() == waiting
    assert supervisors.take() != waiting
    assert len(living() - only_these) == 2


def test_one_that_died_while_it_waited_is_replaced(only_these: set[str], tmp_path: Path, short: Undisturbed) -> None:
    supervisors = Supervisors()
    supervisors.keep_warm()
    (waiting,) = living() - only_these
    process = process_of(waiting)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: is_gone(process), "the supervisor to be gone")
    name = supervisors.take()
    assert name != waiting
    short.assert_same(rest_of(Attempt.start(short.again(tmp_path), name), []), tmp_path)


def test_one_whose_attempt_has_ended_waits_again(only_these: set[str], tmp_path: Path, short: Undisturbed) -> None:
    supervisors = Supervisors()
    attempt = Attempt.start(short.again(tmp_path), supervisors.take())
    rest_of(attempt, [])
    supervisors.give_back(attempt)
    assert supervisors.take() == attempt.supervisor
    # Where another one waits already, it is ended.
    supervisors.keep_warm()
    (waiting,) = living() - only_these - {attempt.supervisor}
    supervisors.give_back(attempt)
    wait_until(lambda: living() - only_these == {waiting}, "one supervisor to be left")
    assert supervisors.take() == waiting


def test_those_of_a_former_service_are_taken_over(only_these: set[str]) -> None:
    former = Supervisors()
    busy, one, other = (former.take() for _ in range(3))
    supervisors = Supervisors()
    supervisors.adopt({busy, *only_these})
    wait_until(lambda: len(living() - only_these) == 2, "one that waits and the busy one to be left")
    assert busy in living()
    assert supervisors.take() in {one, other}


def test_one_that_ends_while_it_is_taken_over_is_let_go(only_these: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name = Supervisors().take()
    named = list_named_actors(all_namespaces=True)
    gone = {"name": "supervisor-gone", "namespace": NAMESPACE}
    monkeypatch.setattr("ray.util.list_named_actors", lambda **_: [gone, *named])
    supervisors = Supervisors()
    supervisors.adopt(only_these)
    assert supervisors.take() == name


def test_one_that_was_ended_begins_nothing(only_these: set[str], tmp_path: Path, short: Undisturbed) -> None:
    """Also where whoever took it has stalled and does not know."""
    supervisors = Supervisors()
    name = supervisors.take()
    supervisors.end(name)
    with pytest.raises((ValueError, RayActorError)):
        Attempt.start(short.again(tmp_path), name)
    wait_until(lambda: living() <= only_these, "the supervisor to be gone")
    supervisors.end(name)
