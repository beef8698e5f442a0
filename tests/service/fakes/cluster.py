"""Replaces `workers.cluster.attempt` without Ray. A test decides which events its attempts report."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workers.cluster.attempt import AttemptLostError, NotBegunError, StoppingError

if TYPE_CHECKING:
    from workers.job.spec import ResourcesSpec
    from workers.record.events import Event
    from workers.training.assignment import Assignment


@dataclass
class FakeAttempt:
    """An attempt on the fake cluster. `calls` are the commands that the scheduler sent."""

    assignment: Assignment
    supervisor: str
    calls: list[Any] = field(default_factory=list)
    gone: bool = False
    silent: bool = False  # it answers no poll
    polled: bool = False
    begun: bool = True
    never_begins: bool = False
    _events: list[tuple[int, Event]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def report(self, *events: Event) -> None:
        with self._changed:
            for event in events:
                self._events.append((len(self._events) + 1, event))
            self._changed.notify_all()

    def never_begin(self) -> None:
        with self._changed:
            self.never_begins = True
            self._changed.notify_all()

    def lose(self) -> None:
        with self._changed:
            self.gone = True
            self._changed.notify_all()

    def poll(self, after: int, stopping: threading.Event) -> list[tuple[int, Event]]:
        self.polled = True
        if self.silent:
            stopping.wait()
            raise StoppingError
        with self._changed:
            self._changed.wait_for(lambda: self.gone or self.never_begins or len(self._events) > after, timeout=0.1)
            if self.never_begins:
                raise NotBegunError("the supervisor has not begun the attempt for 120 s")
            if self.gone:
                raise AttemptLostError("the supervisor is gone")
            return self._events[after:]

    def cancel(self) -> None:
        self.calls.append("cancel")

    def pause(self) -> None:
        self.calls.append("pause")

    def resize(self, resources: ResourcesSpec) -> None:
        self.calls.append(resources)

    def dismiss(self) -> None:
        self.calls.append("dismiss")


class FakeCluster:
    """`attempts` are in the order in which they started, `pool` has the calls that concern supervisors."""

    def __init__(self) -> None:
        self.resources = {"CPU": 4.0, "GPU": 0.0}
        self.dead = self.unreachable = False  # `unreachable`: dead, and restarts fail
        self.keeps_attempts = False  # whether attempts survive a restart
        self.restarts = self.failed_restarts = 0
        self.attempts: list[FakeAttempt] = []
        self.pool: list[Any] = []
        self.start_errors: list[Exception] = []  # of the next starts
        self.loses_failed_starts = False
        self.silent = False  # whether its attempts answer no poll
        self.slow = False  # whether its attempts begin later

    def levels(self) -> list[list[str]]:
        return [["x86-64-v2", "x86-64-v3"]]

    def failed(self) -> bool:
        return self.dead

    def restart(self) -> bool:
        self.dead = self.unreachable
        if self.unreachable:
            self.failed_restarts += 1
            return False
        self.restarts += 1
        for attempt in self.attempts:
            if not self.keeps_attempts:
                attempt.lose()
        return True

    def leave(self) -> None:
        pass

    # Replaces workers.cluster.attempt.Attempt:

    def start(self, assignment: Assignment, supervisor: str, _stopping: threading.Event) -> FakeAttempt:
        attempt = FakeAttempt(assignment, supervisor, silent=self.silent, begun=not self.slow)
        self.attempts.append(attempt)
        if self.start_errors:
            attempt.gone = self.loses_failed_starts
            raise self.start_errors.pop(0)
        return attempt

    def find(self, job: str, number: int, supervisor: str, _stopping: threading.Event) -> FakeAttempt | None:
        for attempt in self.attempts:
            assignment = attempt.assignment
            if (assignment.job, assignment.attempt, attempt.supervisor) == (job, number, supervisor):
                return None if attempt.gone else attempt
        return None

    # Replaces workers.cluster.attempt.Supervisors:

    def __call__(self, _stopping: threading.Event) -> FakeCluster:
        return self

    def take(self) -> str:
        return f"supervisor {len(self.attempts)}"

    def end(self, name: str) -> None:
        self.pool.append(("end", name))

    def give_back(self, attempt: FakeAttempt) -> None:
        self.pool.append(("back", attempt.supervisor))

    def keep_warm(self) -> None:
        self.pool.append("warm")

    def reclaim(self) -> None:
        self.pool.append("reclaim")

    def adopt(self, busy: set[str]) -> None:
        self.pool.append(("adopt", busy))
