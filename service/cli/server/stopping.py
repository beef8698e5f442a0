"""Stopping after Ctrl-C or SIGTERM: in order if that is quick, and otherwise at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from service.processes import kill_descendants

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MOST_SECONDS = 8.0  # from the signal; starting Ray, calls to a dead Ray and waiting for a lock can take minutes
LOOK = 0.1  # seconds

log = logging.getLogger(__name__)


def nothing() -> None:
    """Do nothing."""


class StopSignal:
    """Handles SIGINT and SIGTERM from its creation on. To be created and used in the main thread.

    If this process still runs `MOST_SECONDS` after the signal, then whatever it does, its child processes are killed,
    `clean_up` is called, and it ends. The database and all files are as safe as after a crash.
    """

    def __init__(self, clean_up: Callable[[], None] = nothing) -> None:
        self._clean_up = clean_up
        self._received = False
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # The interpreter writes there immediately. It calls handlers only when the main thread leaves native code.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=[reading], name="stopping", daemon=True).start()
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
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        # A second signal must not interrupt the clean-up.
        self._received = True

    def _watch(self, numbers: int) -> None:
        while os.read(numbers, 1)[0] not in SIGNALS:
            pass
        self._received = True
        signal.alarm(0)  # Ray's handler, if it was called, would abort this process after three seconds
        time.sleep(MOST_SECONDS)
        log.warning("stopping took more than %g s; everything that still runs is killed", MOST_SECONDS)
        try:
            kill_descendants()
            self._clean_up()
        finally:
            os._exit(0)
