"""Connections and transactions: the one place that begins and commits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFreeError
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

LOCK_TIMEOUT_S = 30
IDLE_TIMEOUT_S = 10
CONNECTIONS = 20  # of each process, kept open: a new one costs more than most transactions; a server takes 100
IMMEDIATE = "gradfleet_immediate"
# A server whose machine has gone is noticed in seconds: by default TCP would try for a quarter of an hour.
PATIENCE = {"connect_timeout": 10, "tcp_user_timeout": 10_000}
PATIENCE |= {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


class Transactions(Protocol):
    """Who reads and writes, on a whole database or on one that is fenced."""

    def reading(self) -> AbstractContextManager[Session]:
        """Session on a snapshot; what is changed in it is never written."""

    def writing(self) -> AbstractContextManager[Session]:
        """Session whose changes are committed together, or not at all."""


class Database:
    """A database and its two kinds of transaction.

    `with database.reading() as session` sees one consistent snapshot and never waits for a writer.
    `with database.writing() as session` commits when the block ends and rolls back when it raises.
    """

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._writer = self.engine.execution_options(**{IMMEDIATE: True})
        self._reader = self.engine
        if self.engine.dialect.name == "postgresql":
            # By default each statement there sees what was committed meanwhile.
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Session on a snapshot; what is changed in it is never written."""
        with Session(self._reader, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Session whose changes are committed together, or not at all."""
        with Session(self._writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def does_not_answer(error: SQLAlchemyError) -> bool:
    """Whether an error says that the database could not be reached, was busy for too long, or went away meanwhile."""
    return isinstance(error, OperationalError | InterfaceError | NoConnectionFreeError)


def make_engine(url: str) -> Engine:
    """Engine for `url`; PostgreSQL's driver is psycopg where the URL names none.

    SQLite gets write-ahead logging, foreign keys and transactions that begin when they say so.
    """
    location = make_url(url)
    if location.drivername == "postgresql":
        location = location.set(drivername="postgresql+psycopg")
    if location.get_backend_name() == "sqlite":
        engine = create_engine(location, connect_args={"timeout": LOCK_TIMEOUT_S})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(location, pool_pre_ping=True, pool_size=CONNECTIONS, max_overflow=0, connect_args=PATIENCE)
    event.listen(engine, "begin", _begin_postgresql)
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


def _begin_postgresql(connection: Connection) -> None:
    # A writer that was stopped in the middle, or whose machine is gone, must not keep its locks.
    if connection.get_execution_options().get(IMMEDIATE, False):
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s'")
