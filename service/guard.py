"""Ends the process that has started this one if it does not end by itself after a signal to stop.

Usage: python -m service.guard SECONDS. The numbers of signals come from standard input and go on to standard output.

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
    """Wait for a signal to stop, and then so many seconds. The kernel ends this process when the other one ends."""
    guarded, seconds = os.getppid(), float(sys.argv[1])
    while number := os.read(0, 1):
        os.write(1, number)
        if number[0] in STOPPING:
            break
    else:
        return
    time.sleep(seconds)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which the kernel sends when the process is killed
    _kill(guarded)


def _kill(process: int) -> None:
    """Kill a process and all that it has started. All are stopped first, so that they start no more."""
    stopped: set[int] = set()
    found = {process}
    while new := found - stopped:
        _send(signal.SIGSTOP, new)
        stopped |= new
        found = {child for each in stopped for child in children_of(each)} - {os.getpid()}
    _send(signal.SIGKILL, stopped)


def _send(number: int, processes: set[int]) -> None:
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, number)


if __name__ == "__main__":
    main()
