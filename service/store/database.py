"""Connections and transactions."""

from __future__ import annotations

import json
import secrets
import sqlite3
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFreeError
from sqlalchemy.orm import Session

from service.ownership import check_sqlite
from service.store.turns import Turns
from service.store.types import WrittenJson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

LOCK_TIMEOUT_S = 30  # longest wait for another's lock
IDLE_TIMEOUT_S = 10  # after which a writer that sends nothing loses its transaction
# Open connections of each database object of a process; there are three (see `Database.beside`), one of which needs
# only one connection. Opening one costs more than most transactions, and a server accepts 100.
CONNECTIONS = 10
IMMEDIATE = "gradfleet_immediate"
SERVICE = "gradfleet-"  # beginning of the names of the service's processes in PostgreSQL
DISK_FULL = "53100"  # of PostgreSQL's errors
# A server whose machine is down is detected within seconds; TCP's default is a quarter of an hour.
TIMEOUTS = {"connect_timeout": 10, "tcp_user_timeout": 10_000}
TIMEOUTS |= {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
# The server detects a lost client likewise: the locks of a machine that is down are released.
SERVER_TIMEOUTS = {
    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
    "tcp_user_timeout": "10s",
    "tcp_keepalives_idle": "5s",
    "tcp_keepalives_interval": "2s",
    "tcp_keepalives_count": "3",
}


class Transactions(Protocol):
    """The two kinds of transaction, of a database or of a fenced one."""

    def reading(self) -> AbstractContextManager[Session]:
        """Session on a snapshot; changes are never written."""

    def writing(self) -> AbstractContextManager[Session]:
        """Session whose changes are committed atomically."""


class Database:
    """A database and its two kinds of transaction.

    `with database.reading() as session` sees one consistent snapshot and never waits for a writer.
    `with database.writing() as session` commits when the block ends and rolls back when it raises. On SQLite no other
    transaction is written meanwhile, so whatever takes time belongs before the block. `name` is that of the process;
    PostgreSQL shows it as the `application_name` of each connection.
    """

    def __init__(self, url: str, name: str | None = None, turns: Turns | None = None) -> None:
        self._url, self.name = url, name or unique_name()
        self.engine = make_engine(url, self.name)
        self._turns = turns or (Turns() if self.engine.dialect.name == "sqlite" else None)
        self._beside: list[Database] = []
        self._writer = self.engine.execution_options(**{IMMEDIATE: True})
        self._reader = self.engine
        if self.engine.dialect.name == "postgresql":
            # By default each statement sees what was committed before it.
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Session on a snapshot; changes are never written."""
        with Session(self._reader, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self, *, first: bool = False) -> Iterator[Session]:
        """Session whose changes are committed atomically. With `first`, no other waiting writer has its turn before."""
        turn = nullcontext() if self._turns is None else self._turns.take(LOCK_TIMEOUT_S, first=first)
        with turn, Session(self._writer) as session, session.begin():
            yield session

    def beside(self) -> Database:
        """The same database with connections of its own, for work that must not wait for others to give theirs back."""
        self._beside.append(Database(self._url, self.name, self._turns))
        return self._beside[-1]

    def close(self) -> None:
        """Close every pooled connection, also those of the databases beside this one."""
        for beside in self._beside:
            beside.close()
        self.engine.dispose()


def unique_name() -> str:
    """A name under which PostgreSQL lists the connections of one process."""
    return f"{SERVICE}{secrets.token_hex(8)}"


def is_unavailable(error: SQLAlchemyError) -> bool:
    """Whether an error means that the database could not be reached, was busy for too long, or disconnected."""
    disconnected = isinstance(error, DBAPIError) and error.connection_invalidated
    return disconnected or isinstance(error, OperationalError | InterfaceError | NoConnectionFreeError)


def is_full(error: BaseException | None) -> bool:
    """Whether an error means that there is no space left on the disk of the database."""
    if error is None:
        return False
    cause = getattr(error, "orig", None)
    numbers = {getattr(cause, "sqlite_errorcode", None), getattr(cause, "sqlstate", None)}
    # SQLite then ends the transaction, so that returning to a savepoint in it fails, too.
    return bool(numbers & {sqlite3.SQLITE_FULL, DISK_FULL}) or is_full(error.__context__)


def make_engine(url: str, name: str) -> Engine:
    """Engine for `url`, whose connections have this `application_name`; the default driver of PostgreSQL is psycopg.

    SQLite uses write-ahead logging, foreign keys and explicit transactions. Raises ForeignFileError for SQLite files
    that another account can change, or that are links.
    """
    location = make_url(url)
    if location.drivername == "postgresql":
        location = location.set(drivername="postgresql+psycopg")
    if location.get_backend_name() == "sqlite":
        if location.database and location.database != ":memory:":
            check_sqlite(Path(location.database))
        engine = create_engine(location, connect_args={"timeout": LOCK_TIMEOUT_S}, json_serializer=_json)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        location,
        pool_pre_ping=True,
        pool_size=CONNECTIONS,
        max_overflow=0,
        connect_args=TIMEOUTS | {"application_name": name},
        json_serializer=_json,
    )
    event.listen(engine, "connect", _set_up_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _json(value: Any) -> str:
    return value if isinstance(value, WrittenJson) else json.dumps(value)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver sends BEGIN only before the first write: a transaction that has read could then fail to write.
    connection.isolation_level = None
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()
    except BaseException:
        connection.close()  # the pool does not: it has not accepted it
        raise


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock when it begins, and waits for it, so that no transaction fails halfway.
    immediate = connection.get_execution_options().get(IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _set_up_postgresql(connection: Any, _record: object) -> None:
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in SERVER_TIMEOUTS.items())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {settings}")
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    # A writer that is stopped, or whose machine is down, must not keep its locks; see also `end_stalled`.
    if connection.get_execution_options().get(IMMEDIATE, False):
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s'")
