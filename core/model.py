"""A model: a graph and its parameters."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from core.arrays import Array, aligned_zeros
from core.plan.indices import IndexCheck
from core.plan.layout import ParameterLayout
from core.plan.passes import rows_per_pass
from core.plan.plan import Plan
from core.plan.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.graph.graph import Graph

#: in a model's file, names of tensors that prepare the rows begin with this; the other tensors are parameters
PREPARATION = "inputs."


class Model:
    """A classifier's graph and its parameters in one flat vector.

    graph: with a node "scores", see `build_classifier`.
    parameters: flat vector, by default of float32 zeros. It is shared, not copied.
    """

    def __init__(self, graph: Graph, parameters: Array | None = None) -> None:
        self.graph, self.layout = graph, ParameterLayout(graph.parameters())
        self.parameters = aligned_zeros((self.layout.size,), np.float32) if parameters is None else parameters
        self.tensors = self.layout.views(self.parameters)
        #: checks what the model's plans have read as indices
        self.indices = IndexCheck(graph)
        self._programs: dict[int, Program] = {}
        self._plans: dict[int, Plan] = {}
        self._memory = aligned_zeros((0,), np.uint8)

    def plan(self, rows: int) -> Plan:
        """Return the plan of the forward pass in evaluation from a batch of `rows` to "scores".

        There is one plan for each number of rows, and all of them share memory: their inputs and scores last until
        another one is used. So only one thread may use a model: see `with_own_plans`.
        """
        if rows not in self._plans:
            if rows not in self._programs:
                self._programs[rows] = Program.compile(
                    self.graph,
                    ("scores", *self.indices.outputs),
                    batch=rows,
                    dtype=self.parameters.dtype,
                    backward=False,
                )
            program = self._programs[rows]
            if self._memory.nbytes < program.nbytes:
                self._memory = aligned_zeros((program.nbytes,), np.uint8)
            self._plans[rows] = Plan(program, memory=self._memory, layout=self.layout, parameters=self.parameters)
        return self._plans[rows]

    @cached_property
    def rows_per_pass(self) -> int:
        """How many rows go through the model at once; the last pass may have fewer."""
        return rows_per_pass(self.graph)

    def with_own_plans(self) -> Model:
        """Return a model for another thread: it shares graph, parameters and programs, but no plan."""
        other = copy(self)
        other._plans, other._memory = {}, aligned_zeros((0,), np.uint8)
        return other

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Copy all parameters from named tensors; ValueError as for `ParameterLayout.load`."""
        self.layout.load(tensors, self.parameters)


def split_tensors(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Split the tensors of a model's file: the parameters, and what prepares the rows, such as "mean", by name."""
    preparation = {
        name.removeprefix(PREPARATION): tensor for name, tensor in tensors.items() if name.startswith(PREPARATION)
    }
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(PREPARATION)}, preparation
