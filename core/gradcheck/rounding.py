"""A bound on the rounding errors of forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.plan.plan import Plan
from core.plan.program import Program

if TYPE_CHECKING:
    from core.arrays import Array
    from core.gradcheck.setting import Setting

# Errors of one operation, in units of the last place of what it reads and writes: NumPy's functions err by up to 4.
UNITS = 8


class Rounding:
    """A bound, to first order, on the rounding error of `sum(upstream * output)`.

    It is `sum |v| |ds / dv|` over every input, parameter and intermediate value v, times the unit of the last place: a
    rounding error counts by what it does to the output, and not by the largest number in the graph.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        floats = list(setting.floats)
        steps = Program.compile(setting.graph, (setting.output,), batch=setting.batch, wrt=floats).instructions
        nodes = [step.name for step in steps if step.backward]
        # The values of forward, kept, beside a plan that keeps the gradients of all of them.
        self._plan = setting.plan([*floats, *nodes])
        program = Program.compile(
            setting.graph, nodes or (setting.output,), batch=setting.batch, dtype=np.float64, backward=False,
            training=True,
        )  # fmt: skip
        values = Plan(program, layout=setting.layout, parameters=setting.parameters)
        setting.feed(values, setting.inputs)
        with np.errstate(all="ignore"):
            values.forward(setting.key)
            self._plan.forward(setting.key)
        sizes = {name: values.inputs[name] for name in floats} | {name: values.value(name) for name in nodes}
        gradients = setting.gradients(self._plan)
        sizes |= {name: view for name, view in setting.layout.views(setting.parameters).items() if name in gradients}
        self._terms = [(np.abs(sizes[name]).ravel(), gradients[name]) for name in gradients]

    def of(self, upstream: Array) -> float:
        """Return the bound for one upstream gradient."""
        with np.errstate(all="ignore"):
            self._plan.backward({self._setting.output: upstream})
            total = sum(float(size @ np.abs(gradient).ravel()) for size, gradient in self._terms)
        return UNITS * float(np.finfo(np.float64).eps) * total
