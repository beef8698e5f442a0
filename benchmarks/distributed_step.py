"""Our side of the distributed benchmark: a worker's step and its exchange, each process with its own end."""

import hashlib
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
from distributed_workload import SHARDS, batches, rows
from gradfleet_step import LEARNING_RATE, OPTIMIZERS, graph_of
from team import Share
from workload import Workload

from core import SGD, ParameterDeclaration, ParameterLayout, Zeros, aligned_zeros, from_spec, initialize
from workers.data.rows import Batch, Batches
from workers.exchange.partition import Partition
from workers.exchange.tree import additions
from workers.exchange.vectors import Vectors
from workers.exchange.zeromq import Exchange, Kind, Membership, Order
from workers.training.step import DistributedStep

TIMEOUT = 60.0  # seconds that a peer may be silent; while other subjects have their turn nobody waits for it


def connected(rank: int, workers: int, share: Share, key: bytes, *, memory: bool = True) -> tuple[Membership, Exchange]:
    """Return this worker's end of the exchange, connected to all others; without `memory` as if on other machines."""
    membership = Membership(rank, workers, 1, key)
    exchange = Exchange(membership, "127.0.0.1", TIMEOUT)
    exchange.connect(share(exchange.address if memory else replace(exchange.address, memory=None)))
    return membership, exchange


class WorkerStep:
    """A whole step of training, as the trainer makes it, the batch loaded from a dataset in memory."""

    def __init__(self, rank: int, workers: int, share: Share, key: bytes, workload: Workload) -> None:
        membership, self._exchange = connected(rank, workers, share, key)
        graph = graph_of(workload)
        layout = ParameterLayout(graph.parameters())
        self._step = DistributedStep(
            graph,
            layout,
            initialize(layout, seed=0),
            optimizer=from_spec("optimizer", OPTIMIZERS[workload.optimizer]),
            penalty=None,
            clipping=None,
            seed=0,
            exchange=self._exchange,
            membership=membership,
            shards=SHARDS,
            batch_sizes={workload.batch},
            threads=workload.threads,
        )
        self._data = Batches(*rows(workload), scaling=None)
        self._batches = cycle(batches(workload))
        self._steps, self._loss = 0, np.nan

    def __call__(self) -> None:
        self._steps += 1
        batch = Batch(self._data, next(self._batches), 0, self._steps)
        self._loss = self._step.run(batch, LEARNING_RATE, order=Order.NONE).data_loss

    def result(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._step.parameters.tobytes()).hexdigest()
        return {"steps": self._steps, "loss": self._loss, "parameters": digest}

    def close(self) -> None:
        self._step.close()
        self._exchange.close()


class ExchangeAlone:
    """Reduce-scatter and all-gather of a vector as a step makes them, one sum for each worker, and nothing else."""

    def __init__(self, rank: int, workers: int, share: Share, key: bytes, floats: int, *, memory: bool = True) -> None:
        _, self._exchange = connected(rank, workers, share, key, memory=memory)
        sharing, partition = self._exchange.meet(), Partition(workers, floats, workers)
        layout = ParameterLayout([ParameterDeclaration("vector", (floats,), Zeros(), penalized=False)])
        vectors = Vectors(rank, partition, layout, SGD(), aligned_zeros((layout.size,), np.float32), sharing)
        slices = partition.parameters
        (self._own,), self._total = vectors.sums, vectors.parameters[:floats]
        operands = [operand for (operand,) in vectors.operands]
        tree = additions([subtree for (subtree,) in partition.subtrees], workers)
        pairs = [(operands[into], operands[source]) for into, source in tree]
        # The last addition takes the place of the update, and leaves its result among the parameters.
        outs = [into for into, _ in pairs[:-1]] + [vectors.parameters[slices[rank]]]
        self._additions = [(*pair, out) for pair, out in zip(pairs, outs, strict=True)]

        peers = [peer for peer in range(workers) if peer != rank]
        alike = {peer: sharing.home(peer) == sharing.home(rank) for peer in peers}
        self._outgoing = {
            Kind.GRADIENTS: {peer: [] if sharing.reads(peer, rank) else [self._own[slices[peer]]] for peer in peers},
            Kind.PARAMETERS: {peer: [] if alike[peer] else [vectors.parameters[slices[rank]]] for peer in peers},
        }
        incoming = {
            Kind.GRADIENTS: {peer: [] if sharing.reads(rank, peer) else [operands[peer]] for peer in peers},
            Kind.PARAMETERS: {peer: [] if alike[peer] else [vectors.parameters[slices[peer]]] for peer in peers},
        }
        for kind, buffers in incoming.items():
            self._exchange.receive_into(kind, buffers)
        self._mine, self._steps = float(rank + 1), 0

    def __call__(self) -> None:
        self._steps += 1
        self._exchange_all(Kind.GRADIENTS)
        for left, right, out in self._additions:
            np.add(left, right, out=out)
        self._exchange_all(Kind.PARAMETERS)

    def _exchange_all(self, kind: Kind) -> None:
        for peer, buffers in self._outgoing[kind].items():
            self._exchange.send(kind, self._steps, peer, buffers)
        self._exchange.receive(kind, self._steps)

    def result(self) -> float:
        """Return the sum of all values."""
        self._own.fill(self._mine)
        self()
        return float(self._total.sum(dtype=np.float64))

    def close(self) -> None:
        self._exchange.close()
