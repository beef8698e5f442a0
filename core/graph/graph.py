"""The computational graph: named nodes and their inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

from core.graph.multipliers import multiplied
from core.graph.node import AxesError
from core.names import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.arrays import Shape
    from core.graph.multipliers import Multipliers
    from core.graph.node import Node, ParameterDeclaration


class _Dimension(Enum):
    BATCH = "batch"

    def __repr__(self) -> str:
        return self.value


#: placeholder for the batch size in a declared shape
BATCH: Final = _Dimension.BATCH
MOST_AXES = 16  # of a value; NumPy has at most 64, and some nodes use several for one
KEPT_SHAPES = 8  # batch sizes for which a graph keeps its shapes
DeclaredShape = tuple[int | _Dimension, ...]


class GraphError(ValueError):
    """An invalid graph. The message names the nodes.

    `node` is the invalid node, if it is a single one, and `field` what is wrong about its place, if it is one thing.
    `axes` is the number of axes that the rows it reads need, if they have another one.
    """

    def __init__(
        self, message: str, node: str | None = None, field: str | None = None, axes: int | None = None
    ) -> None:
        super().__init__(message)
        self.node, self.field, self.axes = node, field, axes


@dataclass(frozen=True)
class Input:
    """An input of the graph: its shape, and whether its dtype is int64, as for class labels, or float."""

    shape: DeclaredShape
    integer: bool


@dataclass(frozen=True)
class Placed:
    """A node in a graph: the names of its inputs, and of the node whose parameters it uses, by default its own.

    `multipliers` are those of its own parameters, by name.
    """

    node: Node
    inputs: tuple[str, ...]
    owner: str
    multipliers: Mapping[str, Multipliers] | None = None


@dataclass(frozen=True)
class Group:
    """Nodes that are shown as one, such as those of a block: what they are, and their names, the last one its own."""

    type: str
    nodes: tuple[str, ...]


class Graph:
    """A directed acyclic graph of nodes. A value has the name of its input or of the node that computes it.

    A node may be added before the nodes that it reads, since the graph is checked when it is used. Recurrent networks
    are unrolled through time: each step is a node that shares the parameters of the first.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, Input] = {}
        self.nodes: dict[str, Placed] = {}
        #: by name, which is that of the last node
        self.groups: dict[str, Group] = {}
        #: auxiliary scores, and the factors of their losses
        self.heads: dict[str, float] = {}
        self._order: list[str] | None = None
        self._shapes: dict[int, dict[str, Shape]] = {}  # of the last batch sizes
        self._owners: dict[str, str] = {}
        self._parameters: dict[str, tuple[ParameterDeclaration, ...]] = {}

    def input(self, name: str, shape: DeclaredShape, *, integer: bool = False) -> str:
        """Declare an input and return its name. The shape of a scalar is `()`."""
        self._claim(name)
        self.inputs[name] = Input(shape, integer)
        return name

    def add(
        self,
        name: str,
        node: Node,
        *inputs: str,
        share: str | None = None,
        multipliers: Mapping[str, Multipliers] | None = None,
    ) -> str:
        """Add a node that reads the named values, and return its name. With `share`, it uses that node's parameters.

        `multipliers` are those of the node's parameters, by name.
        """
        self._claim(name)
        if len(inputs) < node.arity or (len(inputs) > node.arity and not node.variadic):
            takes = f"{'at least ' if node.variadic else ''}{node.arity} inputs"
            raise GraphError(f"node {name!r} ({type(node).__name__}) takes {takes}, not {len(inputs)}", name)
        if share is not None and multipliers is not None:
            message = f"uses the parameters of {share!r}, which can have multipliers, and has none of its own"
            raise GraphError(f"node {name!r} {message}", name, "multipliers")
        self.nodes[name] = Placed(node, inputs, name if share is None else share, multipliers)
        return name

    def _claim(self, name: str) -> None:
        if name in self.inputs or name in self.nodes:
            raise GraphError(f"the name {name!r} is already taken", name)
        if "." in name:
            raise GraphError(f"the name {name!r} contains a dot, which is reserved for parameters, as in 'fc1.weight'")
        self._order = None
        self._shapes.clear()
        self._owners.clear()
        self._parameters.clear()

    def multiply(self, name: str, multipliers: Mapping[str, Multipliers]) -> None:
        """Give a node other multipliers."""
        self.nodes[name] = replace(self.nodes[name], multipliers=multipliers)
        self._parameters.clear()

    def order(self) -> list[str]:
        """Return the nodes in topological order. A cycle raises GraphError with the nodes on it.

        The order is computed once, and again after the graph has changed.
        """
        if self._order is None:
            self._order = self._sorted()
        return list(self._order)

    def _sorted(self) -> list[str]:
        for name, placed in self.nodes.items():
            for value in placed.inputs:
                if value not in self.nodes and value not in self.inputs:
                    near = suggest(value, [*self.inputs, *self.nodes])
                    raise GraphError(f"node {name!r} reads {value!r}, which is neither an input nor a node{near}", name)
        reads = {name: [v for v in placed.inputs if v in self.nodes] for name, placed in self.nodes.items()}
        try:
            return list(TopologicalSorter(reads).static_order())
        except CycleError as error:
            cycle = " -> ".join(error.args[1])
            raise GraphError(f"the graph has a cycle: {cycle}; unroll recurrence through time instead") from None

    def shapes(self, batch: int = 1) -> dict[str, Shape]:
        """Return the shape of each input and node for a batch size. Raises GraphError if they do not fit together.

        They are computed once for a batch size, and again after the graph has changed.
        """
        if batch not in self._shapes:
            if len(self._shapes) == KEPT_SHAPES:
                self._shapes.clear()
            self._shapes[batch] = self._inferred(batch)
        return dict(self._shapes[batch])

    def _inferred(self, batch: int) -> dict[str, Shape]:
        shapes = {
            name: tuple(batch if size is BATCH else size for size in declared.shape)
            for name, declared in self.inputs.items()
        }
        for name in self.order():
            placed = self.nodes[name]
            try:
                shapes[name] = placed.node.infer(*(shapes[value] for value in placed.inputs))
            except ValueError as error:
                message = f"node {name!r}, which reads {', '.join(placed.inputs)}: {error}"
                axes = error.axes if isinstance(error, AxesError) else None
                raise GraphError(message, name, axes=axes) from None
            if len(shapes[name]) > MOST_AXES:
                raise GraphError(f"the output of node {name!r} has {len(shapes[name])} axes: at most {MOST_AXES}", name)
        return shapes

    def multiply_adds(self, batch: int = 1) -> int:
        """Return how many multiplications a forward pass takes, about. Raises GraphError like `shapes`."""
        shapes = self.shapes(batch)
        return sum(each.node.multiply_adds(*(shapes[value] for value in each.inputs)) for each in self.nodes.values())

    def symbolic_shapes(self) -> dict[str, DeclaredShape]:
        """Return the shape of each input and node, with BATCH for axes that depend on the batch size."""
        one, two = self.shapes(batch=2), self.shapes(batch=3)
        return {
            name: tuple(size if size == other else BATCH for size, other in zip(shape, two[name], strict=True))
            for name, shape in one.items()
        }

    def owner(self, name: str) -> str:
        """Return the node whose parameters a node uses, through any chain of sharing.

        It is followed once for all nodes of the chain, and again after the graph has changed.
        """
        chain: dict[str, None] = {}  # in order; a dictionary, since long chains are searched for cycles
        last = name
        while last not in self._owners and (owner := self.nodes[last].owner) != last:
            chain[last] = None
            if owner not in self.nodes:
                near = suggest(owner, self.nodes)
                raise GraphError(f"node {last!r} shares the parameters of {owner!r}, which is not a node{near}", name)
            if owner in chain:
                raise GraphError(f"nodes share parameters in a cycle: {' -> '.join([*chain, owner])}")
            last = owner
        found = self._owners.setdefault(last, last)
        self._owners.update(dict.fromkeys(chain, found))
        return found

    def parameters_of(self, name: str, shapes: dict[str, Shape]) -> tuple[ParameterDeclaration, ...]:
        """Return the parameters that a node uses, with their full names `owner.parameter`.

        `shapes` are those of the graph for any batch size, on which the parameters do not depend. They are computed
        once, and again after the graph has changed.
        """
        if name not in self._parameters:
            self._parameters[name] = self._declared(name, shapes)
        return self._parameters[name]

    def _declared(self, name: str, shapes: dict[str, Shape]) -> tuple[ParameterDeclaration, ...]:
        placed, owner = self.nodes[name], self.owner(name)
        declared = placed.node.parameters(*(shapes[value] for value in placed.inputs))
        if multipliers := self.nodes[owner].multipliers:
            try:
                declared = multiplied(declared, multipliers)
            except ValueError as error:
                raise GraphError(f"node {owner!r} {error}", owner, "multipliers") from None
        return tuple(replace(parameter, name=f"{owner}.{parameter.name}") for parameter in declared)

    def parameters(self, shapes: dict[str, Shape] | None = None) -> list[ParameterDeclaration]:
        """Return every parameter once, in the order of their nodes.

        `shapes` are those of the graph for any batch size, if the caller has computed them already. Raises GraphError
        for nodes that share a parameter and disagree on its shape.
        """
        shapes = self.shapes() if shapes is None else shapes
        declared: dict[str, ParameterDeclaration] = {}
        order = self.order()
        owners = [name for name in order if self.owner(name) == name]
        for name in owners:
            declared.update((parameter.name, parameter) for parameter in self.parameters_of(name, shapes))
        for name in order:
            for parameter in self.parameters_of(name, shapes):
                if parameter.statistic and self.owner(name) != name:
                    raise GraphError(
                        f"node {name!r} cannot share {parameter.name}, a running average of one node", name
                    )
                shared = declared.get(parameter.name)
                if shared is None or shared.shape != parameter.shape:
                    there = "it does not exist" if shared is None else f"it has shape {shared.shape}"
                    raise GraphError(
                        f"node {name!r} needs {parameter.name} of shape {parameter.shape}, but {there}", name
                    )
        return list(declared.values())
