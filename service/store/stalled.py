"""Ends transactions that hold locks while their process does not continue them.

A process can be stopped, or its machine unplugged, in the middle of a transaction. PostgreSQL ends such a transaction
after `IDLE_TIMEOUT_S`, but only between two commands: not in the middle of a batch of them, nor while it sends an
answer. So the other processes look for such transactions. A user of PostgreSQL may end its own sessions, so this needs
no other privilege.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from service.store import database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# A session with a transaction id has written or locked rows. Another one can only block changes of tables: it is ended
# if a session waits for it.
END_STALLED = text(
    """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid()
    AND application_name = current_setting('application_name')
    AND wait_event_type = 'Client' AND xact_start IS NOT NULL
    AND state_change < clock_timestamp() - make_interval(secs => :seconds)
    AND (
        backend_xid IS NOT NULL
        OR pid IN (
            SELECT unnest(pg_blocking_pids(waiting.pid)) FROM pg_stat_activity waiting
            WHERE waiting.wait_event_type = 'Lock'
        )
    )
    """
)


def end_stalled(session: Session) -> list[int]:
    """End transactions whose process has sent nothing for `IDLE_TIMEOUT_S`; returns the server's ids of their sessions.

    Nothing that they wrote is committed. On SQLite it does nothing: a writer's lock there ends with its process.
    """
    if session.get_bind().dialect.name != "postgresql":
        return []
    return [pid for pid, _ in session.execute(END_STALLED, {"seconds": database.IDLE_TIMEOUT_S})]
