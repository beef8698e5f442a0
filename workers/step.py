"""One step of exact distributed SGD: local sums, reduce-scatter, the optimiser on one's own slice, all-gather."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import Clipping, Graph, Optimizer, ParameterLayout, Penalty, aligned_zeros, update_statistics
from core.arrays import BLOCK as ELEMENTWISE_BLOCK
from core.arrays import overlaps
from workers.batches import Batch
from workers.exchange import Exchange, Kind, Membership
from workers.gradients import ACTIVE, COLUMNS, CORRECT, LOSS, ShardGradients
from workers.tree import additions, complete_subtrees, split_evenly

# Slices begin at multiples of this many parameters, and squares are summed in blocks of as many, so that the sums of
# squares do not depend on who owns which slice.
BLOCK = 1024


@dataclass(frozen=True)
class StepResult:
    """Figures of one step, over the whole batch, with the parameters before the step."""

    data_loss: float
    penalty: float
    accuracy: float
    active_fraction: float
    gradient_norm: float


class DistributedStep:
    """The steps of one worker.

    `parameters` is the whole flat vector; this worker updates its slice of it and receives the others'.
    """

    def __init__(
        self,
        graph: Graph,
        layout: ParameterLayout,
        parameters: NDArray[Any],
        *,
        optimizer: Optimizer,
        penalty: Penalty | None,
        clipping: Clipping | None,
        seed: int,
        exchange: Exchange,
        membership: Membership,
        shards: int,
        batch_sizes: Collection[int],
        threads: int,
    ) -> None:
        self._optimizer, self._penalty, self._clipping = optimizer, penalty, clipping
        self._exchange = exchange
        self._rank, self._parameters, self._layout = membership.rank, parameters, layout
        self._peers = [rank for rank in range(membership.workers) if rank != membership.rank]
        self.state = {slot: aligned_zeros((layout.size,), parameters.dtype) for slot in optimizer.slots}
        self._table = np.zeros((shards, COLUMNS))
        self._owned = split_evenly(shards, membership.workers)
        self._local = ShardGradients(
            graph,
            layout,
            parameters,
            seed=seed,
            owned=self._owned[self._rank],
            shards=shards,
            batch_sizes=batch_sizes,
            threads=threads,
        )

        self._squares = np.zeros(-(-layout.size // BLOCK), parameters.dtype)
        blocks = split_evenly(len(self._squares), membership.workers)
        # A small model has fewer blocks than workers: the last ones' slices are empty.
        bounds = [min(block * BLOCK, layout.size) for block in range(len(self._squares) + 1)]
        self._slices = [slice(bounds[part.start], bounds[part.stop]) for part in blocks]
        self._square_slices = [slice(part.start, part.stop) for part in blocks]

        mine = self._slices[self._rank]
        self._scratch = aligned_zeros((min(mine.stop - mine.start, ELEMENTWISE_BLOCK),), parameters.dtype)
        # Within this worker's slice.
        self._penalized = [(start - mine.start, stop - mine.start) for start, stop in overlaps(layout.penalized, mine)]
        subtrees = [complete_subtrees(owned, shards) for owned in self._owned]
        self._additions = additions([subtree for trees in subtrees for subtree in trees], shards)
        inbox = {
            rank: [aligned_zeros((mine.stop - mine.start,), parameters.dtype) for _ in subtrees[rank]]
            for rank in self._peers
        }
        inbox[self._rank] = [total[mine] for total in self._local.sums]
        self._parts = [part for rank in sorted(inbox) for part in inbox[rank]]
        exchange.receive_into(Kind.GRADIENTS, {rank: [*inbox[rank], self._table_rows(rank)] for rank in self._peers})
        exchange.receive_into(
            Kind.PARAMETERS,
            {rank: [parameters[self._slices[rank]], self._squares[self._square_slices[rank]]] for rank in self._peers},
        )
        exchange.receive_into(Kind.NORM, {rank: [self._squares[self._square_slices[rank]]] for rank in self._peers})
        exchange.receive_into(
            Kind.STATE,
            {rank: [vector[self._slices[rank]] for vector in self.state.values()] for rank in self._peers},
        )

    def _table_rows(self, rank: int) -> NDArray[np.float64]:
        owned = self._owned[rank]
        return self._table[owned.start : owned.stop]

    @np.errstate(over="ignore", invalid="ignore")  # the trainer looks at every step's loss
    def run(self, batch: Batch, learning_rate: float, *, stop: bool) -> StepResult:
        """Train on one batch of one of the sizes; `stop` tells the others that this is the last step.

        Raises `PeerSilentError`.
        """
        self._local.compute(batch, self._table)
        penalty = self._penalty_value()
        gradient = self._reduce(batch.step, stop=stop)
        # Read before this worker answers: after that, a quick peer's next message may overwrite its rows of the table.
        figures = self._table.sum(axis=0) / len(batch.rows)
        self._update(gradient, batch, learning_rate)
        self._gather(batch.step)
        return StepResult(
            data_loss=float(figures[LOSS]),
            penalty=penalty,
            accuracy=float(figures[CORRECT]),
            active_fraction=float(figures[ACTIVE]),
            gradient_norm=self._gradient_norm(),
        )

    def _penalty_value(self) -> float:
        if self._penalty is None:
            return 0.0
        return sum(self._penalty.value(np, self._parameters[start:stop]) for start, stop in self._layout.penalized)

    def _reduce(self, step: int, *, stop: bool) -> NDArray[Any]:
        """Gradient sum over all shards, on this worker's slice."""
        for rank in self._peers:
            slices = [total[self._slices[rank]] for total in self._local.sums]
            self._exchange.send(Kind.GRADIENTS, step, rank, [*slices, self._table_rows(self._rank)], stop=stop)
        self._exchange.receive(Kind.GRADIENTS, step)
        for into, source in self._additions:
            np.add(self._parts[into], self._parts[source], out=self._parts[into])
        return self._parts[0]

    def _update(self, gradient: NDArray[Any], batch: Batch, learning_rate: float) -> None:
        mine = self._slices[self._rank]
        np.divide(gradient, gradient.dtype.type(len(batch.rows)), out=gradient)
        parameters = self._parameters[mine]
        update_statistics(np, self._layout, parameters, gradient, start=mine.start)
        if self._penalty is not None:
            for start, stop in self._penalized:
                self._penalty.add_gradient(np, parameters[start:stop], gradient[start:stop], self._scratch)
        sum_squares_by_block(gradient, self._squares[self._square_slices[self._rank]])
        if self._clipping is not None:
            self._exchange.send_to_all(Kind.NORM, batch.step, [self._squares[self._square_slices[self._rank]]])
            self._exchange.receive(Kind.NORM, batch.step)
            self._clipping.clip(np, gradient, self._gradient_norm())
        state = {slot: vector[mine] for slot, vector in self.state.items()}
        self._optimizer.update(
            np,
            parameters,
            gradient,
            state,
            self._scratch,
            learning_rate=learning_rate,
            step=batch.step,
            penalized=self._penalized,
        )

    def _gradient_norm(self) -> float:
        """Norm of the whole gradient, before it is clipped, once every worker's squares are there."""
        return math.sqrt(float(self._squares.sum(dtype=np.float64)))

    def _gather(self, step: int) -> None:
        frames = [self._parameters[self._slices[self._rank]], self._squares[self._square_slices[self._rank]]]
        self._exchange.send_to_all(Kind.PARAMETERS, step, frames)
        self._exchange.receive(Kind.PARAMETERS, step)

    def gather_state(self, step: int) -> None:
        """Bring the optimiser's whole state to every worker, as a checkpoint needs it."""
        if self.state:
            mine = self._slices[self._rank]
            self._exchange.send_to_all(Kind.STATE, step, [vector[mine] for vector in self.state.values()])
            self._exchange.receive(Kind.STATE, step)

    def close(self) -> None:
        """End the threads."""
        self._local.close()


def sum_squares_by_block(vector: NDArray[Any], out: NDArray[Any]) -> None:
    """Sum of squares of each block of `BLOCK` values; the last may be shorter. `out` has one value a block."""
    whole = vector.size // BLOCK
    blocks = vector[: whole * BLOCK].reshape(whole, BLOCK)
    np.vecdot(blocks, blocks, out=out[:whole])
    if whole < out.size:
        rest = vector[whole * BLOCK :]
        out[whole] = np.vecdot(rest, rest)
