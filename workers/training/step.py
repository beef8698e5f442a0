"""One step of exact distributed SGD: local sums, reduce-scatter, the optimiser on one's own slice, all-gather."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from workers.data.rows import Batch
from workers.exchange.collective import Collective
from workers.exchange.control import Command, wait_until_ready
from workers.exchange.partition import Partition
from workers.exchange.peers import PeerCollective
from workers.exchange.vectors import ACTIVE, LOSS
from workers.job.computation import Computation
from workers.training.gradients import ShardGradients
from workers.training.runtime import Runtime
from workers.training.update import SliceUpdate

T = TypeVar("T")


@dataclass(frozen=True)
class StepResult:
    """Figures of one step, over the whole batch, with the parameters before the step; and the leader's command.

    `sums` are the columns of the table of shards, combined over all of them.
    """

    rows: int
    sums: tuple[float, ...]
    penalty: float
    gradient_norm: float
    command: Command

    @property
    def data_loss(self) -> float:
        """The mean loss of the batch."""
        return self.sums[LOSS] / self.rows

    @property
    def active_fraction(self) -> float:
        """The share of samples whose loss has a gradient."""
        return self.sums[ACTIVE] / self.rows

    @property
    def loss(self) -> float:
        """What training minimises: the data's loss and the penalty."""
        return self.data_loss + self.penalty


class DistributedStep:
    """The steps of one worker, from the computation's initial parameters on.

    `parameters`, the whole flat vector, and the optimiser's `state` by slot may lie in memory that workers share: from
    the first step on, only this class changes them. Before it, all workers may set them to the same values.
    `exchange_seconds` is the time that all steps so far took to send to other workers and to wait for their messages.
    Raises `PeerSilentError`.
    """

    def __init__(self, computation: Computation, runtime: Runtime) -> None:
        self._computation = computation
        membership = runtime.exchange.membership
        partition = Partition(computation.shards, computation.layout.size, membership.workers)
        self._tallies = computation.training_tallies
        self._collective: Collective = PeerCollective(
            runtime.exchange,
            partition,
            computation.initial_parameters(),
            computation.optimizer.slots,
            self._tallies.stop,
            runtime.device,
        )
        self.parameters, self.state = self._collective.parameters, self._collective.state
        rows = partition.rows[membership.rank]
        self._local = ShardGradients(
            computation,
            range(rows.start, rows.stop),
            parameters=self.parameters,
            sums=self._collective.sums,
            table=self._collective.table[rows],
            threads=runtime.threads,
            arenas=runtime.arenas,
        )
        # Other workers need whole sums. Without any, the last additions are made along with the update.
        self._joins = membership.workers > 1
        self._update = SliceUpdate(
            computation,
            partition.parameters[membership.rank],
            self._collective,
            self._collective.additions if self._joins else self._local.additions,
            runtime.threads,
        )
        self.exchange_seconds = 0.0
        # A fast peer's first message must not arrive before its buffers are declared, nor wait while plans are made.
        wait_until_ready(runtime.exchange)

    @np.errstate(over="ignore", invalid="ignore")  # the trainer checks every step's loss
    def run(self, batch: Batch, learning_rate: float, *, command: Command) -> StepResult:
        """Train on one batch of one of the sizes. The leader's `command` is in every worker's result of the step.

        Raises `PeerSilentError`.
        """
        rows, clipping = len(batch.rows), self._computation.clipping
        self._local.compute(batch)
        if self._joins:
            self._local.join()
        # Read before this worker's message: after it, a quick peer may change its slice of shared parameters.
        penalty = self._penalty_value()
        agreed = self._timed(lambda: self._collective.reduce_scatter(batch.step, command))
        # Read before this worker's next message: after it, a quick peer may overwrite its rows of the table.
        sums = tuple(self._tallies.combine(self._collective.table).tolist())
        if clipping is None:
            self._update.sum_and_move(rows, learning_rate, batch.step)
        else:
            self._update.sum(rows)
            self._timed(lambda: self._collective.gather_squares(batch.step))
            self._update.clip_and_move(clipping, self._gradient_norm(), learning_rate, batch.step)
        self._timed(lambda: self._collective.gather_parameters(batch.step))
        return StepResult(
            rows=rows,
            sums=sums,
            penalty=penalty,
            gradient_norm=self._gradient_norm(),
            command=Command(agreed),
        )

    def _timed(self, operation: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = operation()
        if self._joins:
            self.exchange_seconds += time.perf_counter() - began
        return result

    def _penalty_value(self) -> float:
        penalty = self._computation.penalty
        if penalty is None:
            return 0.0
        layout = self._computation.layout
        return sum(
            decay * penalty.value(np, self.parameters[start:stop])
            for (start, stop), decay in zip(layout.penalized, layout.decays, strict=True)
        )

    def _gradient_norm(self) -> float:
        """Norm of the whole gradient, before it is clipped, once every worker's squares are there."""
        return math.sqrt(float(self._collective.squares.sum(dtype=np.float64)))

    def gather_state(self, step: int) -> None:
        """Bring the optimiser's whole state to every worker, as a checkpoint needs it."""
        if self.state:
            self._collective.gather_state(step)
