"""A stopped process that holds SQLite's lock delays writes, with a clear answer, and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from service.processes import die_with_parent
from service.store import Database
from service.store import database as database_module
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from service.settings import Settings

HOLD = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE leases SET renewals = 99")
os.kill(os.getpid(), signal.SIGSTOP)
connection.execute("COMMIT")
"""


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def database(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database with a short timeout."""
    database.close()
    assert database_module.LOCK_TIMEOUT_S == 30
    monkeypatch.setattr(database_module, "LOCK_TIMEOUT_S", 0.2)
    impatient = Database(settings.database)
    yield impatient
    impatient.close()


@pytest.mark.usefixtures("digits")
def test_writes_get_503_while_a_stopped_process_holds_the_lock(api: httpx.Client, settings: Settings) -> None:
    path = str(settings.data_dir / "gradfleet.db")
    with subprocess.Popen([sys.executable, "-c", HOLD, path], preexec_fn=die_with_parent) as holder:  # noqa: PLW1509
        _, status = os.waitpid(holder.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        answer = api.post("/v1/jobs", json=hinge_job(), headers={"Idempotency-Key": "one"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert api.get("/v1/jobs").json()["data"] == [], "reads do not wait"
        holder.send_signal(signal.SIGCONT)
        assert holder.wait() == 0
    assert api.post("/v1/jobs", json=hinge_job(), headers={"Idempotency-Key": "one"}).status_code == 201
