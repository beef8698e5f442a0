"""A program that prints digests of what the engine computes: every registered class, products of odd shapes, training.

    python -m tests.core.arithmetic.bits [long]

prints JSON: the SHA-256 of each result, by its name. At one level of arithmetic, every CPU prints the same. With
`long`, vectors are long enough for the loops that Numba compiles.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from core import (
    L2,
    SGD,
    Adam,
    Clipping,
    Initializer,
    Linear,
    Node,
    NormClipping,
    Optimizer,
    ParameterLayout,
    Penalty,
    Plan,
    Program,
    RandomKey,
    Schedule,
    Step,
    build_classifier,
    entry_from_spec,
    from_spec,
    initialize,
    update_statistics,
    with_loss,
)
from core.arrays import aligned_empty
from tests.core.fixtures import cases
from tests.core.fixtures.direct import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCHES = (1, 5, 37)
# Vectors shorter than a register, and with a remainder.
SIZES = [3, 1_000]
COMPILED = 70_001
# Rows, features and units of a linear layer.
PRODUCTS = ((1, 1, 1), (2, 3, 5), (4, 784, 10), (5, 7, 33), (32, 784, 128), (33, 100, 17), (64, 64, 64), (127, 513, 65))
STEPS = 50
NETWORKS: dict[str, tuple[list[dict[str, Any]], str, Optimizer]] = {
    "relu, hinge": (
        [{"type": "linear", "units": 64}, {"type": "relu"}, {"type": "linear", "units": 10}],
        "hinge",
        SGD(lr=0.05, momentum=0.9),
    ),
    "tanh, softmax": (
        [{"type": "linear", "units": 48}, {"type": "tanh"}, {"type": "linear", "units": 10}],
        "softmax",
        Adam(lr=0.01),
    ),
    "batch norm, dropout, gelu": (
        [
            {"type": "linear", "units": 40},
            {"type": "batch_norm"},
            {"type": "gelu"},
            {"type": "dropout"},
            {"type": "linear", "units": 10},
        ],
        "softmax",
        Adam(lr=0.01),
    ),
}


def numbers(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Normal numbers that do not depend on the CPU: sums of uniform ones, which are exact."""
    uniform = np.random.Generator(np.random.Philox(seed)).integers(0, 2**20, (12, *shape))
    return ((uniform.sum(axis=0) - 6 * 2**20) / 2**20).astype(np.float32)


def digest(arrays: Any) -> str:
    """SHA-256 of the bytes of arrays."""
    joined = hashlib.sha256()
    for array in arrays:
        joined.update(np.ascontiguousarray(array).tobytes())
    return joined.hexdigest()[:16]


def nodes() -> Iterator[tuple[str, Any]]:
    """Forward and backward of each layer and loss."""
    for case in cases.CASES:
        node = case.instance
        if not isinstance(node, Node):
            continue
        for batch in BATCHES:
            cases.BATCH = batch
            data = [make(np.random.default_rng(0)) for make in case.inputs]
            drawn = [
                each
                if each.dtype.kind == "i"
                else np.abs(numbers(seed, *each.shape)) + 0.1
                if each.min() > 0
                else numbers(seed, *each.shape)
                for seed, each in enumerate(data)
            ]
            declared = node.parameters(*(each.shape for each in drawn))
            parameters = [numbers(100 + seed, *each.shape) for seed, each in enumerate(declared)]
            upstream = numbers(200, *node.infer(*(each.shape for each in drawn)))
            has_noise = any(kind == "noise" for _, kind in node.workspace(*(each.shape for each in drawn)).values())
            options = {"noise": 0.7} if has_noise else {}
            yield (
                f"{node} on {batch}",
                evaluate(node, *drawn, *parameters, upstream=upstream, dtype=np.float32, **options),
            )


def products() -> Iterator[tuple[str, Any]]:
    """Forward and backward of a linear layer, in shapes for which BLAS has different code."""
    for rows, features, units in PRODUCTS:
        x, weight, bias = numbers(1, rows, features), numbers(2, features, units), numbers(3, units)
        yield (
            f"linear {rows} x {features} x {units}",
            evaluate(Linear(units=units), x, weight, bias, upstream=numbers(4, rows, units), dtype=np.float32),
        )


def vectors() -> Iterator[tuple[str, Any]]:
    """What works on flat vectors: optimizers, penalties, clippings; and initializers and schedules."""
    for case in cases.CASES:
        part = case.instance
        if isinstance(part, Schedule):
            yield str(part), [np.array([part.factor(step, 1000, 100) for step in range(0, 1000, 7)])]
        if isinstance(part, Initializer):
            yield str(part), [part.draw(np.random.Generator(np.random.Philox(5)), (333, 17))]
        for size in SIZES:
            weights, gradient = numbers(1, size), numbers(2, size)
            if isinstance(part, Optimizer):
                state = {slot: np.zeros(size, np.float32) for slot in part.slots}
                for step in range(1, 4):
                    part.update(np, weights, gradient, state, aligned_empty((size,), np.float32), Step(0.01, step), [])
                yield f"{part} on {size}", [weights, *state.values()]
            elif isinstance(part, Penalty):
                part.add_gradient(np, weights, gradient, aligned_empty((size,), np.float32))
                yield f"{part} on {size}", [gradient, np.array(part.value(np, weights))]
            elif isinstance(part, Clipping):
                part.clip(np, gradient, 12.5)
                yield f"{part} on {size}", [gradient]


def training() -> Iterator[tuple[str, Any]]:
    """Steps of training of small networks."""
    for name, (layers, loss, optimizer) in NETWORKS.items():
        graph = with_loss(
            build_classifier([entry_from_spec(layer) for layer in layers], 60), from_spec("loss", {"type": loss})
        )
        layout = ParameterLayout(graph.parameters())
        parameters = initialize(layout, 3)
        program = Program.compile(graph, ("loss",), batch=32, dtype=np.float32)
        plan = Plan(program, layout=layout, parameters=parameters)
        state = {slot: np.zeros(layout.size, np.float32) for slot in optimizer.slots}
        scratch, penalty, clipping = np.zeros(layout.size, np.float32), L2(weight=1e-4), NormClipping(limit=5.0)
        losses = []
        for step in range(1, STEPS + 1):
            plan.inputs["features"][...] = numbers(step, 32, 60)
            plan.inputs["labels"][...] = np.arange(32) % 10
            plan.forward(RandomKey(3, 0, step, 0))
            plan.backward({"loss": 1.0})
            losses.append(plan.value("loss").sum(dtype=np.float64))
            gradient = plan.gradients
            np.divide(gradient, np.float32(32), out=gradient)
            update_statistics(np, layout, parameters, gradient)
            for start, stop in layout.penalized:
                penalty.add_gradient(np, parameters[start:stop], gradient[start:stop], scratch[: stop - start])
            clipping.clip(np, gradient, float(np.sqrt(np.vecdot(gradient, gradient))))
            rate = optimizer.learning_rate(step - 1, STEPS, STEPS)
            optimizer.update(np, parameters, gradient, state, scratch, Step(rate, step), layout.penalized)
        yield name, [parameters, np.array(losses)]


if __name__ == "__main__":
    SIZES += [COMPILED] * ("long" in sys.argv)
    found = {name: digest(arrays) for part in (nodes, products, vectors, training) for name, arrays in part()}
    json.dump(found, sys.stdout, indent=1)
