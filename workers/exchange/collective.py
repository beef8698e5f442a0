"""The collective operations of a step: reduce-scatter of gradient sums, all-gather of what each worker has updated.

Another transport, such as NCCL's grouped send and receive, is another class with these members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from workers.exchange.vectors import Addition, Table, Vector


class Collective(Protocol):
    """The vectors of one worker's step, and the operations that bring them from worker to worker.

    All workers call the same operations in the same order. Each raises `PeerSilentError` when a peer stays silent.
    """

    @property
    def parameters(self) -> Vector:
        """All parameters. A worker changes its own slice."""

    @property
    def state(self) -> Mapping[str, Vector]:
        """The optimiser's state by slot, as long as the parameters. A worker changes its own slice."""

    @property
    def squares(self) -> Vector:
        """Sums of the squares of the gradient by segment. A worker fills in its own segments."""

    @property
    def table(self) -> Table:
        """Figures of all shards (shards, columns). A worker fills in the rows of its own shards."""

    @property
    def sums(self) -> Sequence[Vector]:
        """The worker's gradient sums over each of its complete subtrees, which it computes before `reduce_scatter`."""

    @property
    def gradient(self) -> Vector:
        """The worker's slice of the sum over all shards, once `additions` are made after `reduce_scatter`."""

    @property
    def additions(self) -> Sequence[Addition]:
        """The additions of the canonical tree, in order, on the worker's slice.

        They are left to the caller, which makes them block by block along with the update, while a block is in the
        cache.
        """

    def reduce_scatter(self, step: int, note: int = 0) -> int:
        """Bring all workers' gradient sums on a slice to the worker that owns it. The caller makes the additions.

        The table's rows and a note, a byte, go along, so that commands need no messages of their own: afterwards every
        worker has the whole table. Returns the leader's note.
        """

    def gather_squares(self, step: int) -> None:
        """Bring every worker's squares to all."""

    def gather_parameters(self, step: int) -> None:
        """Bring every worker's slice of the parameters, and its squares, to all."""

    def gather_state(self, step: int) -> None:
        """Bring every worker's slice of the optimiser's state to all."""
