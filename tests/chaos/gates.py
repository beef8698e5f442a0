"""The command line with gates at its commits: a process waits at a chosen commit until it may continue or is killed.

A test closes a gate with a file `<moment>-<before or after>.plan`. The first process that reaches such a commit renames
the file, writes its process id to the file `reached`, and waits for the file `go`.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

GATES = "GRADFLEET_TEST_GATES"
PATIENCE = 30.0  # seconds after which a forgotten gate opens

# The beginning of the SQL statement that identifies each kind of commit.
MOMENTS = {
    "submission": "INSERT INTO jobs ",
    "launch": "INSERT INTO attempts ",
    "points": "INSERT INTO metrics ",
    "checkpoint": "UPDATE jobs SET params_sha256",
    "end": "UPDATE attempts SET outcome",
    "mark": "UPDATE mlflow_runs SET metric_cursor",
}


class Gates:
    """Stops the threads of this process at commits."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._here = threading.local()
        event.listen(Engine, "begin", self._begin)
        event.listen(Engine, "before_cursor_execute", self._execute)
        event.listen(Engine, "commit", self._commit)
        event.listen(Session, "after_commit", self._committed)

    def _begin(self, _connection: Connection) -> None:
        self._here.moments, self._here.committed = set(), False

    def _execute(self, _connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        found = " ".join(statement.split())
        self._here.moments |= {moment for moment, beginning in MOMENTS.items() if found.startswith(beginning)}

    def _commit(self, _connection: Connection) -> None:
        self._stop_where_planned("before")
        self._here.committed = True

    def _committed(self, _session: Session) -> None:
        if self._here.committed:  # SQLAlchemy also sends this event for a part of a transaction
            self._stop_where_planned("after")

    def _stop_where_planned(self, when: str) -> None:
        for moment in self._here.moments:
            try:
                (self._directory / f"{moment}-{when}.plan").rename(self._directory / "taken")
            except FileNotFoundError:
                continue
            (self._directory / "reached").write_text(str(os.getpid()))
            deadline = time.monotonic() + PATIENCE
            while not (self._directory / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.005)


if __name__ == "__main__":
    from service.cli.main import app

    Gates(Path(os.environ[GATES]))
    app()
