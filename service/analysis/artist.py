"""Draws the figures of jobs and sweeps in a separate process, one after another."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from service.processes import child_environment, die_with_parent, time_limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DIRECTORY, FAILURES = "pictures", "failures.json"  # subdirectory of a job's directory, and a file in it
COMPARISON = "comparison.png"  # the only figure of a sweep
MOST_SECONDS = 60.0  # per job or sweep
LONGEST_ANSWER = 4096  # bytes
COMMAND = (sys.executable, "-m", "service.analysis.draw")


class DrawingError(RuntimeError):
    """The figures could not be drawn. `code` is TIMEOUT, CRASHED or CLOSED."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class JobDrawing:
    """A request to draw a job: see `service.analysis.pictures.Subject`."""

    job: str
    name: str
    directory: str
    spec: Mapping[str, Any]
    dataset: Mapping[str, Any]

    @property
    def answer(self) -> dict[str, str]:
        """The answer of the process when the request is done."""
        return {"job": self.job}


@dataclass(frozen=True)
class MemberDrawing:
    """A job of a sweep: see `service.analysis.sweep_picture.Member`."""

    subject: JobDrawing
    overrides: Mapping[str, Any]
    value: float


@dataclass(frozen=True)
class SweepDrawing:
    """A request to draw a sweep into a directory. `members` are its jobs that have succeeded and have the metric."""

    sweep: str
    name: str
    directory: str
    metric: str
    members: Sequence[MemberDrawing]

    @property
    def answer(self) -> dict[str, str]:
        """The answer of the process when the request is done."""
        return {"sweep": self.sweep}


class Artist:
    """A process that draws figures. It is started when needed, and again after it has ended. `draw` does not block."""

    def __init__(self, log: Path, command: Sequence[str] = COMMAND, most_seconds: float = MOST_SECONDS) -> None:
        self._log, self._command, self._most_seconds = log, command, most_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    def draw(self, request: JobDrawing | SweepDrawing) -> Future[None]:
        """Draw a job or sweep into `pictures` below its directory. The future raises DrawingError if this fails."""
        return self._thread.submit(self._draw, request)

    def close(self) -> None:
        """Kill the process, and cancel all requests."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        if self._process is not None:
            self._forget(self._process)

    def _draw(self, request: JobDrawing | SweepDrawing) -> None:
        process = self._running()
        to, answers = _pipes(process)
        with time_limit(process, self._most_seconds) as expired:
            try:
                to.write(json.dumps(asdict(request)).encode() + b"\n")
                to.flush()
                answer = answers.readline(LONGEST_ANSWER)
            except OSError:
                answer = b""
        if answer != json.dumps(request.answer).encode() + b"\n":
            process.kill()
            self._forget(process)
            if expired.is_set():
                raise DrawingError("TIMEOUT", f"drawing took more than {self._most_seconds:g} s")
            raise DrawingError("CRASHED", f"the drawing process ended, or answered {answer!r}; see {self._log.name}")
        if expired.is_set():
            self._forget(process)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise DrawingError("CLOSED", "the artist is closed")
            if self._process is not None and self._process.poll() is not None:
                self._forget(self._process)
            if self._process is None:
                self._process = self._start()
            return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = child_environment() | {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}
        with self._log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603
                self._command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C goes to this process only, which then stops it
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it ends with the thread that started it
            )

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        for pipe in _pipes(process):
            with contextlib.suppress(OSError):  # data that was not read
                pipe.close()
        self._process = None


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
