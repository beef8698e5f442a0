"""A process that tries to lead, with a fake cluster. It prints the attempts that it starts.

python tests/service/fakes/leader.py DATABASE_URL DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event
from unittest import mock

from service.scheduling import leadership, scheduler
from service.scheduling.leadership import Leadership
from service.settings import Settings
from service.store import Database, lease
from tests.service.fakes.cluster import FakeAttempt, FakeCluster
from workers.training.assignment import Assignment


class PrintingCluster(FakeCluster):
    """Prints a line when an attempt starts. Its attempts report no events."""

    def start(self, assignment: Assignment, supervisor: str, stopping: Event) -> FakeAttempt:
        sys.stdout.write(f"started {assignment.job} {assignment.attempt}\n")
        sys.stdout.flush()
        return super().start(assignment, supervisor, stopping)


cluster = PrintingCluster()
candidate = Leadership(Database(sys.argv[1]), Settings(data_dir=Path(sys.argv[2])), cluster)
with (
    mock.patch.object(scheduler, "Attempt", cluster),
    mock.patch.object(scheduler, "Supervisors", cluster),
    mock.patch.object(scheduler, "IDLE_WAIT", 0.02),
    mock.patch.object(lease, "LEASE", 1.5),
    mock.patch.object(leadership, "LEASE", 1.5),
    mock.patch.object(leadership, "RENEWAL", 0.3),
    mock.patch.object(leadership, "LOOK", 0.05),
):
    candidate.start()
    sys.stdin.read()
    candidate.stop()
