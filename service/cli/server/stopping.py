"""Commands that run until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class StopSignal:
    """Hears SIGINT and SIGTERM from its making on; for the main thread."""

    def __init__(self) -> None:
        self._heard = threading.Event()
        self._handle()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether a signal has come."""
        # A Ray that was connected to meanwhile has put its own handlers in place, in a thread that cannot restore any.
        self._handle()
        return self._heard.wait(seconds)

    def _handle(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        # A second signal must not break off the clean-up half-way.
        self._heard.set()
