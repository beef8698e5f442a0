"""Pictures of a graph as text: Graphviz DOT, and Mermaid, which many Markdown viewers draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.graph.table import Entry, entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.graph.graph import Graph


def to_dot(graph: Graph) -> str:
    """Return the graph in the language of Graphviz: `dot -Tsvg` draws it.

    Boxes have the name, type, shape and number of parameters; a dashed arrow leads to a node from the one whose
    parameters it shares. Equal graphs give equal text.
    """
    found = entries(graph)
    lines = ["digraph {", "  node [shape=box];"]
    for index, entry in enumerate(found):
        label = "\\n".join(map(_dot_text, words_of(entry)))
        lines.append(f'  n{index} [label="{label}"{"" if entry.owner else ", shape=ellipse"}];')
    for source, target, shares in arrows_of(found):
        lines.append(f"  n{source} -> n{target}{' [style=dashed, constraint=false]' if shares else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(graph: Graph) -> str:
    """Return the graph as a Mermaid flowchart; see `to_dot` for what it shows."""
    found = entries(graph)
    lines = ["flowchart TD"]
    for index, entry in enumerate(found):
        label = "<br/>".join(map(_mermaid_text, words_of(entry)))
        lines.append(f'  n{index}["{label}"]' if entry.owner else f'  n{index}(["{label}"])')
    lines += [f"  n{source} {'-.->' if shares else '-->'} n{target}" for source, target, shares in arrows_of(found)]
    return "\n".join(lines) + "\n"


def words_of(entry: Entry) -> list[str]:
    """Return the lines that stand in an entry's box."""
    words = [f"{entry.name}: {entry.type}", str(entry.shape)]
    return [*words, f"parameters: {entry.learns}"] if entry.learns else words


def arrows_of(found: list[Entry]) -> Iterator[tuple[int, int, bool]]:
    """Yield each arrow: (from, to, whether it stands for shared parameters), as positions."""
    positions = {entry.name: index for index, entry in enumerate(found)}
    for target, entry in enumerate(found):
        yield from ((positions[value], target, False) for value in entry.reads)
        if entry.owner not in {None, entry.name} and entry.count:
            yield positions[str(entry.owner)], target, True


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _mermaid_text(text: str) -> str:
    """Replace what means something to Mermaid by its numeric code, which it writes without the ampersand."""
    return "".join(f"#{ord(character)};" if character in '#"<>&`\\\n' else character for character in text)
