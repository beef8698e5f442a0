"""Summary of a graph as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.graph.graph import DeclaredShape, Graph


@dataclass(frozen=True)
class Row:
    """An input, node or group of a graph. `count` is the number of its parameters, which `owner` may share with it."""

    name: str
    type: str
    reads: tuple[str, ...]
    shape: DeclaredShape
    count: int
    owner: str | None

    @property
    def learns(self) -> str:
        """The number of parameters, or the node that shares its parameters; "" if there are none."""
        if self.count and self.owner != self.name:
            return f"those of {self.owner}"
        return f"{self.count:,}" if self.count else ""


def table_rows(graph: Graph, *, expanded: bool = False) -> list[Row]:
    """Return the inputs, then the nodes in topological order. Running averages are not counted as parameters.

    The nodes of a group are one row, unless `expanded`.
    """
    shapes = graph.symbolic_shapes()
    counts: Counter[str] = Counter()
    for parameter in graph.parameters():
        counts[parameter.name.partition(".")[0]] += 0 if parameter.statistic else prod(parameter.shape)
    found = [
        Row(name, "integers" if declared.integer else "input", (), shapes[name], 0, None)
        for name, declared in graph.inputs.items()
    ]
    for name in graph.order():
        placed, owner = graph.nodes[name], graph.owner(name)
        # Registered nodes have a type in specs.
        kind = getattr(placed.node, "type", type(placed.node).__name__)
        found.append(Row(name, kind, placed.inputs, shapes[name], counts[owner], owner))
    return found if expanded else _folded(graph, found)


def _folded(graph: Graph, rows: list[Row]) -> list[Row]:
    """Return one row for each group, where its last node was: it reads what its nodes read outside of it."""
    group_of = {node: name for name, group in graph.groups.items() for node in group.nodes}
    reads: dict[str, dict[str, None]] = {name: {} for name in graph.groups}
    counts: Counter[str] = Counter()
    for row in rows:
        if (group := group_of.get(row.name)) is not None:
            reads[group].update(dict.fromkeys(value for value in row.reads if group_of.get(value) != group))
            counts[group] += row.count if row.owner == row.name else 0
    found = []
    for row in rows:
        if (name := row.name) in graph.groups:
            found.append(Row(name, graph.groups[name].type, tuple(reads[name]), row.shape, counts[name], name))
        elif row.name not in group_of:
            found.append(row)
    return found


def summary(graph: Graph, *, expanded: bool = False) -> str:
    """Return a table of the inputs and nodes: name, type, inputs, shape and number of parameters, with a total.

    A block is one row, unless `expanded`.
    """
    found = table_rows(graph, expanded=expanded)
    rows = [("name", "type", "reads", "shape", "parameters")]
    rows += [(each.name, each.type, ", ".join(each.reads), str(each.shape), each.learns) for each in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    total = sum(each.count for each in found if each.owner == each.name)
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:], f"{total:,} parameters"]) + "\n"
