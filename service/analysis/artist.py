"""Has the pictures of jobs drawn by a process of their own, one job after another."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from service.processes import child_environment, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DIRECTORY, FAILURES = "pictures", "failures.json"  # in a job's directory, and in that one
COMPARISON = "comparison.png"  # a sweep's only one
MOST_SECONDS = 60.0  # for one job, or one sweep
LONGEST_ANSWER = 4096
COMMAND = (sys.executable, "-m", "service.analysis.draw")


class DrawingError(RuntimeError):
    """No pictures of a job; `code` says why: TIMEOUT, or CRASHED."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Request:
    """A job to be drawn: see `service.analysis.pictures.Subject`."""

    job: str
    name: str
    directory: str
    spec: Mapping[str, Any]
    dataset: Mapping[str, Any]

    @property
    def answer(self) -> dict[str, str]:
        """What the process says once it is drawn."""
        return {"job": self.job}


@dataclass(frozen=True)
class MemberRequest:
    """A job of a sweep: see `service.analysis.sweep_picture.Member`."""

    subject: Request
    overrides: Mapping[str, Any]
    accuracy: float


@dataclass(frozen=True)
class SweepRequest:
    """A sweep to be drawn into a directory, from those of its jobs that have succeeded."""

    sweep: str
    name: str
    directory: str
    members: Sequence[MemberRequest]

    @property
    def answer(self) -> dict[str, str]:
        """What the process says once it is drawn."""
        return {"sweep": self.sweep}


class Artist:
    """A process that draws, started when it is first needed and again when it has ended; no caller waits for it."""

    def __init__(self, log: Path, command: Sequence[str] = COMMAND, most_seconds: float = MOST_SECONDS) -> None:
        self._log, self._command, self._most_seconds = log, command, most_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    def draw(self, request: Request | SweepRequest) -> Future[None]:
        """Have a job or a sweep drawn into `pictures` below its directory; the future raises DrawingError if not."""
        return self._thread.submit(self._draw, request)

    def close(self) -> None:
        """End the process, whatever it does; what waits to be drawn is not."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        if self._process is not None:
            self._forget(self._process)

    def _draw(self, request: Request | SweepRequest) -> None:
        process = self._running()
        to, answers = _pipes(process)
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(self._most_seconds, expire)
        timer.start()
        try:
            to.write(json.dumps(asdict(request)).encode() + b"\n")
            to.flush()
            answer = answers.readline(LONGEST_ANSWER)
        except OSError:
            answer = b""
        finally:
            timer.cancel()
            timer.join()
        if answer != json.dumps(request.answer).encode() + b"\n":
            process.kill()
            self._forget(process)
            if expired.is_set():
                raise DrawingError("TIMEOUT", f"drawing took more than {self._most_seconds:g} s")
            raise DrawingError("CRASHED", f"the process that draws ended, or said {answer!r}; see {self._log.name}")
        if expired.is_set():
            self._forget(process)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise DrawingError("CLOSED", "nothing is drawn any more")
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
                start_new_session=True,  # Ctrl-C is for this process, which then stops it
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it ends with the thread that started it
            )

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        for pipe in _pipes(process):
            with contextlib.suppress(OSError):  # what it did not read is lost with it
                pipe.close()
        self._process = None


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
