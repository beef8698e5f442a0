"""What nodes read as indices: from which columns of the features, and whether the numbers are indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from core.arrays import Array, Namespace
    from core.graph.graph import Graph

#: stands for an entry that does not depend on one column alone
NO_COLUMN = -1


@dataclass(frozen=True)
class IndexRead:
    """A node that reads floats as indices: the value that it reads, and the number of valid indices, from 0."""

    node: str
    source: str
    limit: int


def index_reads(graph: Graph) -> list[IndexRead]:
    """Return what the nodes of a graph read as indices, except for inputs of integers, such as labels."""
    shapes = graph.shapes()
    return [
        IndexRead(name, placed.inputs[position], limit)
        for name, placed in graph.nodes.items()
        for position, limit in placed.node.index_limits(*(shapes[value] for value in placed.inputs)).items()
        if placed.inputs[position] not in graph.inputs or not graph.inputs[placed.inputs[position]].integer
    ]


def columns_of(graph: Graph) -> dict[str, Array]:
    """Return the column of "features" that each entry of each value depends on, for one row, int64 by name.

    An entry that depends on more than one column, or on parameters, has `NO_COLUMN`. Such values take no memory. The
    arrays are read-only.
    """
    shapes = graph.shapes(batch=1)
    none = np.array(NO_COLUMN)
    columns: dict[str, Array] = {name: np.broadcast_to(none, shapes[name]) for name in graph.inputs}
    columns["features"] = np.arange(columns["features"].size).reshape(shapes["features"])
    for name in graph.order():
        placed = graph.nodes[name]
        origins = placed.node.origins(*(columns[value] for value in placed.inputs))
        columns[name] = np.broadcast_to(none, shapes[name]) if origins is None else origins
    return columns


def first_invalid(values: Array, limit: int, xp: Namespace = np) -> tuple[int, ...] | None:
    """Return the place of the first number that is not an integer from 0 to `limit` - 1; None if there is none."""
    invalid = (values < 0) | (values >= limit) | (values != xp.floor(values))
    return tuple(int(index) for index in xp.argwhere(invalid)[0]) if invalid.any() else None
