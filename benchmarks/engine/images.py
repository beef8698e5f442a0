"""The engine on images: both passes of a single convolution, and the floor, the matrix products alone."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from benchmarks.engine.gradfleet import Floor, GradfleetStep, Lanes
from benchmarks.engine.networks import ImageWorkload
from core import (
    BATCH,
    Graph,
    ParameterLayout,
    Plan,
    Program,
    aligned_empty,
    build_classifier,
    entry_from_spec,
    from_spec,
    initialize,
)


def step_of(workload: ImageWorkload) -> GradfleetStep | ConvolutionStep:
    """Return the engine's subject."""
    return ConvolutionStep(workload) if workload.single else GradfleetStep(workload)


class ConvolutionStep:
    """Forward and all gradients of one layer, in as many shards as lanes.

    The first layer of a network needs no gradient of its input.
    """

    def __init__(self, workload: ImageWorkload) -> None:
        self._lanes = Lanes(workload)
        graph = Graph()
        graph.input("x", (BATCH, *workload.shape))
        graph.add("y", from_spec("layer", workload.own[0]), "x")
        self._layout = ParameterLayout(graph.parameters())
        self._parameters = initialize(self._layout, seed=0)
        features, _ = workload.data()
        self._plans = []
        for rows in self._lanes.cut(workload.batch):
            wrt = () if workload.first else ("x",)
            program = Program.compile(graph, ("y",), batch=rows.stop - rows.start, wrt=wrt)
            plan = Plan(program, layout=self._layout, parameters=self._parameters)
            plan.inputs["x"][...] = features[rows].reshape(plan.inputs["x"].shape)
            self._plans.append(plan)

    def __call__(self) -> None:
        self._lanes.run(self._passes)

    def _passes(self, lane: int) -> None:
        self._plans[lane].forward()
        self._plans[lane].backward({"y": 1.0})

    def loss(self) -> float:
        """Return the sum of squares of the output and of the weight gradient."""
        outputs = sum(float(np.vdot(plan.value("y"), plan.value("y"))) for plan in self._plans)
        gradient = sum(plan.gradients for plan in self._plans)
        return outputs + float(np.vdot(gradient, gradient))

    def weights(self) -> list[np.ndarray]:
        """Return copies of weight and bias."""
        return [view.copy() for view in self._layout.views(self._parameters).values()]

    def close(self) -> None:
        self._lanes.close()


class ImageFloor(Floor):
    """The products of windows and weights of a step, as if the windows were already rows of a matrix."""

    @staticmethod
    def products(workload: ImageWorkload, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield both operands of each product of so many images, and where the result goes."""
        return _bound(_products(workload, batch))


def _bound(shapes: list[tuple[int, int, int, bool]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the operands of the products, and where the results go; all products share four buffers."""
    parts = [((m, k), (k, n), (m, n)) for m, k, n, _ in shapes]
    sizes = [max(map(prod, each)) for each in zip(*parts, strict=True)]
    buffers = [aligned_empty((size,), np.float32) for size in (*sizes, max(sizes))]
    for buffer in buffers:
        buffer[...] = np.random.default_rng(0).standard_normal(buffer.shape, dtype=np.float32)
    out = buffers.pop()
    for part, (m, k, n, inner) in zip(parts, shapes, strict=True):
        both = zip(buffers, part, strict=True)
        rows, weights, output = (buffer[: prod(shape)].reshape(shape) for buffer, shape in both)
        yield rows, weights, out[: m * n].reshape(m, n)
        yield rows.T, output, out[: k * n].reshape(k, n)
        if inner:
            yield output, weights.T, out[: m * k].reshape(m, k)


def _products(workload: ImageWorkload, batch: int) -> list[tuple[int, int, int, bool]]:
    """Return rows, inner size and columns of each product, and whether there is a gradient of the inputs."""
    graph = build_classifier([entry_from_spec(layer) for layer in workload.layers], workload.features)
    shapes = graph.shapes(batch)
    trained: set[str] = set()
    found = []
    for name in graph.order():
        inputs = graph.nodes[name].inputs
        declared = graph.parameters_of(name, shapes)
        kernel = next((each.shape for each in declared if len(each.shape) > 1), None)
        inner = not trained.isdisjoint(inputs) or (workload.single and not workload.first)
        if kernel:
            found.append((prod(shapes[name][:-1]), prod(kernel[:-1]), kernel[-1], inner))
        if declared or inner:
            trained.add(name)
    return found
