"""Waiting for Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class StopSignal:
    """Handles SIGINT and SIGTERM from its creation on. To be used in the main thread."""

    def __init__(self) -> None:
        self._received = threading.Event()
        self._handle()

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds; return whether a signal has arrived."""
        # Connecting to Ray replaces the handlers, and may happen in a thread that cannot restore them.
        self._handle()
        return self._received.wait(seconds)

    def _handle(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        # A second signal must not interrupt the clean-up.
        self._received.set()
