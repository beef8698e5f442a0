"""Picture of a graph as Graphviz DOT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.drawing.boxes import arrows_of, words_of
from core.graph.table import table_rows

if TYPE_CHECKING:
    from core.graph.graph import Graph


def to_dot(graph: Graph, *, expanded: bool = False) -> str:
    """Return the graph in the language of Graphviz: `dot -Tsvg` draws it.

    Boxes have the name, type, shape and number of parameters; a dashed arrow leads to a node from the one whose
    parameters it shares. A block is one box, unless `expanded`. Equal graphs give equal text.
    """
    found = table_rows(graph, expanded=expanded)
    lines = ["digraph {", "  node [shape=box];"]
    for index, entry in enumerate(found):
        label = "\\n".join(map(_escaped, words_of(entry)))
        lines.append(f'  n{index} [label="{label}"{"" if entry.owner else ", shape=ellipse"}];')
    for source, target, shares in arrows_of(found):
        lines.append(f"  n{source} -> n{target}{' [style=dashed, constraint=false]' if shares else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
