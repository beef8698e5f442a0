"""Stopping after Ctrl-C or SIGTERM: in order if that is quick, and otherwise at once."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from service.guard import STOPPING
from service.processes import child_environment, die_with_parent, kill_descendants

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

MOST_SECONDS = 8.0  # from the signal; starting Ray, calls to a dead Ray and waiting for a lock can take minutes
GRACE = 10.0  # seconds after which the guard does the same from outside; a busy machine may be late
LOOK = 0.1  # seconds

log = logging.getLogger(__name__)


def nothing() -> None:
    """Do nothing."""


class StopSignal:
    """Handles SIGINT and SIGTERM from its creation on. To be created and used in the main thread.

    If this process still runs `MOST_SECONDS` after the signal, then whatever it does, its child processes are killed,
    `clean_up` is called, and it ends. If even that is blocked, a second process kills this one and its children soon
    after. The database and all files are as safe as after a crash.
    """

    def __init__(self, clean_up: Callable[[], None] = nothing) -> None:
        self._clean_up = clean_up
        self._received = False
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # The interpreter writes there immediately. It calls handlers only when the main thread leaves native code.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        numbers = _start_guard(reading)
        threading.Thread(target=self._watch, args=[numbers], name="stopping", daemon=True).start()
        self._handle()

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds; return whether a signal has arrived."""
        until = time.monotonic() + seconds
        while not self._received and time.monotonic() < until:
            # Connecting to Ray replaces the handlers, and may happen in a thread that cannot restore them.
            self._handle()
            time.sleep(LOOK)
        return self._received

    def _handle(self) -> None:
        for number in STOPPING:
            signal.signal(number, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        # A second signal must not interrupt the clean-up.
        self._received = True

    def _watch(self, numbers: int) -> None:
        while (number := os.read(numbers, 1)) and number[0] not in STOPPING:
            pass
        if not number:
            return  # the guard has ended, as at the end of this process
        self._received = True
        signal.alarm(0)  # Ray's handler, if it was called, would abort this process after three seconds
        time.sleep(MOST_SECONDS)
        log.warning("stopping took more than %g s; everything that still runs is killed", MOST_SECONDS)
        try:
            kill_descendants()
            self._clean_up()
        finally:
            os._exit(0)


def _start_guard(reading: int) -> int:
    """Start a `service.guard`, which reads the numbers of signals there; returns from where they are read then."""
    numbers, writing = os.pipe()
    guard = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "service.guard", str(MOST_SECONDS + GRACE)],
        stdin=reading,
        stdout=writing,
        env=child_environment(),
        start_new_session=True,  # Ctrl-C is for this process only
        preexec_fn=die_with_parent,  # noqa: PLW1509  takes no lock that another thread could hold
    )
    os.close(reading)
    os.close(writing)

    def end() -> None:
        guard.kill()
        guard.wait()

    atexit.register(end)
    return numbers
