"""The Ray actor in which one worker of an attempt lives."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from workers.exchange import Exchange, Membership
from workers.trainer import Assignment, Trainer

if TYPE_CHECKING:
    from workers.events import Event

PEER_TIMEOUT = 60.0  # seconds that a peer may need for one step
# Ray's type hints do not know concurrency groups.
_remote: Any = ray.remote


@_remote(max_restarts=0, concurrency_groups={"control": 1})
class Worker:
    """One worker: binds its end of the exchange, then trains with the others."""

    def __init__(self, membership: Membership, supervisor: Any) -> None:
        self._membership, self._supervisor = membership, supervisor
        self._exchange = Exchange(membership, ray.util.get_node_ip_address(), PEER_TIMEOUT)
        self._stop = threading.Event()
        self._unconfirmed: ray.ObjectRef[None] | None = None

    def address(self) -> str:
        """Where this worker receives."""
        return self._exchange.address

    def train(self, assignment: Assignment, addresses: Sequence[str]) -> bool:
        """Train to the end; False when stopped before. `addresses` are those of all workers in order of rank."""
        with self._exchange:
            self._exchange.connect(addresses)
            trainer = Trainer(
                assignment,
                self._membership,
                self._exchange,
                report=self._report,
                stop_requested=self._stop.is_set,
            )
            try:
                return trainer.run()
            finally:
                self._await_confirmation()

    def _report(self, event: Event) -> None:
        # One report at a time: they arrive in order, and a supervisor that falls behind is not buried.
        self._await_confirmation()
        self._unconfirmed = self._supervisor.report.remote(event)

    def _await_confirmation(self) -> None:
        if self._unconfirmed is not None:
            ray.get(self._unconfirmed)
            self._unconfirmed = None

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        """Ask for an end after the step that is being computed."""
        self._stop.set()
