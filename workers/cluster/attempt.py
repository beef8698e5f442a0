"""Attempts on a Ray cluster, for the control plane: start, read events, control."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError, RayTaskError
from ray.util.placement_group import remove_placement_group

from workers.cluster.placement import reservations
from workers.cluster.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.job.spec import ResourcesSpec
    from workers.record.events import Event
    from workers.training.assignment import Assignment

NAMESPACE = "gradfleet"
CALL_TIMEOUT = 10.0  # seconds; a poll waits about one
BEGINNING = 120.0  # seconds that a supervisor may take to begin an attempt: on a busy machine it is slow to start
SILENCE = 30.0  # seconds after which a supervisor that does not answer counts as lost
LOOK = 0.2  # seconds between looks whether a caller that waits for an answer should stop
NEVER = Flag()

# Ray's type hints do not have the methods of an actor's handle.
_remote: Any = ray.remote


class AttemptLostError(RuntimeError):
    """An attempt's supervisor is gone, and with it the events that were not read yet."""


class NotBegunError(AttemptLostError):
    """The supervisor is gone, or has not answered for too long, before it has begun the attempt."""


class StoppingError(RuntimeError):
    """The caller should stop, so it does not wait for an answer. The call may have had its effect."""


class Attempt:
    """An attempt on the cluster, started by this process or another; `supervisor` is the name of its supervisor.

    Calls that wait for an answer raise `StoppingError` when `stopping` is set. `beginning` is the call that begins the
    attempt, if it was not answered before.
    """

    def __init__(self, job: str, number: int, supervisor: str, actor: Any, beginning: Any = None) -> None:
        self.supervisor = supervisor
        self._beginning = beginning
        self._job, self._number, self._actor = job, number, actor
        self._answered = time.monotonic()

    @classmethod
    def start(cls, assignment: Assignment, supervisor: str, stopping: Flag = NEVER) -> Attempt:
        """Start an attempt on an idle supervisor; it may begin later, see `begun`.

        Raises ValueError if there is no such supervisor, and a RayError if it is gone or refuses the attempt.
        """
        actor = ray.get_actor(supervisor, namespace=NAMESPACE)
        attempt = cls(assignment.job, assignment.attempt, supervisor, actor, actor.begin.remote(assignment))
        with suppress(GetTimeoutError):
            attempt._await_beginning(stopping)
        return attempt

    @classmethod
    def find(cls, job: str, number: int, supervisor: str, stopping: Flag = NEVER) -> Attempt | None:
        """Find an attempt that was started before; None if its supervisor is gone or does not have it."""
        try:
            actor = ray.get_actor(supervisor, namespace=NAMESPACE)
            holds = bool(_answer(actor.holds.remote(job, number), SILENCE, stopping))
        except (ValueError, RayActorError, GetTimeoutError):
            return None
        return cls(job, number, supervisor, actor) if holds else None

    @property
    def begun(self) -> bool:
        """Whether the supervisor has said that it has begun the attempt."""
        return self._beginning is None

    def _await_beginning(self, stopping: Flag) -> None:
        if self._beginning is not None:
            _answer(self._beginning, CALL_TIMEOUT, stopping)
            self._beginning, self._answered = None, time.monotonic()

    def poll(self, after: int, stopping: Flag = NEVER) -> list[tuple[int, Event]]:
        """Events with numbers above `after`, in order. Waits a moment for one; may return none.

        Raises `AttemptLostError` if the supervisor is gone. A supervisor that cannot be reached counts as gone after
        `SILENCE`, or after `BEGINNING` if it has not begun the attempt (`NotBegunError`).
        """
        try:
            self._await_beginning(stopping)
        except RayTaskError as error:
            raise AttemptLostError("the supervisor refused the attempt") from error
        except GetTimeoutError as error:
            if time.monotonic() - self._answered > BEGINNING:
                raise NotBegunError(f"the supervisor has not begun the attempt for {BEGINNING:g} s") from error
            return []
        except RayActorError as error:
            raise NotBegunError("the supervisor ended before it began the attempt") from error
        try:
            call = self._actor.poll.remote(self._job, self._number, after)
            events: list[tuple[int, Event]] | None = _answer(call, CALL_TIMEOUT, stopping)
        except ActorDiedError as error:
            raise AttemptLostError("the supervisor is gone") from error
        except (ActorUnavailableError, GetTimeoutError) as error:
            if time.monotonic() - self._answered > SILENCE:
                raise AttemptLostError(f"the supervisor has not answered for {SILENCE:g} s") from error
            return []
        if events is None:
            raise AttemptLostError("the supervisor has another attempt")
        self._answered = time.monotonic()
        return events

    def cancel(self) -> None:
        """Ask the attempt to stop. Its last event says that it has stopped."""
        self._actor.cancel.remote(self._job, self._number)

    def pause(self) -> None:
        """Ask the attempt to stop with a checkpoint. Its last event says that it has stopped."""
        self._actor.pause.remote(self._job, self._number)

    def resize(self, resources: ResourcesSpec) -> None:
        """Ask the attempt to continue with other resources."""
        self._actor.resize.remote(self._job, self._number, resources)

    def dismiss(self) -> None:
        """Kill the supervisor and the rest of the attempt, and give back what it has reserved."""
        _end(self.supervisor, self._actor)


