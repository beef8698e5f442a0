"""When checkpoints are due, and the thread that writes them during training."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from core import ParameterLayout
from workers.job.spec import CheckpointsSpec
from workers.machine.error_text import text_of
from workers.record.checkpoint import Origin, Snapshot, prune, state_sha256, write_checkpoint
from workers.record.events import Checkpointed, Event, Noted
from workers.record.history import Table
from workers.record.history_files import append_history

PATIENCE = 300.0  # seconds for which writing the last checkpoint is retried
RETRY_WAIT = 1.0  # seconds


class DueDates:
    """Decides after which steps a checkpoint is due; the clock starts when it is created."""

    def __init__(self, spec: CheckpointsSpec, steps_per_epoch: int) -> None:
        self._seconds = spec.every_seconds
        steps = (spec.every_steps, spec.every_epochs and spec.every_epochs * steps_per_epoch)
        self._every = [every for every in steps if every]
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after this step; if so, the interval in seconds starts again."""
        due = any(step % every == 0 for every in self._every)
        if self._seconds is not None and time.monotonic() - self._last >= self._seconds:
            due = True
        if due:
            self._last = time.monotonic()
        return due


class CheckpointWriter:
    """Writes the history and the checkpoints of one job in a separate thread, one after another."""

    def __init__(
        self, directory: Path, origin: Origin, layout: ParameterLayout, *, keep: int, report: Callable[[Event], None]
    ) -> None:
        self._directory, self._origin, self._layout, self._keep = directory, origin, layout, keep
        self._report = report
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[bool] | None = None
        self._unwritten: list[Table] = []

    def write(self, snapshot: Snapshot, history: Table) -> None:
        """Start writing a checkpoint once the previous one is written; a failure is reported and training continues."""
        self._wait()
        self._unwritten.append(history)
        self._pending = self._thread.submit(self._try_to_write, snapshot)

    def write_last(self, snapshot: Snapshot, history: Table) -> None:
        """Write a checkpoint that must not be lost; raises OSError if writing fails for `PATIENCE` seconds."""
        self._wait()
        self._unwritten.append(history)
        deadline = time.monotonic() + PATIENCE
        if self._try_to_write(snapshot):
            return
        while True:
            time.sleep(RETRY_WAIT)
            try:
                self._write(snapshot)
            except OSError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def _try_to_write(self, snapshot: Snapshot) -> bool:
        try:
            self._write(snapshot)
        except OSError as error:
            self._report(Noted("checkpoint_failed", {"step": snapshot.step, "message": text_of(error)}))
            return False
        return True

    def _write(self, snapshot: Snapshot) -> None:
        # The points first: an attempt that continues from the checkpoint does not compute them again.
        while self._unwritten:
            append_history(self._directory, self._unwritten[0])
            del self._unwritten[0]
        digest = write_checkpoint(self._directory, self._origin, self._layout, snapshot)
        prune(self._directory, self._keep)
        self._report(Checkpointed(snapshot.step, digest, state_sha256(self._layout, snapshot)))

    def _wait(self) -> None:
        pending, self._pending = self._pending, None  # so that its error is raised only once
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait until everything is written, and end the thread."""
        self._thread.shutdown()
        self._wait()
