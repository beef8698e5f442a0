"""One step of exact distributed SGD: local sums, reduce-scatter, the optimiser on one's own slice, all-gather."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from core import Clipping, Graph, Optimizer, ParameterLayout, Penalty
from workers.data.rows import Batch
from workers.exchange.partition import Partition
from workers.exchange.sharing import Sharing
from workers.exchange.tree import additions
from workers.exchange.vectors import ACTIVE, CORRECT, LOSS, Vector, Vectors
from workers.exchange.zeromq import LEADER, Exchange, Kind, Membership, Order
from workers.machine.device import HOST, Device
from workers.machine.threads import Threads
from workers.training.gradients import ShardGradients
from workers.training.update import SliceUpdate


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
        membership: Membership,
        shards: int,
        batch_sizes: Collection[int],
        threads: int,
        device: Device = HOST,
    ) -> None:
        self._layout, self._penalty, self._clipping = layout, penalty, clipping
        self._exchange, self._rank = exchange, membership.rank
        self._threads = Threads(threads)
        partition = Partition(shards, layout.size, membership.workers)
        sharing = exchange.meet()
        vectors = Vectors(self._rank, partition, layout, optimizer, initial, sharing, device)
        self.parameters, self.state = vectors.parameters, vectors.state
        self._table, self._squares = vectors.table, vectors.squares
        self._local = ShardGradients(
            graph,
            layout,
            self.parameters,
            seed=seed,
            subtrees=partition.subtrees[self._rank],
            sums=vectors.sums,
            table=vectors.table[partition.rows[self._rank]],
            shards=shards,
            batch_sizes=batch_sizes,
            threads=self._threads,
            device=device,
        )
        operands = [operand for of_worker in vectors.operands for operand in of_worker]
        roots = [subtree for subtrees in partition.subtrees for subtree in subtrees]
        tree = [(operands[into], operands[source]) for into, source in additions(roots, shards)]
        # Others want whole sums. Where there are none, the last additions are made along with the update.
        self._joins = membership.workers > 1
        self._update = SliceUpdate(
            layout,
            partition.parameters[self._rank],
            additions=tree if self._joins else self._local.additions,
            gradient=operands[0],
            parameters=self.parameters,
            state=self.state,
            squares=self._squares,
            optimizer=optimizer,
            penalty=penalty,
            threads=self._threads,
        )
        self.exchange_seconds = 0.0
        self._outgoing: dict[Kind, dict[int, list[Vector]]] = {}
        self._name_buffers(partition, vectors, sharing)
        # A quick peer's first gradients must not come before there is a place for them.
        exchange.send_to_all(Kind.READY, 0, [])
        exchange.receive(Kind.READY, 0)

    def _name_buffers(self, partition: Partition, vectors: Vectors, sharing: Sharing) -> None:
        """Name what is sent to whom and where it goes: nothing where memory is shared, but the message itself."""
        squares = self._squares, partition.squares
        alike: dict[Kind, list[tuple[Vector, list[slice]]]] = {
            Kind.GRADIENTS: [(self._table, partition.rows)],
            Kind.NORM: [squares],
            Kind.PARAMETERS: [(self.parameters, partition.parameters), squares],
            Kind.STATE: [(vector, partition.parameters) for vector in self.state.values()],
        }
        rank, peers = self._rank, [peer for peer in range(len(partition.rows)) if peer != self._rank]
        for kind, told in alike.items():
            outgoing: dict[int, list[Vector]] = {peer: [] for peer in peers}
            incoming: dict[int, list[Vector]] = {peer: [] for peer in peers}
            for peer in peers:
                if kind is Kind.GRADIENTS and not sharing.reads(peer, rank):
                    outgoing[peer] += [total[partition.parameters[peer]] for total in vectors.sums]
                if kind is Kind.GRADIENTS and not sharing.reads(rank, peer):
                    incoming[peer] += vectors.operands[peer]
                if sharing.home(peer) != sharing.home(rank):
                    outgoing[peer] += [vector[owned[rank]] for vector, owned in told]
                    incoming[peer] += [vector[owned[peer]] for vector, owned in told]
            self._outgoing[kind] = outgoing
            self._exchange.receive_into(kind, incoming)

    @np.errstate(over="ignore", invalid="ignore")  # the trainer looks at every step's loss
    def run(self, batch: Batch, learning_rate: float, *, order: Order) -> StepResult:
        """Train on one batch of one of the sizes. The leader's `order` is in every worker's result of the step.

        Raises `PeerSilentError`.
        """
        rows = len(batch.rows)
        self._local.compute(batch)
        if self._joins:
            self._local.join()
        # Read before this worker's message: after that, a quick peer may move its slice of shared parameters.
        penalty = self._penalty_value()
        agreed = self._timed_exchange(Kind.GRADIENTS, batch.step, order)
        # Read before this worker answers: after that, a quick peer's next message may overwrite its rows of the table.
        figures = self._table.sum(axis=0) / rows
        if self._clipping is None:
            self._update.sum_and_move(rows, learning_rate, batch.step)
        else:
            self._update.sum(rows)
            self._timed_exchange(Kind.NORM, batch.step)
            self._update.clip_and_move(self._clipping, self._gradient_norm(), learning_rate, batch.step)
        self._timed_exchange(Kind.PARAMETERS, batch.step)
        return StepResult(
            data_loss=float(figures[LOSS]),
            penalty=penalty,
            accuracy=float(figures[CORRECT]),
            active_fraction=float(figures[ACTIVE]),
            gradient_norm=self._gradient_norm(),
            order=order if self._rank == LEADER else agreed,
        )

    def _timed_exchange(self, kind: Kind, step: int, order: Order = Order.NONE) -> Order:
        if not self._joins:
            return Order.NONE  # there is nobody else
        began = time.perf_counter()
        agreed = self._exchange_all(kind, step, order)
        self.exchange_seconds += time.perf_counter() - began
        return agreed

    def _exchange_all(self, kind: Kind, step: int, order: Order = Order.NONE) -> Order:
        for rank, buffers in self._outgoing[kind].items():
            self._exchange.send(kind, step, rank, buffers, order=order)
        return self._exchange.receive(kind, step)

    def _penalty_value(self) -> float:
        if self._penalty is None:
            return 0.0
        return sum(self._penalty.value(np, self.parameters[start:stop]) for start, stop in self._layout.penalized)

    def _gradient_norm(self) -> float:
        """Norm of the whole gradient, before it is clipped, once every worker's squares are there."""
        return math.sqrt(float(self._squares.sum(dtype=np.float64)))

    def gather_state(self, step: int) -> None:
        """Bring the optimiser's whole state to every worker, as a checkpoint needs it."""
        if self.state:
            self._exchange_all(Kind.STATE, step)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()
