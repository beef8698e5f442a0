"""The gradient check of a classifier's model, loss and penalty on samples that it draws."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from core.gradcheck.alone import Alone, check_alone
from core.gradcheck.check import check_graph
from core.gradcheck.penalty import penalty_problems
from core.gradcheck.report import GradientReport
from core.graph.classifier import loss_weights
from core.graph.graph import Graph
from core.layers.arithmetic.add import Add
from core.layers.arithmetic.scale import Scale
from core.plan.plan import Plan
from core.plan.program import Program
from core.random import Purpose, generator

if TYPE_CHECKING:
    from core.arrays import Array
    from core.penalties.base import Penalty


@np.errstate(all="ignore")
def check_model(graph: Graph, rows: int = 4, seed: int = 0, penalty: Penalty | None = None) -> GradientReport:
    """Check the gradients of a model with its loss, the node "loss", on random samples.

    The whole graph, with the sum that is minimized if it has heads, is checked on one batch of `rows` samples, and each
    of its nodes by itself on many: see
    `core.gradcheck.alone`. Nodes that are equal and have equal inputs are checked once. The gradients of the whole
    graph come first in the report; of the nodes by themselves only those follow that are not right.
    """
    try:
        whole = deepcopy(graph)
        report = check_graph(whole, _minimized(whole), _samples(deepcopy(graph), rows, seed), seed)
    except ValueError as error:
        report = GradientReport(seed, (), (f"the model raises ValueError: {error}",))
    for alone in _different_nodes(graph):
        report += check_alone(alone, seed)
    if penalty is not None:
        problems = penalty_problems(penalty, generator(seed, Purpose.CHECK, stream=4))
        report += GradientReport(seed, (), tuple(problems))
    return report


def _minimized(graph: Graph) -> str:
    """Add the weighted sum of the losses of a model and its heads; return its name."""
    if not graph.heads:
        return "loss"
    weighted = [
        graph.add(f"{name}/weighted", Scale(factor=weight), name) for name, weight in loss_weights(graph).items()
    ]
    return graph.add("loss/sum", Add(), *weighted)


def _different_nodes(graph: Graph) -> list[Alone]:
    """Return the first of the nodes that are equal, and read values of equal shapes."""
    shapes = graph.shapes(2)
    different: dict[object, Alone] = {}
    for name in graph.order():
        placed = graph.nodes[name]
        reads = tuple((shapes[value], placed.inputs.index(value)) for value in placed.inputs)
        different.setdefault(
            (type(placed.node), repr(placed.node), reads), Alone(name, placed.node, placed.inputs, graph)
        )
    return list(different.values())


def _samples(graph: Graph, rows: int, seed: int) -> dict[str, Array]:
    """Standard normal features, and as many different labels and indices as there are places for."""
    random, shapes = generator(seed, Purpose.CHECK, stream=1), graph.shapes(rows)
    samples = {name: random.standard_normal(shapes[name]) for name in graph.inputs}
    # Every number is another one, so that indices can be followed to the entries of the inputs that they are.
    for name, values, limit in _indices(graph, rows, samples):
        places = np.isin(samples[name], values)
        drawn = random.permutation(np.arange(np.count_nonzero(places)) % limit)
        samples[name][places] = drawn if graph.inputs[name].integer else drawn + 0.5
    return {
        name: samples[name].astype(np.int64) if declared.integer else samples[name]
        for name, declared in graph.inputs.items()
    }


def _indices(graph: Graph, rows: int, samples: dict[str, Array]) -> list[tuple[str, Array, int]]:
    """Return the inputs whose entries nodes read as indices: the input, these entries, and the number of indices."""
    shapes = graph.shapes(rows)
    found = []
    for placed in graph.nodes.values():
        for position, limit in placed.node.index_limits(*(shapes[value] for value in placed.inputs)).items():
            source = placed.inputs[position]
            values = samples[source] if source in samples else _value(graph, source, rows, samples)
            found += [(name, values.ravel(), limit) for name in graph.inputs]
    return found


def _value(graph: Graph, name: str, rows: int, samples: dict[str, Array]) -> Array:
    program = Program.compile(graph, (name,), batch=rows, dtype=np.float64, backward=False)
    plan = Plan(program)
    for value, array in samples.items():
        plan.inputs[value][...] = array
    plan.forward()
    return plan.value(name)
