"""Attempts on a Ray cluster, as the control plane sees them: start one, hear its events, cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError

from workers.supervisor import Supervisor

if TYPE_CHECKING:
    from workers.events import Event
    from workers.trainer import Assignment

NAMESPACE = "gradfleet"
POLL_TIMEOUT = 10.0  # seconds; a poll waits about one

# Ray's type hints lose the methods of an actor's handle.
_remote: Any = ray.remote


class AttemptLostError(RuntimeError):
    """An attempt's supervisor is gone, and what it had not told yet with it."""


class Attempt:
    """An attempt that runs on the cluster, whoever started it."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor

    @classmethod
    def start(cls, assignment: Assignment) -> Attempt:
        """Start an attempt. Its supervisor is detached: it outlives the process that started it."""
        supervisor: Any = (
            _remote(Supervisor)
            .options(
                name=_name(assignment.job, assignment.attempt),
                namespace=NAMESPACE,
                lifetime="detached",
                num_cpus=0,
                max_restarts=0,
            )
            .remote(assignment)
        )
        supervisor.run.remote(supervisor)
        return cls(supervisor)

    @classmethod
    def find(cls, job: str, attempt: int) -> Attempt | None:
        """Find an attempt that was started before; None when its supervisor is gone."""
        try:
            return cls(ray.get_actor(_name(job, attempt), namespace=NAMESPACE))
        except ValueError:
            return None

    def poll(self, after: int) -> list[tuple[int, Event]]:
        """Events with numbers above `after`, in order; perhaps none, after a moment.

        Raises `AttemptLostError` when the supervisor is gone. One that can not be reached just now is not gone.
        """
        try:
            events: list[tuple[int, Event]] = ray.get(self._supervisor.poll.remote(after), timeout=POLL_TIMEOUT)
        except ActorDiedError as error:
            raise AttemptLostError("the supervisor is gone") from error
        except (ActorUnavailableError, GetTimeoutError):
            return []
        return events

    def cancel(self) -> None:
        """Ask the attempt to stop; its last event says when it has."""
        self._supervisor.cancel.remote()

    def dismiss(self) -> None:
        """End the supervisor, and with it whatever is left of the attempt."""
        ray.kill(self._supervisor)


def _name(job: str, attempt: int) -> str:
    return f"{job}/attempt-{attempt}"


def cluster_cpus() -> float:
    """CPUs that the cluster has for workers, busy or not."""
    return float(ray.cluster_resources().get("CPU", 0))
