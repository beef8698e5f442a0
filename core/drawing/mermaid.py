"""Picture of a graph as Mermaid, which many Markdown viewers draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.drawing.boxes import arrows_of, words_of
from core.graph.table import table_rows

if TYPE_CHECKING:
    from core.graph.graph import Graph


def to_mermaid(graph: Graph, *, expanded: bool = False) -> str:
    """Return the graph as a Mermaid flowchart; see `to_dot` for what it shows."""
    found = table_rows(graph, expanded=expanded)
    lines = ["flowchart TD"]
    for index, entry in enumerate(found):
        label = "<br/>".join(map(_escaped, words_of(entry)))
        lines.append(f'  n{index}["{label}"]' if entry.owner else f'  n{index}(["{label}"])')
    lines += [f"  n{source} {'-.->' if shares else '-->'} n{target}" for source, target, shares in arrows_of(found)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Replace Mermaid's special characters by their numeric codes, which it writes without the ampersand."""
    return "".join(f"#{ord(character)};" if character in '#"<>&`\\\n' else character for character in text)
