"""Derivatives by differences of the forward pass that do not cross kinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from core.plan.plan import Plan
from core.plan.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.arrays import Array
    from core.gradcheck.setting import Setting

T = TypeVar("T", "Array", float)

# A smaller step loses digits to rounding, but stays on one side of a kink and suits a function with large curvature; a
# larger one suits a function that hardly changes.
STEPS = (1e-3, 1e-3 / 8, 1e-3 / 64, 3e-3, 8e-3, 1e-3 / 512)
# For functions where all of these cross kinks, such as a network of thousands of ReLUs, or are inaccurate, as near a
# pole.
FINE_STEPS = tuple(1e-3 / 8**power for power in range(4, 10))


# Where a five-point central difference evaluates a function, in steps.
STENCIL = (-2, -1, 1, 2)


def central(values: Sequence[T], step: float) -> T:
    """Return the derivative from a function's values at the points of `STENCIL`."""
    derivative: T = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * step)
    return derivative


class Differences:
    """Five-point central differences of a node's value with respect to inputs and parameters, in float64.

    Nodes are in training mode and draw the random numbers of the setting. The value of every node is kept, to determine
    on which side of each kink it is (see `Node.branches`).
    """

    def __init__(self, setting: Setting) -> None:
        self._setting, self._nodes = setting, setting.graph.order()
        program = Program.compile(
            setting.graph, self._nodes, batch=setting.batch, dtype=np.float64, backward=False, training=True
        )
        parameters = setting.parameters.copy()
        self._plan = Plan(program, layout=setting.layout, parameters=parameters)
        setting.feed(self._plan, setting.inputs)
        self.variables = self._plan.inputs | setting.layout.views(parameters)
        self._dependent = {name: _dependent(program, name) for name in self.variables}
        # Nodes whose values are not those at the origin.
        self._moved_nodes: set[str] = set()
        self.origin = self.value()
        self._sides = self._branches()

    def derivatives(self, name: str, direction: Array) -> Iterator[tuple[float, Array]]:
        """Yield a step, and the derivative of the output along a direction, for each step that crosses no kink.

        `STEPS` come first, then `FINE_STEPS`.
        """
        for step in STEPS + FINE_STEPS:
            values = self._values(name, direction, [times * step for times in STENCIL])
            if values is not None:
                yield step, central(values, step)

    def not_finite(self) -> str:
        """Return the first node whose value is not finite at the origin, if the output is not finite; "" if it is."""
        if np.isfinite(self.origin).all():
            return ""
        self.value()
        return next(name for name in self._nodes if not np.isfinite(self._plan.value(name)).all())

    def values(self) -> dict[str, Array]:
        """Return the current inputs and parameters, and the last computed values of all nodes, by name."""
        return self.variables | {name: self._plan.value(name) for name in self._nodes}

    def value(self) -> Array:
        """Compute the value at the origin and return it."""
        self._plan.forward(self._setting.key)
        self._moved_nodes = set()
        return self._plan.value(self._setting.output).copy()

    def at(self, name: str, direction: Array, distance: float) -> Array:
        """Return the value with one variable moved along a direction."""
        return self._moved(name, direction, distance)[0]

    def _moved(self, name: str, direction: Array, distance: float) -> tuple[Array, bool]:
        """Return the value with one variable moved, and whether that is on the same side of every kink."""
        variable = self.variables[name]
        origin = variable.copy()
        variable += distance * direction.reshape(variable.shape)
        # Only what depends on the variable changes, and what a variable that was moved before has changed.
        nodes = self._dependent[name]
        self._plan.forward_again(nodes | self._moved_nodes, self._setting.key)
        self._moved_nodes = nodes
        value = self._plan.value(self._setting.output).copy()
        same = all(map(np.array_equal, self._branches(), self._sides))
        variable[...] = origin
        return value, same

    def _values(self, name: str, direction: Array, distances: list[float]) -> list[Array] | None:
        """Return the values at these distances; None if they are beyond a kink, or not all numbers."""
        values = []
        for distance in distances:
            value, same = self._moved(name, direction, distance)
            if not same or not np.isfinite(value).all():
                return None
            values.append(value)
        return values

    def _branches(self) -> list[Array]:
        values = self._plan.inputs | {name: self._plan.value(name) for name in self._nodes}
        placed = [self._setting.graph.nodes[name] for name in self._nodes]
        branches = (each.node.branches(np, [values[name] for name in each.inputs]) for each in placed)
        return [sides for sides in branches if sides is not None]


def _dependent(program: Program, variable: str) -> set[str]:
    """Return the nodes whose values depend on an input or a parameter."""
    changed = {variable}
    for step in program.instructions:
        if not changed.isdisjoint(step.reads):
            changed.add(step.name)
    return changed - {variable}
