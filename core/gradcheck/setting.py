"""A graph at the point where it is checked: its inputs, parameters and random numbers, and plans at that point."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING

import numpy as np

from core.graph.graph import BATCH, Graph
from core.plan.layout import ParameterLayout
from core.plan.plan import Plan
from core.plan.program import Program
from core.random import Purpose, RandomKey, generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from core.arrays import Array


@dataclass(frozen=True)
class Setting:
    """A graph, the node whose value is differentiated, and the point at which it is."""

    graph: Graph
    output: str
    inputs: Mapping[str, Array]
    batch: int
    layout: ParameterLayout
    parameters: Array
    key: RandomKey

    @classmethod
    def draw(cls, graph: Graph, output: str, inputs: Mapping[str, npt.ArrayLike], seed: int) -> Setting:
        """Return a setting with parameters drawn from a normal distribution, of variance 1 / inputs for weights."""
        random = generator(seed, Purpose.CHECK)
        layout = ParameterLayout(graph.parameters())
        parameters = np.zeros(layout.size)
        views = layout.views(parameters)
        for name in learnt(layout):
            views[name][...] = random.standard_normal(views[name].shape) / sqrt(prod(views[name].shape[:-1]))
        arrays = {name: np.asarray(values) for name, values in inputs.items()}
        return cls(graph, output, arrays, _batch(graph, arrays), layout, parameters, RandomKey(seed))

    @property
    def floats(self) -> tuple[str, ...]:
        """The inputs that have a gradient."""
        return tuple(name for name, declared in self.graph.inputs.items() if not declared.integer)

    @property
    def work(self) -> int:
        """About the multiplications of a forward pass: each parameter, and each number of a value, once for a row."""
        shapes = self.graph.shapes(self.batch)
        return self.batch * self.layout.size + sum(map(prod, shapes.values()))

    def plan(self, wrt: Iterable[str], dtype: npt.DTypeLike = np.float64, graph: Graph | None = None) -> Plan:
        """Return a plan in training, with the inputs and parameters of this setting."""
        program = Program.compile(graph or self.graph, (self.output,), batch=self.batch, dtype=dtype, wrt=wrt)
        plan = Plan(program, layout=self.layout, parameters=self.parameters.astype(dtype, copy=False))
        self.feed(plan, self.inputs)
        return plan

    def feed(self, plan: Plan, inputs: Mapping[str, Array]) -> None:
        """Copy inputs into a plan."""
        for name, values in inputs.items():
            plan.inputs[name][...] = values

    def gradients(self, plan: Plan) -> dict[str, Array]:
        """Return the buffers of the gradients of the inputs, where the plan keeps them, and of the parameters."""
        slots = self.layout.views(plan.gradients)
        inputs = {name: plan.gradient(name) for name in plan.program.wrt}
        return inputs | {name: slots[name] for name in learnt(self.layout)}


def learnt(layout: ParameterLayout) -> list[str]:
    """Return the parameters but running averages, on which forward in training does not depend."""
    return [name for name, declaration in layout.declarations.items() if not declaration.statistic]


def _batch(graph: Graph, inputs: Mapping[str, Array]) -> int:
    """Return the batch size of the given inputs, 1 where none has a batch dimension."""
    for name, declared in graph.inputs.items():
        if BATCH in declared.shape:
            return int(inputs[name].shape[declared.shape.index(BATCH)])
    return 1
