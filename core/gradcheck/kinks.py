"""Derivatives at kinks and ties, where they must lie between the derivatives of both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.gradcheck.differences import Differences
from core.gradcheck.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Array
    from core.graph.graph import Graph

STEP = 1e-3
#: one-sided differences of fourth order lose more digits than central ones
TOLERANCE_AT_KINKS = 1e-7
DIRECTIONS = 3
MOST_OUTPUTS = 256


def kink_problems(graph: Graph, name: str, random: np.random.Generator) -> list[str]:
    """Return the derivatives of a node by itself that are outside of both sides' at kinks and ties.

    Inputs are drawn from few numbers, the node's kinks among them, so that they tie and lie on kinks.
    """
    placed = graph.nodes[name]
    kinks: tuple[float, ...] = getattr(placed.node, "kinks", tuple)()
    numbers = np.array([-1.0, 0.0, 1.0, getattr(placed.node, "margin", 1.0), *kinks])
    shapes = graph.shapes()
    limits = placed.node.index_limits(*(shapes[value] for value in placed.inputs))
    inputs = {
        value: random.integers(0, limits.get(position, 1), shapes[value])
        if graph.inputs[value].integer
        else random.choice(numbers, shapes[value])
        for position, value in enumerate(placed.inputs)
    }
    if placed.node.branches(np, [inputs[value] for value in placed.inputs]) is None:
        return []
    setting = Setting.draw(graph, name, inputs, 0)
    return list(dict.fromkeys(_outside(setting, random)))


def _outside(setting: Setting, random: np.random.Generator) -> Iterator[str]:
    differences, plan = Differences(setting), setting.plan(setting.floats)
    plan.forward(setting.key)
    shape = differences.origin.shape
    outputs = random.permutation(differences.origin.size)[:MOST_OUTPUTS]
    for name in setting.floats:
        size = differences.variables[name].size
        directions = [random.uniform(-1, 1, size) for _ in range(DIRECTIONS)]
        sides = [[_one_sided(differences, name, each, sign).ravel() for sign in (1, -1)] for each in directions]
        for output in outputs:
            upstream = np.zeros(shape)
            upstream.reshape(-1)[output] = 1
            plan.backward({setting.output: upstream})
            gradient = plan.gradient(name).ravel()
            for direction, (right, left) in zip(directions, sides, strict=True):
                low, high = sorted((right[output], left[output]))
                slack = TOLERANCE_AT_KINKS * (1 + abs(low) + abs(high))
                if not low - slack <= gradient @ direction <= high + slack:
                    yield f"the gradient of {name} at a kink or tie is not between those of both sides"


def _one_sided(differences: Differences, name: str, direction: Array, sign: int) -> Array:
    """Return the derivative on one side, to the fourth order of the step."""
    weights = (-25, 48, -36, 16, -3)
    values = [differences.at(name, direction, sign * times * STEP) for times in range(5)]
    total: Array = np.tensordot(np.array(weights), np.array(values), 1)
    return sign * total / (12 * STEP)
