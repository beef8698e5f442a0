"""Which arrays a pass over a graph works on, and from when until when each is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.plan.arena import Lifetime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.arrays import Shape
    from core.graph.graph import Graph
    from core.graph.node import Node, WorkspaceDeclaration

# What an array is, then whose: ("value", name), ("gradient", name), ("workspace", node, name), ("scratch", node, name)
# for a scratch of backward's, or ("contribution", node, position) for what a node adds to a gradient that another wrote
# first.
Key = tuple[str, ...]

# What the kinds of workspace hold that do not hold the plan's dtype.
_NUMBERS: Mapping[str, np.dtype[np.generic]] = {"integer": np.dtype(np.int64), "noise": np.dtype(np.float32)}


@dataclass(frozen=True)
class Step:
    """A node that a plan visits: what it reads and keeps, and whether backward visits it too."""

    name: str
    node: Node
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    workspace: WorkspaceDeclaration
    backward: bool

    @property
    def reads(self) -> tuple[str, ...]:
        """Everything that the node's forward reads, in its order."""
        return self.inputs + self.parameters


def needed_steps(
    graph: Graph, shapes: dict[str, Shape], outputs: Sequence[str], differentiable: set[str], *, training: bool
) -> list[Step]:
    """Return the nodes that `outputs` depend on, in topological order, as they are in training or in evaluation.

    Adds to `differentiable` the nodes that depend on what is in it.
    """
    order = graph.order()
    needed = set(outputs)
    for name in reversed(order):
        if name in needed:
            needed.update(graph.nodes[name].inputs)
    steps = []
    for name in (name for name in order if name in needed):
        placed = graph.nodes[name]
        parameters = tuple(parameter.name for parameter in graph.parameters_of(name, shapes))
        backward = name in differentiable or not differentiable.isdisjoint(placed.inputs + parameters)
        if backward:
            differentiable.add(name)
        node = placed.node if training else placed.node.evaluation()
        workspace = node.workspace(*(shapes[value] for value in placed.inputs))
        steps.append(Step(name, node, placed.inputs, parameters, workspace, backward))
    return steps


def lifetimes(
    steps: Sequence[Step],
    shapes: Mapping[str, Shape],
    dtype: np.dtype[np.generic],
    *,
    outputs: Sequence[str],
    wrt: Sequence[str],
    differentiable: set[str],
) -> dict[Key, Lifetime]:
    """Return the lifetime of each array that a plan owns, by key.

    Step i goes forward at time i and backward at time 2n - 1 - i, of n steps. What backward reads lives to the end, so
    that a second backward finds it; a gradient may lie where a value lay that nobody needs any more.
    """
    end = 2 * len(steps)
    arrays: dict[Key, Lifetime] = {}

    def keep(key: Key, until: int) -> None:
        if key in arrays:
            arrays[key].last = max(arrays[key].last, until)

    for time, step in enumerate(steps):
        arrays["value", step.name] = Lifetime(shapes[step.name], dtype, time, end if step.name in outputs else time)
        for name, (shape, kind) in step.workspace.items():
            kept = step.backward and kind in {"float", "integer"}
            arrays["workspace", step.name, name] = Lifetime(
                shape, _NUMBERS.get(kind, dtype), time, end if kept else time
            )
        for name in step.inputs:
            keep(("value", name), end if step.backward and "inputs" in step.node.retains else time)
        if step.backward and "output" in step.node.retains:
            keep(("value", step.name), end)

    written: set[str] = set()
    for time, step in enumerate(reversed(steps), start=len(steps)):
        if not step.backward:
            continue
        # An output has a gradient even where no other node contributes to it.
        arrays.setdefault(("gradient", step.name), Lifetime(shapes[step.name], dtype, time, time))
        keep(("gradient", step.name), time)
        scratch = ((name, shape) for name, (shape, kind) in step.workspace.items() if kind == "scratch")
        arrays.update((("scratch", step.name, name), Lifetime(shape, dtype, time, time)) for name, shape in scratch)
        for position, name in enumerate(step.reads):
            if name not in differentiable:
                continue
            if name in written:
                arrays["contribution", step.name, str(position)] = Lifetime(shapes[name], dtype, time, time)
            elif name in step.inputs:
                arrays["gradient", name] = Lifetime(shapes[name], dtype, time, time)
            written.add(name)
    for name in wrt:
        keep(("gradient", name), end)
    return arrays
