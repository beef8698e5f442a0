"""A worker's step, and its exchange alone."""

import hashlib
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.common.team import Share
from benchmarks.common.workload import LEARNING_RATE, Workload
from benchmarks.distributed.workload import SHARDS, batches, rows
from benchmarks.engine.gradfleet import OPTIMIZERS, graph_of
from core import ParameterLayout, aligned_zeros, from_spec
from workers.data.rows import Batch, Batches
from workers.exchange.control import Command, wait_until_ready
from workers.exchange.messages import Exchange, Membership
from workers.exchange.partition import Partition
from workers.exchange.peers import PeerCollective
from workers.job.computation import Computation
from workers.machine.threads import Threads
from workers.training.runtime import Runtime
from workers.training.step import DistributedStep

TIMEOUT = 60.0  # seconds that a peer may be silent; no worker waits while it is another team's turn


def connected(rank: int, workers: int, share: Share, key: bytes, *, memory: bool = True) -> Exchange:
    """Return this worker's end of the exchange, connected; without `memory`, as between machines."""
    exchange = Exchange(Membership(rank, workers, 1, key), "127.0.0.1", TIMEOUT)
    exchange.connect(share(exchange.address if memory else replace(exchange.address, memory=None)))
    return exchange


class WorkerStep:
    """A whole training step, with the batch loaded from a dataset in memory."""

    def __init__(
        self, rank: int, workers: int, share: Share, key: bytes, workload: Workload, shards: int = SHARDS
    ) -> None:
        self._exchange = connected(rank, workers, share, key)
        graph = graph_of(workload)
        computation = Computation(
            graph,
            "classification",
            ParameterLayout(graph.parameters()),
            from_spec("optimizer", OPTIMIZERS[workload.optimizer]),
            penalty=None,
            clipping=None,
            seed=0,
            shards=shards,
            batch_sizes=frozenset({workload.batch}),
        )
        self._threads = Threads(workload.threads)
        self._step = DistributedStep(computation, Runtime(self._exchange, self._threads))
        self._data = Batches(*rows(workload), scaling=None)
        self._batches = cycle(batches(workload))
        self._steps, self._loss = 0, np.nan

    def __call__(self) -> None:
        self._steps += 1
        batch = Batch(self._data, next(self._batches), 0, self._steps)
        self._loss = self._step.run(batch, LEARNING_RATE, command=Command.NONE).data_loss

    def result(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._step.parameters.tobytes()).hexdigest()
        return {"steps": self._steps, "loss": self._loss, "parameters": digest}

    def close(self) -> None:
        self._threads.close()
        self._exchange.close()


class ExchangeAlone:
    """Reduce-scatter and all-gather of a vector as in a step, with one sum for each worker."""

    def __init__(self, rank: int, workers: int, share: Share, key: bytes, floats: int, *, memory: bool = True) -> None:
        self._exchange = connected(rank, workers, share, key, memory=memory)
        partition = Partition(workers, floats, workers)
        self._collective = PeerCollective(self._exchange, partition, aligned_zeros((floats,), np.float32))
        wait_until_ready(self._exchange)
        # The last addition takes the place of the update, and leaves its result among the parameters.
        pairs, mine = self._collective.additions, partition.parameters[rank]
        outs = [into for into, _ in pairs[:-1]] + [self._collective.parameters[mine]]
        self._additions = [(*pair, out) for pair, out in zip(pairs, outs, strict=True)]
        self._mine, self._steps = float(rank + 1), 0

    def __call__(self) -> None:
        self._steps += 1
        self._collective.reduce_scatter(self._steps)
        for left, right, out in self._additions:
            np.add(left, right, out=out)
        self._collective.gather_parameters(self._steps)

    def result(self) -> float:
        """Return the sum of all values."""
        (own,) = self._collective.sums
        own.fill(self._mine)
        self()
        return float(self._collective.parameters.sum(dtype=np.float64))

    def close(self) -> None:
        self._exchange.close()