class Supervisors:
    """A pool of idle supervisors, at most one: a new supervisor takes seconds until its workers are ready.

    Supervisors are detached actors: an attempt continues when the process that started it ends.
    """

    def __init__(self, stopping: Flag = NEVER) -> None:
        self._stopping = stopping
        self._idle: list[tuple[str, Any]] = []

    def take(self) -> str:
        """Name of an idle supervisor, from the pool or new. Raises `StoppingError` when `stopping` is set."""
        while self._idle:
            name, actor = self._idle.pop()
            if _is_ready(actor, self._stopping):
                return name
            _end(name, actor)
        return _start()[0]

    def give_back(self, attempt: Attempt) -> None:
        """Return the supervisor of an attempt that has ended to the pool, or kill it if the pool is full."""
        self._admit(attempt.supervisor, attempt._actor)

    def keep_warm(self) -> None:
        """Start an idle supervisor if there is none."""
        if not self._idle:
            self._idle.append(_start())

    def adopt(self, busy: set[str]) -> None:
        """Take over the supervisors that a former service has left, except the busy ones."""
        for actor in _named():
            if actor["name"] not in busy:
                with suppress(ValueError):  # it has ended since
                    self._admit(actor["name"], ray.get_actor(**actor))
        _release(lambda owner: owner not in busy)

    def end(self, name: str) -> None:
        """Kill the supervisor of this name, if it still runs, and give back what it has reserved."""
        with suppress(ValueError):
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
        _release(lambda owner: owner == name)

    def reclaim(self) -> None:
        """Give back what supervisors have reserved that are gone.

        A supervisor that is killed may have sent a request just before. Its reservation appears later.
        """
        found = reservations()
        running = {actor["name"] for actor in _named()}  # later, so that it has the owners that still run
        for owner, group in found:
            if owner not in running:
                remove_placement_group(group)

    def _admit(self, name: str, actor: Any) -> None:
        if self._idle:
            _end(name, actor)
        else:
            self._idle.append((name, actor))


def _start() -> tuple[str, Any]:
    name = f"supervisor-{secrets.token_hex(8)}"
    options = {"namespace": NAMESPACE, "lifetime": "detached", "num_cpus": 0, "max_restarts": 0}
    return name, _remote(Supervisor).options(name=name, **options).remote()


def _named() -> list[dict[str, str]]:
    """Name and namespace of each supervisor that runs or starts."""
    return [actor for actor in ray.util.list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE]


def _end(name: str, actor: Any) -> None:
    ray.kill(actor)
    _release(lambda owner: owner == name)


def _release(owns: Callable[[str], bool]) -> None:
    """Give back what the supervisors have reserved whose names fulfil a condition."""
    for owner, group in reservations():
        if owns(owner):
            remove_placement_group(group)


def _is_ready(actor: Any, stopping: Flag) -> bool:
    try:
        return bool(_answer(actor.ready.remote(), CALL_TIMEOUT, stopping))
    except (RayActorError, GetTimeoutError):
        return False


def _answer(call: Any, timeout: float, stopping: Flag) -> Any:
    """The answer to a call. Raises GetTimeoutError, StoppingError, and what the call raises."""
    deadline = time.monotonic() + timeout
    while not ray.wait([call], timeout=LOOK)[0]:
        if stopping.is_set():
            raise StoppingError("the caller stops")
        if time.monotonic() > deadline:
            raise GetTimeoutError(f"no answer within {timeout:g} s")
    return ray.get(call)
