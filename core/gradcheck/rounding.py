"""A bound on the rounding errors of forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.plan.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.arrays import Array
    from core.gradcheck.setting import Setting

# Errors of one operation, in units of the last place of what it reads and writes: NumPy's functions err by up to 4.
UNITS = 8


class Rounding:
    """A bound, to first order, on the rounding error of `sum(upstream * output)`.

    It is `sum |v| |ds / dv|` over every input, parameter and intermediate value v, times the unit of the last place: a
    rounding error counts by what it does to the output, and not by the largest number in the graph.
    """

    def __init__(self, setting: Setting, values: Mapping[str, Array]) -> None:
        """Read the `values` of inputs, parameters and nodes, by name, in the given setting."""
        self._setting = setting
        floats = list(setting.floats)
        steps = Program.compile(setting.graph, (setting.output,), batch=setting.batch, wrt=floats).instructions
        nodes = [step.name for step in steps if step.backward]
        # A plan that keeps the gradients of all of them.
        self._plan = setting.plan([*floats, *nodes])
        self._plan.forward(setting.key)
        gradients = setting.gradients(self._plan)
        self._terms = [(np.abs(values[name]).ravel(), gradients[name]) for name in gradients]

    def of(self, upstream: Array) -> float:
        """Return the bound for one upstream gradient."""
        self._plan.backward({self._setting.output: upstream})
        total = sum(float(size @ np.abs(gradient).ravel()) for size, gradient in self._terms)
        return UNITS * float(np.finfo(np.float64).eps) * total
