"""A graph compiled for a batch size, a dtype and a mode: which nodes run and where their arrays lie, but no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core.plan.arena import Buffer, Lifetime, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from core.arrays import Shape
    from core.graph.graph import Graph
    from core.graph.node import Node, ParameterDeclaration, WorkspaceDeclaration

# What an array is, and whose: ("value", name), ("gradient", name), ("workspace", node, name), ("scratch", node, name)
# for scratch memory of backward, or ("contribution", node, position) for what a node adds to a gradient that another
# node wrote first.
Key = tuple[str, ...]

# The kinds of workspace whose dtype is not the plan's.
_NUMBERS: Mapping[str, np.dtype[np.generic]] = {"integer": np.dtype(np.int64), "noise": np.dtype(np.float32)}


@dataclass(frozen=True)
class Instruction:
    """A node that a plan visits: what it reads and keeps, and whether backward visits it as well."""

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


@dataclass(frozen=True)
class Program:
    """What a plan does, and where its arrays lie in its memory. Several plans can share one program.

    instructions: the nodes to visit, in topological order; nodes that no output depends on are left out.
    inputs: names of the graph's inputs.
    parameters: all parameters of the graph.
    buffers: the place of each array except parameters and their gradients.
    nbytes: size of a plan's memory, which holds these buffers. Vectors of parameters and gradients are not included.
    """

    outputs: tuple[str, ...]
    dtype: np.dtype[np.generic]
    wrt: tuple[str, ...]
    backward: bool
    instructions: tuple[Instruction, ...]
    inputs: tuple[str, ...]
    parameters: tuple[ParameterDeclaration, ...]
    buffers: Mapping[Key, Buffer]
    nbytes: int

    @classmethod
    def compile(
        cls,
        graph: Graph,
        outputs: Iterable[str],
        *,
        batch: int = 1,
        dtype: npt.DTypeLike = np.float32,
        wrt: Iterable[str] = (),
        backward: bool = True,
        training: bool | None = None,
    ) -> Program:
        """Compile the computation of the given outputs.

        batch: size of the batch dimension; 0 is allowed.
        dtype: of parameters, values and gradients. Integer inputs are int64.
        wrt: inputs or nodes whose gradients a plan keeps after backward.
        backward: False for a forward pass alone, which keeps nothing for backward.
        training: whether dropout drops and batch normalization uses the batch's own statistics; by default, as
        `backward`.

        Raises GraphError for an invalid graph, and ValueError for names in `outputs` or `wrt` that do not fit it.
        """
        outputs, wrt, dtype = tuple(outputs), tuple(wrt), np.dtype(dtype)
        shapes = graph.shapes(batch)
        _check_names(graph, outputs, wrt)
        parameters = tuple(graph.parameters(shapes))
        shapes |= {parameter.name: parameter.shape for parameter in parameters}
        differentiable = {*(parameter.name for parameter in parameters), *wrt} if backward else set()
        steps = _needed_steps(
            graph, shapes, outputs, differentiable, training=backward if training is None else training
        )
        reused = _lifetimes(steps, shapes, dtype, outputs=outputs, wrt=wrt, differentiable=differentiable)
        for name in wrt:
            if ("gradient", name) not in reused:
                raise ValueError(f"wrt {name!r} has no gradient: no output depends on it, or backward is False")
        inputs: dict[Key, Lifetime] = {
            ("value", name): Lifetime(shapes[name], _NUMBERS["integer"] if declared.integer else dtype, 0, 0)
            for name, declared in graph.inputs.items()
        }
        # Inputs keep their values from step to step, so they lie side by side behind the buffers that are reused.
        buffers, reused_bytes = _placed(reused, 0)
        input_buffers, nbytes = _placed(inputs, reused_bytes)
        return cls(
            outputs, dtype, wrt, backward, steps, tuple(graph.inputs), parameters, buffers | input_buffers, nbytes
        )


def _placed(lifetimes: Mapping[Key, Lifetime], start: int) -> tuple[dict[Key, Buffer], int]:
    """Return buffers from the byte `start` on, and the byte at which they end."""
    offsets, size = place(list(lifetimes.values()))
    buffers = {
        key: Buffer(each.shape, each.dtype, start + offset)
        for (key, each), offset in zip(lifetimes.items(), offsets, strict=True)
    }
    return buffers, start + size


def _check_names(graph: Graph, outputs: Sequence[str], wrt: Sequence[str]) -> None:
    for name in outputs:
        if name not in graph.nodes:
            raise ValueError(f"output {name!r} is not a node; the nodes are {', '.join(graph.nodes)}")
    values = [*graph.inputs, *graph.nodes]
    for name in wrt:
        if name not in values:
            raise ValueError(f"wrt {name!r} is neither an input nor a node; there are {', '.join(values)}")
        if name in graph.inputs and graph.inputs[name].integer:
            raise ValueError(f"wrt {name!r} holds integers, which have no gradient")


def _needed_steps(
    graph: Graph, shapes: dict[str, Shape], outputs: Sequence[str], differentiable: set[str], *, training: bool
) -> tuple[Instruction, ...]:
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
        steps.append(Instruction(name, node, placed.inputs, parameters, workspace, backward))
    return tuple(steps)


def _lifetimes(
    steps: Sequence[Instruction],
    shapes: Mapping[str, Shape],
    dtype: np.dtype[np.generic],
    *,
    outputs: Sequence[str],
    wrt: Sequence[str],
    differentiable: set[str],
) -> dict[Key, Lifetime]:
    """Return the lifetime of each array of a plan, by key, without inputs and parameters.

    Of n steps, step i runs forward at time i and backward at time 2n - 1 - i. What backward reads lives to the end, for
    a second backward. A gradient can use the memory of a value that is no longer needed.
    """
    end = 2 * len(steps)
    arrays: dict[Key, Lifetime] = {}

    def keep(key: Key, until: int) -> None:
        if key in arrays:
            arrays[key].last = max(arrays[key].last, until)

    # `Plan.forward_again` visits single nodes of such a program, whose scratch memory must not lie where a value does.
    results = set(outputs)
    again = {step.name for step in steps} <= results
    for time, step in enumerate(steps):
        output = step.name in results
        first = 0 if again else time
        arrays["value", step.name] = Lifetime(shapes[step.name], dtype, first, end if output else time)
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
        inputs = set(step.inputs)
        for position, name in enumerate(step.reads):
            if name not in differentiable:
                continue
            if name in written:
                arrays["contribution", step.name, str(position)] = Lifetime(shapes[name], dtype, time, time)
            elif name in inputs:
                arrays["gradient", name] = Lifetime(shapes[name], dtype, time, time)
            written.add(name)
    for name in wrt:
        keep(("gradient", name), end)
    return arrays
