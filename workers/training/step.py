"""One step of exact distributed SGD: local sums, reduce-scatter, the optimiser on one's own slice, all-gather."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from core import Clipping, Graph, Optimizer, ParameterLayout, Penalty
from workers.data.rows import Batch
from workers.exchange.collective import Collective
from workers.exchange.control import Order
from workers.exchange.partition import Partition
from workers.exchange.peers import PeerCollective
from workers.exchange.vectors import ACTIVE, CORRECT, LOSS, Vector
from workers.exchange.zeromq import Exchange
from workers.machine.device import HOST, Device
from workers.machine.threads import Threads
from workers.training.gradients import ShardGradients
from workers.training.update import SliceUpdate

T = TypeVar("T")


@dataclass(frozen=True)
class StepResult:
    """Figures of one step, over the whole batch, with the parameters before the step; and the leader's order in it."""

    data_loss: float
    penalty: float
    accuracy: float
    active_fraction: float
    gradient_norm: float
    order: Order


class DistributedStep:
    """The steps of one worker, from the `initial` parameters on.

    `parameters`, the whole flat vector, and the optimiser's `state` by slot may lie in memory that workers share: only
    this class changes them, from the first step on. Before it, every worker may set them to what all agree on.
    `exchange_seconds` is what all steps so far took to send to other workers and to wait for what they send.
    Raises `PeerSilentError`.
    """

    def __init__(
        self,
        graph: Graph,
        layout: ParameterLayout,
        initial: Vector,
        *,
        optimizer: Optimizer,
        penalty: Penalty | None,
        clipping: Clipping | None,
        seed: int,
        exchange: Exchange,
        shards: int,
        batch_sizes: Collection[int],
        threads: int,
        device: Device = HOST,
    ) -> None:
        self._layout, self._penalty, self._clipping = layout, penalty, clipping
        self._threads = Threads(threads)
        rank, workers = exchange.membership.rank, exchange.membership.workers
        partition = Partition(shards, layout.size, workers)
        self._collective: Collective = PeerCollective(exchange, partition, initial, optimizer.slots, device)
        self.parameters, self.state = self._collective.parameters, self._collective.state
        self._local = ShardGradients(
            graph,
            layout,
            self.parameters,
            seed=seed,
            subtrees=partition.subtrees[rank],
            sums=self._collective.sums,
            table=self._collective.table[partition.rows[rank]],
            shards=shards,
            batch_sizes=batch_sizes,
            threads=self._threads,
            device=device,
        )
        # Other workers need whole sums. Without any, the last additions are made along with the update.
        self._joins = workers > 1
        self._update = SliceUpdate(
            layout,
            partition.parameters[rank],
            additions=self._collective.additions if self._joins else self._local.additions,
            gradient=self._collective.gradient,
            parameters=self.parameters,
            state=self.state,
            squares=self._collective.squares,
            optimizer=optimizer,
            penalty=penalty,
            threads=self._threads,
        )
        self.exchange_seconds = 0.0

    @np.errstate(over="ignore", invalid="ignore")  # the trainer looks at every step's loss
    def run(self, batch: Batch, learning_rate: float, *, order: Order) -> StepResult:
        """Train on one batch of one of the sizes. The leader's `order` is in every worker's result of the step.

        Raises `PeerSilentError`.
        """
        rows = len(batch.rows)
        self._local.compute(batch)
        if self._joins:
            self._local.join()
        # Read before this worker's message: after it, a quick peer may change its slice of shared parameters.
        penalty = self._penalty_value()
        agreed = self._timed(lambda: self._collective.reduce_scatter(batch.step, order))
        # Read before this worker's next message: after it, a quick peer may overwrite its rows of the table.
        figures = self._collective.table.sum(axis=0) / rows
        if self._clipping is None:
            self._update.sum_and_move(rows, learning_rate, batch.step)
        else:
            self._update.sum(rows)
            self._timed(lambda: self._collective.gather_squares(batch.step))
            self._update.clip_and_move(self._clipping, self._gradient_norm(), learning_rate, batch.step)
        self._timed(lambda: self._collective.gather_parameters(batch.step))
        return StepResult(
            data_loss=float(figures[LOSS]),
            penalty=penalty,
            accuracy=float(figures[CORRECT]),
            active_fraction=float(figures[ACTIVE]),
            gradient_norm=self._gradient_norm(),
            order=Order(agreed),
        )

    def _timed(self, operation: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = operation()
        if self._joins:
            self.exchange_seconds += time.perf_counter() - began
        return result

    def _penalty_value(self) -> float:
        if self._penalty is None:
            return 0.0
        return sum(self._penalty.value(np, self.parameters[start:stop]) for start, stop in self._layout.penalized)

    def _gradient_norm(self) -> float:
        """Norm of the whole gradient, before it is clipped, once every worker's squares are there."""
        return math.sqrt(float(self._collective.squares.sum(dtype=np.float64)))

    def gather_state(self, step: int) -> None:
        """Bring the optimiser's whole state to every worker, as a checkpoint needs it."""
        if self.state:
            self._collective.gather_state(step)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()
