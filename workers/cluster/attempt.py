"""Attempts on a Ray cluster, as the control plane sees them: start one, hear its events, steer it."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError

from workers.cluster.supervisor import Supervisor

if TYPE_CHECKING:
    from workers.job.spec import ResourcesSpec
    from workers.record.events import Event
    from workers.training.trainer import Assignment

NAMESPACE = "gradfleet"
CALL_TIMEOUT = 10.0  # seconds; a poll waits about one
SILENCE = 30.0  # seconds after which a supervisor that answers nothing is given up

# Ray's type hints lose the methods of an actor's handle.
_remote: Any = ray.remote


class AttemptLostError(RuntimeError):
    """An attempt's supervisor is gone, and what it had not told yet with it."""


class Attempt:
    """An attempt that runs on the cluster, whoever started it; `supervisor` is the name of its supervisor."""

    def __init__(self, job: str, number: int, supervisor: str, actor: Any) -> None:
        self.supervisor = supervisor
        self._job, self._number, self._actor = job, number, actor
        self._heard = time.monotonic()

    @classmethod
    def start(cls, assignment: Assignment, supervisor: str) -> Attempt:
        """Start an attempt on a supervisor that waits for one.

        Raises ValueError where there is no such supervisor, a RayError where it does not answer.
        """
        actor = ray.get_actor(supervisor, namespace=NAMESPACE)
        ray.get(actor.begin.remote(assignment), timeout=CALL_TIMEOUT)
        return cls(assignment.job, assignment.attempt, supervisor, actor)

    @classmethod
    def find(cls, job: str, number: int, supervisor: str) -> Attempt | None:
        """Find an attempt that was started before; None when its supervisor is gone, or has never heard of it."""
        try:
            actor = ray.get_actor(supervisor, namespace=NAMESPACE)
            holds = bool(ray.get(actor.holds.remote(job, number), timeout=SILENCE))
        except (ValueError, RayActorError, GetTimeoutError):
            return None
        return cls(job, number, supervisor, actor) if holds else None

    def poll(self, after: int) -> list[tuple[int, Event]]:
        """Events with numbers above `after`, in order; perhaps none, after a moment.

        Raises `AttemptLostError` when the supervisor is gone. One that can not be reached is not gone before it was
        silent for `SILENCE`.
        """
        try:
            events: list[tuple[int, Event]] | None = ray.get(
                self._actor.poll.remote(self._job, self._number, after), timeout=CALL_TIMEOUT
            )
        except ActorDiedError as error:
            raise AttemptLostError("the supervisor is gone") from error
        except (ActorUnavailableError, GetTimeoutError) as error:
            if time.monotonic() - self._heard > SILENCE:
                raise AttemptLostError(f"the supervisor has not answered for {SILENCE:g} s") from error
            return []
        if events is None:
            raise AttemptLostError("the supervisor has another attempt")
        self._heard = time.monotonic()
        return events

    def cancel(self) -> None:
        """Ask the attempt to stop; its last event says when it has."""
        self._actor.cancel.remote(self._job, self._number)

    def pause(self) -> None:
        """Ask the attempt to stop with a checkpoint; its last event says when it has."""
        self._actor.pause.remote(self._job, self._number)

    def resize(self, resources: ResourcesSpec) -> None:
        """Ask the attempt to go on with other resources."""
        self._actor.resize.remote(self._job, self._number, resources)

    def dismiss(self) -> None:
        """End the supervisor, and with it whatever is left of the attempt."""
        ray.kill(self._actor)


class Supervisors:
    """Supervisors that wait for an attempt, one at most: a new one takes seconds to have its workers ready.

    They are detached: an attempt outlives the process that started it.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Any]] = []

    def take(self) -> str:
        """Name of a supervisor that waits for an attempt: one that is ready, or a new one."""
        while self._waiting:
            name, actor = self._waiting.pop()
            if _is_ready(actor):
                return name
            ray.kill(actor)
        return _start()[0]

    def give_back(self, attempt: Attempt) -> None:
        """Let the supervisor of an attempt that has ended wait for the next one, or end it."""
        self._admit(attempt.supervisor, attempt._actor)

    def keep_warm(self) -> None:
        """Have one wait."""
        if not self._waiting:
            self._waiting.append(_start())

    def adopt(self, busy: set[str]) -> None:
        """Take over the supervisors that a former service has left, but for the busy ones."""
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["namespace"] == NAMESPACE and actor["name"] not in busy:
                with suppress(ValueError):  # it has ended since
                    self._admit(actor["name"], ray.get_actor(**actor))

    def end(self, name: str) -> None:
        """End the supervisor of this name, whatever it does; nothing happens where it has ended."""
        with suppress(ValueError):
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))

    def _admit(self, name: str, actor: Any) -> None:
        if self._waiting:
            ray.kill(actor)
        else:
            self._waiting.append((name, actor))


def _start() -> tuple[str, Any]:
    name = f"supervisor-{secrets.token_hex(8)}"
    options = {"namespace": NAMESPACE, "lifetime": "detached", "num_cpus": 0, "max_restarts": 0}
    return name, _remote(Supervisor).options(name=name, **options).remote()


def _is_ready(actor: Any) -> bool:
    try:
        return bool(ray.get(actor.ready.remote(), timeout=CALL_TIMEOUT))
    except (RayActorError, GetTimeoutError):
        return False
