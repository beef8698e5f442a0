"""A PostgreSQL server of the test run's own, on a free port of 127.0.0.1, with its own data directory."""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from service.processes import PR_SET_PDEATHSIG
from tests.service.support import free_port

START_SECONDS = 30
USER = "gradfleet"


def find_programs() -> Path | None:
    """Directory of PostgreSQL's programs: on the path, or the newest of Debian's packages; None where there is none."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    packages = Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")
    return max((program.parent for program in packages), key=lambda bin_: int(bin_.parent.name), default=None)


class PostgresServer:
    """A server that can be killed and started again; `durable` waits for the disk at each commit, as it should be.

    It ends with this process, however that ends.
    """

    def __init__(self, programs: Path, *, durable: bool) -> None:
        self._programs = programs
        self._identity = _identity()
        self._directory = Path(tempfile.mkdtemp(prefix="gradfleet-postgres-"))
        self._password = secrets.token_hex(16)
        self._databases = 0
        self.port = free_port()
        password = self._directory / "password"
        password.write_text(self._password)
        if "user" in self._identity:
            for path in (self._directory, password):
                os.chown(path, self._identity["user"], self._identity["group"])
        # A collation that sorts otherwise than bytes do: many a real server has one.
        subprocess.run(
            [
                *(programs / "initdb", "--pgdata", self._data, "--username", USER, "--pwfile", password),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
                *("--locale-provider=icu", "--icu-locale=en"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._directory,
            **self._identity,
        )
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "timezone": "Asia/Kathmandu",  # whose offset no test has by chance
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
        }
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(lines)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._directory / "log"
        self._alive, inherited = os.pipe()
        with log.open("ab") as output, os.fdopen(inherited):
            self.process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data],
                stdout=output,
                stderr=output,
                cwd=self._directory,
                pass_fds=[inherited],
                start_new_session=True,  # whatever interrupts the tests leaves it to them to stop it
                preexec_fn=_die_with_parent,  # noqa: PLW1509  it takes no lock that another thread could hold
                **self._identity,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"PostgreSQL did not start: {log.read_text()}"
            time.sleep(0.02)

    def kill(self) -> None:
        """End every process of it at once, as a machine that fails does."""
        server = self.process.pid
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # from now on it starts no more of them
        for process in Path(f"/proc/{server}/task/{server}/children").read_text().split():
            os.kill(int(process), signal.SIGKILL)
        self.process.kill()
        self._wait()

    def remove(self) -> None:
        """Stop it and remove its data."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # which waits for nobody
            self._wait()
        shutil.rmtree(self._directory)

    def _wait(self) -> None:
        """Until every process of it has ended: while one is left, its data can not be served again."""
        self.process.wait()
        with os.fdopen(self._alive, "rb") as pipe:  # each of them holds the other end
            pipe.read()

    def create_database(self, template: str = "template1") -> str:
        """Make a database and give its SQLAlchemy URL; `template` is the name of one that it begins as a copy of."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            if connection.info.server_version >= 150_000:  # before there was no other way
                statement += sql.SQL(" STRATEGY file_copy")  # half the work of a copy that goes through the log
            connection.execute(statement)
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever still uses it."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(url.rpartition("/")[2])))

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


def _identity() -> dict[str, Any]:
    """Arguments of subprocess that run it as somebody else than root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
