"""Derivatives by differences of the forward pass, clear of kinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from core.arrays import Array
    from core.graph import Graph
    from core.layout import ParameterLayout

# A smaller step loses digits to rounding, but stays on one side of a kink and suits a function that bends quickly.
STEPS = (1e-3, 1e-3 / 8, 1e-3 / 64)


class Differences:
    """Five-point central differences of a node's value with respect to inputs and parameters, in float64.

    It keeps the value of every node, which tells on which side of each kink they are (see `Node.branches`), and reads
    the parameters from the given vector, which `derivatives` changes and puts back.
    """

    def __init__(
        self,
        graph: Graph,
        output: str,
        inputs: Mapping[str, npt.ArrayLike],
        batch: int,
        layout: ParameterLayout,
        parameters: Array,
    ) -> None:
        self._graph, self._output, self._nodes = graph, output, graph.order()
        self._plan = Plan(
            graph,
            self._nodes,
            batch=batch,
            dtype=np.float64,
            layout=layout,
            parameters=parameters,
            backward=False,
        )
        for name, values in inputs.items():
            self._plan.inputs[name][...] = values
        self.variables = self._plan.inputs | layout.views(parameters)
        self._plan.forward()
        self._sides = self._branches()

    def derivatives(self, name: str, direction: Array) -> Iterator[Array]:
        """Yield the derivative of the output along a direction, for each of `STEPS` that stays clear of kinks."""
        variable = self.variables[name]
        origin, along = variable.copy(), direction.reshape(variable.shape)
        for step in STEPS:
            values = []
            for times in (-2, -1, 1, 2):
                variable[...] = origin + times * step * along
                self._plan.forward()
                if not all(map(np.array_equal, self._branches(), self._sides)):
                    break
                values.append(self._plan.value(self._output).copy())
            variable[...] = origin
            if len(values) == 4:
                yield (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * step)

    def _branches(self) -> list[Array]:
        values = self._plan.inputs | {name: self._plan.value(name) for name in self._nodes}
        placed = [self._graph.nodes[name] for name in self._nodes]
        branches = (each.node.branches(np, [values[name] for name in each.inputs]) for each in placed)
        return [sides for sides in branches if sides is not None]
