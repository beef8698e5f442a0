"""Connections and transactions: the one place that begins and commits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_TIMEOUT_S = 30
IMMEDIATE = "gradfleet_immediate"


class Database:
    """A database and its two kinds of transaction.

    `with database.reading() as session` sees one consistent snapshot and never waits for a writer.
    `with database.writing() as session` commits when the block ends and rolls back when it raises.
    """

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._writer = self.engine.execution_options(**{IMMEDIATE: True})

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Session on a snapshot; what is changed in it is never written."""
        with Session(self.engine, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Session whose changes are committed together, or not at all."""
        with Session(self._writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def make_engine(url: str) -> Engine:
    """Engine for `url`; SQLite gets write-ahead logging, foreign keys and transactions that begin when they say so."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_TIMEOUT_S})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes late, before the first write: a transaction that has read could then fail to write.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once and waits its turn there, so no transaction ever fails half-way for being second.
    immediate = connection.get_execution_options().get(IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
