"""A training step of the engine, and the floor: the matrix products of a step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from benchmarks.common.workload import LEARNING_RATE, MOMENTUM, Workload
from core import (
    Graph,
    ParameterLayout,
    Plan,
    Program,
    Step,
    aligned_empty,
    aligned_zeros,
    build_classifier,
    entry_from_spec,
    from_spec,
    initialize,
    with_loss,
)
from core.arrays import BLOCK

OPTIMIZERS = {
    "sgd": {"type": "sgd", "lr": LEARNING_RATE, "momentum": MOMENTUM},
    "adam": {"type": "adam", "lr": LEARNING_RATE},
}
# Smaller steps are slower on a second thread, and have one shard on one thread.
WORTH_A_THREAD = 20_000_000  # multiply-adds of a step


def graph_of(workload: Workload) -> Graph:
    """Return the network with its loss."""
    layers = [entry_from_spec(layer) for layer in workload.layers]
    loss = from_spec("loss", {"type": workload.loss})
    return with_loss(build_classifier(layers, workload.features), loss)


class Lanes:
    """Runs a function once per lane: lane 0 on the caller's thread, the others on their own."""

    def __init__(self, workload: Workload) -> None:
        self.count = workload.threads if workload.multiply_adds >= WORTH_A_THREAD else 1
        self._pool = ThreadPoolExecutor(max(1, self.count - 1))

    def run(self, work: Callable[[int], None]) -> None:
        futures = [self._pool.submit(work, lane) for lane in range(1, self.count)]
        work(0)
        for future in futures:
            future.result()

    def cut(self, length: int, multiple: int = 1) -> list[slice]:
        bounds = [lane * length // self.count // multiple * multiple for lane in range(self.count)]
        return [slice(*pair) for pair in pairwise([*bounds, length])]

    def close(self) -> None:
        self._pool.shutdown()


class GradfleetStep:
    """A shard and a plan per lane; then each lane adds up and updates its slice of the flat vector."""

    def __init__(self, workload: Workload) -> None:
        self._workload, self._lanes = workload, Lanes(workload)
        graph = graph_of(workload)
        self._layout = layout = ParameterLayout(graph.parameters())
        self._parameters = initialize(layout, seed=0)
        self._optimizer = from_spec("optimizer", OPTIMIZERS[workload.optimizer])
        self._state = {slot: aligned_zeros((layout.size,), np.float32) for slot in self._optimizer.slots}
        self._upstream = {"loss": workload.loss_scale / workload.batch}
        self._steps = 0

        data = workload.data()
        self._plans = []
        for rows in self._lanes.cut(workload.batch):
            size = rows.stop - rows.start
            program = Program.compile(graph, ("loss",), batch=size)
            plan = Plan(program, layout=layout, parameters=self._parameters)
            for name, values in zip(("features", "labels"), data, strict=True):
                plan.inputs[name][...] = values[rows]
            self._plans.append(plan)
        vectors = [self._parameters, *(plan.gradients for plan in self._plans)]
        self._slices = [
            (
                [vector[part] for vector in vectors],
                {slot: vector[part] for slot, vector in self._state.items()},
                aligned_zeros((min(layout.size, BLOCK),), np.float32),
            )
            for part in self._lanes.cut(layout.size, multiple=16)
        ]

    def __call__(self) -> None:
        self._steps += 1  # counted from 1
        if self._lanes.count == 1:
            self.gradients(0)
            self.update(0)
        else:
            self._lanes.run(self.gradients)
            self._lanes.run(self.update)

    def gradients(self, lane: int) -> None:
        """Compute the gradients of a lane's shard."""
        self._plans[lane].forward()
        self._plans[lane].backward(self._upstream)

    def update(self, lane: int) -> None:
        """Add up and update a lane's slice of the parameters."""
        (parameters, gradient, *others), state, scratch = self._slices[lane]
        for other in others:
            np.add(gradient, other, out=gradient)
        self._optimizer.update(np, parameters, gradient, state, scratch, Step(LEARNING_RATE, self._steps))

    def loss(self) -> float:
        """Return the mean loss of the last step, as PyTorch defines it."""
        total = sum(float(plan.value("loss").sum()) for plan in self._plans)
        return total * self._workload.loss_scale / self._workload.batch

    def weights(self) -> list[np.ndarray]:
        """Return copies of weight and bias of each layer."""
        return [view.copy() for view in self._layout.views(self._parameters).values()]

    def close(self) -> None:
        self._lanes.close()


class Floor:
    """The matrix products of a step, in the same shapes, layouts and lanes."""

    def __init__(self, workload: Workload) -> None:
        self._lanes = Lanes(workload)
        self._products = [
            list(self.products(workload, rows.stop - rows.start)) for rows in self._lanes.cut(workload.batch)
        ]

    @staticmethod
    def products(workload: Workload, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield both operands of each product of so many rows, and where the result goes."""

        def random(*shape: int) -> np.ndarray:
            array = aligned_empty(shape, np.float32)
            array[...] = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            return array

        for layer, (inputs, outputs) in enumerate(pairwise(workload.widths)):
            x, weight, y = random(batch, inputs), random(inputs, outputs), random(batch, outputs)
            yield x, weight, aligned_empty((batch, outputs), np.float32)
            yield x.T, y, aligned_empty((inputs, outputs), np.float32)
            if layer:
                yield y, weight.T, aligned_empty((batch, inputs), np.float32)

    def _run(self, lane: int) -> None:
        for left, right, out in self._products[lane]:
            np.matmul(left, right, out=out)

    def __call__(self) -> None:
        self._lanes.run(self._run)

    def close(self) -> None:
        self._lanes.close()
