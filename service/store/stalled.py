"""Ends transactions that hold locks while their process does not continue them.

A process can be stopped, or its machine unplugged, in the middle of a transaction. PostgreSQL ends such a transaction
after `IDLE_TIMEOUT_S`, but only between two commands: not in the middle of a batch of them, nor while it sends an
answer. So the other processes look for such transactions. A user of PostgreSQL may end its own sessions, so this needs
no other privilege.

Sessions of a stopped process that wait for a lock are ended as well. They would get it when another session is ended,
and then keep it for as long again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from service.store import database, lease

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# A session with a transaction id has written or locked rows. Another one can only block changes of tables: it is ended
# if a session waits for it.
END_STALLED = text(
    """
    WITH
    open AS (
        SELECT *, application_name <> current_setting('application_name') AS elsewhere FROM pg_stat_activity
        WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid()
        AND starts_with(application_name, :service) AND xact_start IS NOT NULL
    ),
    stalled AS (
        SELECT * FROM open
        WHERE wait_event_type = 'Client' AND state_change < clock_timestamp() - make_interval(secs => :seconds)
        AND (
            backend_xid IS NOT NULL
            OR pid IN (
                SELECT unnest(pg_blocking_pids(waiting.pid)) FROM pg_stat_activity waiting
                WHERE waiting.wait_event_type = 'Lock'
            )
        )
    ),
    expired AS (
        SELECT holder FROM leases
        WHERE name = :scheduler AND renewed_at < date_part('epoch', clock_timestamp()) - :lease
    )
    SELECT pid, pg_terminate_backend(pid) FROM open
    WHERE pid IN (SELECT pid FROM stalled)
    OR elsewhere AND wait_event_type = 'Lock' AND application_name IN (SELECT application_name FROM stalled)
    OR elsewhere AND EXISTS (SELECT FROM expired WHERE strpos(holder, application_name) > 0)
    """
)


def end_stalled(session: Session) -> list[int]:
    """End transactions whose process has sent nothing for `IDLE_TIMEOUT_S`, or holds a lease that has expired.

    Returns the server's ids of their sessions. Nothing that they wrote is committed. On SQLite it does nothing: a
    writer's lock there ends with its process.
    """
    if session.get_bind().dialect.name != "postgresql":
        return []
    values = {"seconds": database.IDLE_TIMEOUT_S, "lease": lease.LEASE, "service": database.SERVICE}
    return [pid for pid, _ in session.execute(END_STALLED, values | {"scheduler": lease.SCHEDULER})]
