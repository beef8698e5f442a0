"""Tasks in processes of their own, as the service runs them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from service.datasets.files.places import PlaceError
from service.datasets.tasks.serving import OUT_OF_MEMORY
from service.processes import SAFE_PATH, child_environment, time_limit
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from service.errors import ServiceError
    from service.settings import Settings

logger = logging.getLogger(__name__)

# The environment has passwords and keys of object stores; of these variables none is secret.
PASSED = ("LANG", "LC_ALL", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "TMPDIR")
# One thread, and an allocator that gives memory back: both keep the memory needed far below the limit.
FRUGAL = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
LARGEST_ANSWER = 256 * 1024 * 1024
SECONDS_TO_END = 10
# What the kernel sends for its own limit of memory, and C++ for an allocation that failed.
NO_MEMORY = {OUT_OF_MEMORY, -signal.SIGKILL, -signal.SIGABRT}


class TaskRunner:
    """Runs tasks, one after the other, until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._memory_bytes = settings.max_registration_memory_bytes
        self._seconds = settings.max_registration_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: ServiceError | None = None

    def run(self, task: str, what: str, arguments: dict[str, Any], *, with_credentials: bool = False) -> Any:
        """The result of a task, as JSON; `what` names the files that it reads.

        Only `with_credentials` the process has the environment in which object stores find theirs. Raises DatasetError
        if the files cannot be read within the limits, and the error given to `stop`.
        """
        environment = child_environment() if with_credentials else _bare_environment()
        limits = {"memory_bytes": self._memory_bytes, "seconds": self._seconds}
        request = json.dumps({"what": what, "arguments": arguments, **limits})
        process = self._start(task, environment | FRUGAL)
        with time_limit(process, self._seconds) as expired:
            try:
                answer = _exchange(process, request.encode())
            finally:
                process.kill()
                process.wait()
        if self._stopped is not None:
            raise self._stopped
        if expired.is_set() or process.returncode == -signal.SIGXCPU:
            raise DatasetError(
                f"{what} takes more than {self._seconds:g} seconds to read, the limit of this service (its setting "
                "max_registration_seconds)"
            )
        if process.returncode in NO_MEMORY:
            raise DatasetError(
                f"{what} needs more than {self._memory_bytes} bytes of memory to be read, the limit of this service "
                "(its setting max_registration_memory_bytes)"
            )
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            logger.error("reading %s ended the process of the task %r with %s", what, task, name)
            raise DatasetError(f"{what} cannot be read: it is damaged, or was changed meanwhile ({name})")
        if process.returncode:
            raise RuntimeError(f"the process of the task {task!r} failed; its error is in the log")
        return result_of(json.loads(answer), what)

    def stop(self, error: ServiceError) -> None:
        """End the task that is running; it and all further ones raise `error`. Returns immediately, on any thread."""
        with self._lock:
            self._stopped = self._stopped or error
            if self._process is not None:
                self._process.kill()

    def _start(self, task: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped is not None:
                raise self._stopped
            self._process = subprocess.Popen(  # noqa: S603 - the caller names the task, not a request
                [sys.executable, "-m", f"service.datasets.tasks.{task}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the service, which then stops this
            )
            return self._process


def _bare_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED if name in os.environ} | SAFE_PATH


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    with process.stdout:
        with suppress(BrokenPipeError), process.stdin:  # it may have ended
            process.stdin.write(request)
        answer = process.stdout.read(LARGEST_ANSWER + 1)
    if len(answer) > LARGEST_ANSWER:
        raise RuntimeError(f"the process of a task answered more than {LARGEST_ANSWER} bytes")
    # It writes its answer as the last thing, and is killed only if it should not end.
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    return answer


def result_of(answer: dict[str, Any], what: str) -> Any:
    """The result in the answer of a task. Raises DatasetError, and OSError for an error of the machine."""
    if "result" in answer:
        return answer["result"]
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    if "traceback" in answer:
        logger.error("%s cannot be read; the file or this program is wrong:\n%s", what, answer["traceback"])
    if answer["field"] is not None:
        raise PlaceError(answer["field"], answer["problem"])
    raise DatasetError(answer["problem"])
