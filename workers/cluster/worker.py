"""The Ray actor of a worker, which joins one group after another."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from workers.data.dataset import check_dataset
from workers.exchange.control import Command
from workers.exchange.messages import Address, Exchange, Membership
from workers.machine.arithmetic import check_level
from workers.machine.fingerprint import fingerprint
from workers.record.events import Noted
from workers.training.assignment import Assignment, End
from workers.training.trainer import Trainer

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo
    from workers.record.events import Event

PEER_TIMEOUT = 60.0  # seconds that a peer may take for one step
# Ray's type hints lack concurrency groups.
_remote: Any = ray.remote


@_remote(max_restarts=0, concurrency_groups={"control": 1})
class Worker:
    """One worker: it joins a group, then trains with the others."""

    def __init__(self) -> None:
        fingerprint()  # slow the first time
        self._exchange: Exchange | None = None
        self._membership: Membership | None = None
        self._command = Command.NONE
        self._report_lock = threading.Lock()
        self._unconfirmed: ray.ObjectRef[None] | None = None

    def join(
        self, membership: Membership, dataset: DatasetInfo, arithmetic: str | None
    ) -> tuple[Address, dict[str, str]]:
        """Become a member of a group that trains on a dataset at a level of arithmetic.

        Returns the address at which this worker listens, and its fingerprint. Raises `LevelError` if this process does
        not compute at the level, and `DatasetError` if this worker's file is damaged. The check of a large file takes
        minutes, in which the other workers do not wait for messages yet.
        """
        found = fingerprint()
        if arithmetic is not None:
            check_level(arithmetic, found)
        check_dataset(dataset)
        if self._exchange is not None:
            self._exchange.close()
        self._membership, self._command = membership, Command.NONE
        self._exchange = Exchange(membership, ray.util.get_node_ip_address(), PEER_TIMEOUT)
        return self._exchange.address, found

    def train(
        self, assignment: Assignment, addresses: Sequence[Address], checkpoint: Path | None, supervisor: Any
    ) -> End:
        """Train to the end, or until a command to stop; `addresses` are those of all workers in order of rank."""
        exchange, membership = self._exchange, self._membership
        if exchange is None or membership is None:
            raise RuntimeError("a worker must join a group before it trains")

        def report(event: Event) -> None:
            # One report at a time: they arrive in order, and they do not pile up if the supervisor is slow.
            with self._report_lock:
                self._await_confirmation()
                self._unconfirmed = supervisor.report.remote(membership.key, event)

        with exchange:
            exchange.connect(addresses)
            trainer = Trainer(
                assignment, exchange, checkpoint=checkpoint, report=report, pending_command=lambda: self._command
            )
            try:
                return trainer.run()
            finally:
                self._exchange = None
                if exchange.refused:
                    report(Noted("messages_refused", {"worker": membership.rank, **exchange.refused}))
                self._await_confirmation()

    def _await_confirmation(self) -> None:
        if self._unconfirmed is not None:
            ray.get(self._unconfirmed)
            self._unconfirmed = None

    @ray.method(concurrency_group="control")
    def command(self, key: bytes, command: Command) -> None:
        """Give a command for after the current step; `key` is the group's."""
        if self._membership is not None and self._membership.key == key:
            self._command |= command

    @ray.method(concurrency_group="control")
    def ping(self) -> int:
        """Answer with the process's id, also while training."""
        return os.getpid()
