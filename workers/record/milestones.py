"""Milestones: steps of a job, chosen by its length alone, after which the digest of its parameters is recorded.

Checkpoints are taken at steps that depend on time and on settings, so two runs of a job have few in common. All runs
of a job have the same milestones.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from core import ParameterLayout
from workers.record.checkpoint import Vector, params_sha256

MOST = 32


def milestone_steps(total_steps: int) -> list[int]:
    """The milestones of a job of `total_steps`, in order: at most `MOST`, evenly spaced, the last step included."""
    count = min(MOST, total_steps)
    return [-(-total_steps * number // count) for number in range(1, count + 1)]


class Milestones:
    """The digests at the milestones of a job, computed in a separate thread."""

    def __init__(self, layout: ParameterLayout, total_steps: int) -> None:
        self._layout, self._steps = layout, frozenset(milestone_steps(total_steps))
        self._digests: dict[int, str] = {}
        self._reported = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="milestones")
        self._pending: tuple[int, Future[str]] | None = None

    def restore(self, digests: Mapping[int, str]) -> None:
        """Take over the digests of earlier attempts, by step."""
        self._digests.update(digests)

    def visit(self, step: int, parameters: Vector, *, last: bool) -> None:
        """Begin the digest of a copy of the parameters after a step, if it is a milestone or the job's last step."""
        if step in self._steps or last:
            self.settle()  # so that there is one copy at a time
            self._pending = step, self._thread.submit(params_sha256, self._layout, parameters.copy())

    def settle(self) -> dict[int, str]:
        """Wait for the last digest; returns the digests of all milestones so far, by step."""
        if self._pending is not None:
            step, digest = self._pending
            self._digests[step], self._pending = digest.result(), None
        return dict(self._digests)

    def unreported(self) -> dict[int, str]:
        """Digests that are computed and were not returned before, by step."""
        if self._pending is not None and self._pending[1].done():
            self.settle()
        new = list(self._digests.items())[self._reported :]
        self._reported = len(self._digests)
        return dict(new)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
