"""Recurrent networks, unrolled through time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.graph.graph import Graph, GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def unroll(
    graph: Graph, cell: Graph, sequences: Mapping[str, Sequence[str]], states: Mapping[str, tuple[str, str]]
) -> dict[str, list[str]]:
    """Add a copy of `cell` to `graph` for each step of a sequence. All copies share the parameters of the first.

    sequences: for an input of the cell, the values of `graph` that it reads at each step.
    states: for an input of the cell, the value of `graph` that it reads at the first step, and the node of the cell
    whose value of the previous step it reads at later steps.

    Each input of the cell must be in exactly one of the two. The copies of node "h" are named "h_0", "h_1", ... Returns
    the names of the copies of each node. Backward through the unrolled graph is backpropagation through time.

    Raises GraphError if an input is in neither or both, a state does not name a node of the cell, or the sequences
    differ in length.

    Source: Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78, 1990.
    """
    if sorted([*sequences, *states]) != sorted(cell.inputs):
        given, wanted = (", ".join(sorted(names)) or "none" for names in ([*sequences, *states], cell.inputs))
        raise GraphError(f"sequences and states must name each input of the cell once: {wanted}, not {given}")
    for name, (_, source) in states.items():
        if source not in cell.nodes:
            raise GraphError(f"state {name!r} names {source!r}, which is not a node of the cell", source)
    lengths = {len(values) for values in sequences.values()}
    if len(lengths) != 1:
        raise GraphError(f"at least one sequence is needed, and all must have the same length, not {sorted(lengths)}")
    (steps,) = lengths

    copies: dict[str, list[str]] = {name: [] for name in cell.nodes}
    reads = {name: first for name, (first, _) in states.items()}
    for step in range(steps):
        reads |= {name: values[step] for name, values in sequences.items()}
        reads |= {name: f"{name}_{step}" for name in cell.nodes}
        for name in cell.order():
            placed = cell.nodes[name]
            owner = f"{cell.owner(name)}_0"
            inputs = (reads[value] for value in placed.inputs)
            copies[name].append(graph.add(f"{name}_{step}", placed.node, *inputs, share=owner))
        reads |= {name: f"{source}_{step}" for name, (_, source) in states.items()}
    return copies
