"""Derivatives at kinks and ties, where they must lie between the derivatives of both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.gradcheck.differences import Differences
from core.gradcheck.report import Outcome
from core.gradcheck.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Array
    from core.graph.graph import Graph
    from core.graph.node import Node

#: where kinks are not closer
STEP = 1e-3
#: steps from a kink or tie to the next one, at least
APART = 16
#: one-sided differences of fourth order lose more digits than central ones
TOLERANCE_AT_KINKS = 1e-7
#: errors of a one-sided difference, in units of the last place of the values, divided by the step
UNITS = 8
DIRECTIONS = 3
MOST_OUTPUTS = 256


def kink_problems(graph: Graph, name: str, random: np.random.Generator) -> tuple[list[str], list[str]]:
    """Check the derivatives of a node by itself at kinks and ties: return which are wrong, and what is not checked.

    They are wrong where they are outside of both sides' derivatives. Inputs are drawn from few numbers, the node's
    kinks among them, so that they tie and lie on kinks.
    """
    placed = graph.nodes[name]
    numbers, step = _numbers(placed.node)
    shapes = graph.shapes()
    limits = placed.node.index_limits(*(shapes[value] for value in placed.inputs))
    inputs = {
        value: random.integers(0, limits.get(position, 1), shapes[value])
        if graph.inputs[value].integer
        else random.choice(numbers, shapes[value])
        for position, value in enumerate(placed.inputs)
    }
    if placed.node.branches(np, [inputs[value] for value in placed.inputs]) is None:
        return [], []
    setting = Setting.draw(graph, name, inputs, 0)
    found = list(_compared(setting, step, random))
    wrong = [words for outcome, words in found if outcome is Outcome.WRONG]
    return list(dict.fromkeys(wrong)), list(dict.fromkeys(words for _, words in found if words not in wrong))


def _numbers(node: Node) -> tuple[Array, float]:
    """Return numbers that lie on kinks and tie, and a step that does not reach the next kink from any of them."""
    kinks: tuple[float, ...] = getattr(node, "kinks", tuple)()
    margin = getattr(node, "margin", None)  # of losses: the kink is where two inputs differ by it
    kinks += (margin,) if isinstance(margin, float) else ()
    # Two kinks at the same place are none, such as those of a softshrink whose threshold is 0.
    none = {kink for kink in kinks if kinks.count(kink) > 1}
    numbers = np.array(sorted({-1.0, 0.0, 1.0, *kinks} - none))
    places = np.concatenate([numbers, np.subtract.outer(numbers, numbers).ravel()])
    distances = np.abs(np.subtract.outer(places, np.array([0.0, *kinks])))
    return numbers, min([STEP, *(distances[distances > 0] / APART)])


def _compared(setting: Setting, step: float, random: np.random.Generator) -> Iterator[tuple[Outcome, str]]:
    differences, plan = Differences(setting), setting.plan(setting.floats)
    plan.forward(setting.key)
    shape = differences.origin.shape
    outputs = random.permutation(differences.origin.size)[:MOST_OUTPUTS]
    unit = UNITS * np.finfo(np.float64).eps / step
    outer = unit * np.abs(differences.origin).ravel()
    # An input that is rounded changes the output by the derivative.
    inner = unit * max(np.abs(differences.variables[name]).max(initial=0) for name in setting.floats)
    for name in setting.floats:
        size = differences.variables[name].size
        directions = [random.uniform(-1, 1, size) for _ in range(DIRECTIONS)]
        sides = [[_one_sided(differences, name, each, sign * step).ravel() for sign in (1, -1)] for each in directions]
        for output in outputs:
            upstream = np.zeros(shape)
            upstream.reshape(-1)[output] = 1
            plan.backward({setting.output: upstream})
            gradient = plan.gradient(name).ravel()
            for direction, (right, left) in zip(directions, sides, strict=True):
                low, high = sorted((right[output], left[output]))
                size_of_both = 1 + abs(low) + abs(high)
                slack = TOLERANCE_AT_KINKS * size_of_both
                if outer[output] + inner * size_of_both > slack:
                    yield (
                        Outcome.UNCHECKED,
                        f"the gradient of {name} at a kink or tie, since rounding errors are too large",
                    )
                elif not low - slack <= gradient @ direction <= high + slack:
                    yield Outcome.WRONG, f"the gradient of {name} at a kink or tie is not between those of both sides"


def _one_sided(differences: Differences, name: str, direction: Array, step: float) -> Array:
    """Return the derivative on the side of the step's sign, to the fourth order of the step."""
    weights = (-25, 48, -36, 16, -3)
    values = [differences.at(name, direction, times * step) for times in range(5)]
    total: Array = np.tensordot(np.array(weights), np.array(values), 1)
    return total / (12 * step)
