"""Derivatives by differences of the forward pass that do not cross kinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.plan.plan import Plan
from core.plan.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from core.arrays import Array
    from core.graph.graph import Graph
    from core.plan.layout import ParameterLayout
    from core.random import RandomKey

# A smaller step loses digits to rounding, but stays on one side of a kink and suits a function with large curvature; a
# larger one suits a function that hardly changes.
STEPS = (1e-3, 1e-3 / 8, 1e-3 / 64, 8e-3)
# For functions where all of these cross kinks, such as a network of thousands of ReLUs.
FINE_STEPS = (1e-3 / 512, 1e-3 / 4096)
# Rounding errors of a difference, in units of the last place of the largest intermediate value.
ROUNDINGS = 4


class Differences:
    """Five-point central differences of a node's value with respect to inputs and parameters, in float64.

    Nodes are in training mode and draw the random numbers that `random` selects. The value of every node is kept, to
    determine on which side of each kink it is (see `Node.branches`). Parameters are read from the given vector, which
    `derivatives` changes and restores.
    """

    def __init__(
        self,
        graph: Graph,
        output: str,
        inputs: Mapping[str, npt.ArrayLike],
        batch: int,
        layout: ParameterLayout,
        parameters: Array,
        random: RandomKey | None = None,
    ) -> None:
        self._graph, self._output, self._nodes, self._random = graph, output, graph.order(), random
        program = Program.compile(graph, self._nodes, batch=batch, dtype=np.float64, backward=False, training=True)
        self._plan = Plan(program, layout=layout, parameters=parameters)
        for name, values in inputs.items():
            self._plan.inputs[name][...] = values
        self.variables = self._plan.inputs | layout.views(parameters)
        self._plan.forward(random)
        self._sides = self._branches()
        magnitude = max((float(np.abs(self._plan.value(node)).max(initial=0)) for node in self._nodes), default=0.0)
        self._rounding = ROUNDINGS * float(np.finfo(np.float64).eps) * magnitude

    def derivatives(self, name: str, direction: Array) -> Iterator[tuple[Array, float]]:
        """Yield the derivative of the output along a direction for each of `STEPS` that crosses no kink.

        If all of them do, the first of `FINE_STEPS` that crosses none is used. Each derivative comes with a bound on
        the rounding errors of its entries.
        """
        found = False
        for step in STEPS + FINE_STEPS:
            if found and step in FINE_STEPS:
                return
            derivative = self._difference(name, direction, step)
            if derivative is not None:
                found = True
                yield derivative, self._rounding / step

    def _difference(self, name: str, direction: Array, step: float) -> Array | None:
        variable = self.variables[name]
        origin, along = variable.copy(), direction.reshape(variable.shape)
        values = []
        for times in (-2, -1, 1, 2):
            variable[...] = origin + times * step * along
            self._plan.forward(self._random)
            if not all(map(np.array_equal, self._branches(), self._sides)):
                break
            values.append(self._plan.value(self._output).copy())
        variable[...] = origin
        if len(values) < 4:
            return None
        difference: Array = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * step)
        return difference

    def _branches(self) -> list[Array]:
        values = self._plan.inputs | {name: self._plan.value(name) for name in self._nodes}
        placed = [self._graph.nodes[name] for name in self._nodes]
        branches = (each.node.branches(np, [values[name] for name in each.inputs]) for each in placed)
        return [sides for sides in branches if sides is not None]
