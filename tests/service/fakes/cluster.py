"""A cluster without Ray: it stands in for `workers.cluster.attempt`, and its attempts report what a test tells them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workers.cluster.attempt import AttemptLostError

if TYPE_CHECKING:
    from workers.job.spec import ResourcesSpec
    from workers.record.events import Event
    from workers.training.assignment import Assignment


@dataclass
class FakeAttempt:
    """An attempt on the fake cluster; `told` is what the scheduler asked of it."""

    assignment: Assignment
    supervisor: str
    told: list[Any] = field(default_factory=list)
    gone: bool = False
    _events: list[tuple[int, Event]] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def tell(self, *events: Event) -> None:
        with self._news:
            for event in events:
                self._events.append((len(self._events) + 1, event))
            self._news.notify_all()

    def lose(self) -> None:
        with self._news:
            self.gone = True
            self._news.notify_all()

    def poll(self, after: int) -> list[tuple[int, Event]]:
        with self._news:
            self._news.wait_for(lambda: self.gone or len(self._events) > after, timeout=0.1)
            if self.gone:
                raise AttemptLostError("the supervisor is gone")
            return self._events[after:]

    def cancel(self) -> None:
        self.told.append("cancel")

    def pause(self) -> None:
        self.told.append("pause")

    def resize(self, resources: ResourcesSpec) -> None:
        self.told.append(resources)

    def dismiss(self) -> None:
        self.told.append("dismiss")


class FakeCluster:
    """The whole cluster; `attempts` in the order in which they began, `pool` what became of supervisors."""

    def __init__(self) -> None:
        self.resources = {"CPU": 4.0, "GPU": 0.0}
        self.dead = self.away = False  # `away`: dead, and nobody has started it again yet
        self.kept = False  # whether what runs on it outlives a restart
        self.restarts = self.refused = 0
        self.attempts: list[FakeAttempt] = []
        self.pool: list[Any] = []
        self.refuses: Exception | None = None

    def failed(self) -> bool:
        return self.dead

    def restart(self) -> bool:
        self.dead = self.away
        if self.away:
            self.refused += 1
            return False
        self.restarts += 1
        for attempt in self.attempts:
            if not self.kept:
                attempt.lose()
        return True

    def leave(self) -> None:
        pass

    # In the place of workers.cluster.attempt.Attempt:

    def start(self, assignment: Assignment, supervisor: str) -> FakeAttempt:
        self.attempts.append(FakeAttempt(assignment, supervisor))
        if self.refuses:
            raise self.refuses
        return self.attempts[-1]

    def find(self, job: str, number: int, supervisor: str) -> FakeAttempt | None:
        for attempt in self.attempts:
            assignment = attempt.assignment
            if (assignment.job, assignment.attempt, attempt.supervisor) == (job, number, supervisor):
                return None if attempt.gone else attempt
        return None

    # In the place of workers.cluster.attempt.Supervisors:

    def __call__(self) -> FakeCluster:
        return self

    def take(self) -> str:
        return f"supervisor {len(self.attempts)}"

    def end(self, name: str) -> None:
        self.pool.append(("end", name))

    def give_back(self, attempt: FakeAttempt) -> None:
        self.pool.append(("back", attempt.supervisor))

    def keep_warm(self) -> None:
        self.pool.append("warm")

    def adopt(self, busy: set[str]) -> None:
        self.pool.append(("adopt", busy))
