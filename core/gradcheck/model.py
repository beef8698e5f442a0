"""The gradient check of a classifier's model and loss on samples that it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.gradcheck.check import check_graph
from core.random import Purpose, generator

if TYPE_CHECKING:
    from core.arrays import Array
    from core.gradcheck.report import GradientReport
    from core.graph.graph import Graph
    from core.penalties.base import Penalty


def check_model(graph: Graph, rows: int = 4, seed: int = 0, penalty: Penalty | None = None) -> GradientReport:
    """Check the gradients of a model with its loss, the node "loss", on random samples."""
    return check_graph(graph, "loss", _samples(graph, rows, seed), seed)


def _samples(graph: Graph, rows: int, seed: int) -> dict[str, Array]:
    """Standard normal features, and labels with equal probabilities for the classes."""
    random, shapes, loss = generator(seed, Purpose.CHECK, stream=1), graph.shapes(rows), graph.nodes["loss"]
    classes = loss.node.index_limits(*(shapes[name] for name in loss.inputs)).get(1, 0)
    return {
        name: random.integers(0, classes, shapes[name]) if declared.integer else random.standard_normal(shapes[name])
        for name, declared in graph.inputs.items()
    }
