"""Ends the process that has started this one if it does not end by itself after a signal to stop.

Usage: python -m service.guard SECONDS GRACE. The numbers of signals come from standard input and go on to standard
output. After so many seconds the guard kills what the other process has started, since it may wait for an answer of
that, and after so many more the process itself.

It is a process of its own because a library such as Ray's can block all threads of the other one, in native code that
keeps the interpreter's lock.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from service.processes import children_of

STOPPING = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Wait for a signal to stop, and end the other process. The kernel ends this one when the other one ends."""
    guarded, seconds, grace = os.getppid(), *map(float, sys.argv[1:])
    while number := os.read(0, 1):
        os.write(1, number)
        if number[0] in STOPPING:
            break
    else:
        return
    time.sleep(seconds)
    _kill_descendants(guarded)
    time.sleep(grace)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which the kernel sends when the process is killed
    _send(signal.SIGSTOP, {guarded})
    _kill_descendants(guarded)
    _send(signal.SIGKILL, {guarded})


def _kill_descendants(process: int) -> None:
    """Kill all that a process has started, except this one. All are stopped first, so that they start no more."""
    stopped: set[int] = set()
    while new := {child for each in {process} | stopped for child in children_of(each)} - stopped - {os.getpid()}:
        _send(signal.SIGSTOP, new)
        stopped |= new
    _send(signal.SIGKILL, stopped)


def _send(number: int, processes: set[int]) -> None:
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, number)


if __name__ == "__main__":
    main()
