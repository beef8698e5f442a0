"""How this process starts others."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from typing import TextIO

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# A child does not import modules from the directory that it is started in.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


def child_environment() -> dict[str, str]:
    """This process's environment without the service's settings, which include passwords and tokens."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GRADFLEET_")} | SAFE_PATH


def die_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent ends (Linux); for `preexec_fn`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_descendants() -> None:
    """Kill all processes that this one has started, and those that they have started (Linux)."""
    if sys.platform != "linux":
        return
    # Those whose parent ends become children of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    while children := children_of("self"):
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with suppress(ChildProcessError):  # another thread has waited for it
                os.waitpid(child, 0)


def children_of(process: int | Literal["self"]) -> list[int]:
    """The processes that a process has started (Linux); none if it has ended."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


@contextmanager
def time_limit(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kill a process after so many seconds. The event is then set."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, expire)
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()


def file_for_answers() -> TextIO:
    """This process's standard output, as a file; what libraries print goes to the standard error from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers
