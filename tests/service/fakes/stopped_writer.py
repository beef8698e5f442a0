"""A process that stops itself (SIGSTOP) at a chosen moment of a transaction, and prints how it ended once it goes on.

python tests/service/fakes/stopped_writer.py DATABASE_URL MOMENT TOKEN JOB

With a token, it writes as the holder of the lease. An empty token means that it writes as the API does.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from psycopg.adapt import Dumper
from sqlalchemy import event, insert

from service.jobs.repository import record_result
from service.store import Database
from service.store.lease import FencedDatabase, Term
from service.store.models import Job, Metric
from service.store.rows import find

ROWS = 5000  # more than fit into one network buffer
LONG_ANSWER = b"SELECT repeat('x', 1000000) FROM generate_series(1, 100)"

url, moment, token, job_id = sys.argv[1:]


def stop(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class Trap(int):
    """A number; the process stops when the driver sends it."""


class TrapDumper(Dumper):
    """Stops this process."""

    oid = 20

    def dump(self, number: Trap) -> bytes:
        stop()
        return str(int(number)).encode()


def stop_at_the_check(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    if "FROM leases" in statement:
        stop()


database = Database(url)
with database.reading() as session:  # the connection is open, as it is in a process that has run for a while
    assert session.get(Job, job_id) is not None
if moment == "before begin":
    event.listen(database.engine, "begin", stop, insert=True)
if moment == "after begin":
    event.listen(database.engine, "before_cursor_execute", stop_at_the_check)
writer = FencedDatabase(database, Term(database, int(token), time.monotonic())) if token else database
try:
    with writer.writing() as session:
        if moment == "after the check":
            stop()
        find(session, Job, job_id, lock=True)
        record_result(session, job_id, 1, params_sha256="too late")
        connection = session.connection().connection.driver_connection
        assert connection is not None
        if moment == "in executemany":
            connection.adapters.register_dumper(Trap, TrapDumper)
            points = [{"job_id": job_id, "name": "x", "step": step, "value": 0.5, "time_ms": 1} for step in range(ROWS)]
            points[-1]["step"] = Trap(ROWS)
            session.execute(insert(Metric), points)
        if moment == "in an answer":
            connection.pgconn.send_query(LONG_ANSWER)
            stop()
        if moment == "before commit":
            stop()
except Exception as error:  # noqa: BLE001  the test looks at its name
    print(type(error).__name__, flush=True)  # noqa: T201
else:
    print("committed", flush=True)  # noqa: T201
