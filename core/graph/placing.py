"""Places the entries of a model in a graph, blocks within blocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, cast

from core.graph.block import INPUT, Block, Chain, Composite
from core.graph.entries import ModelError
from core.graph.graph import Graph, GraphError, Group
from core.names import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.graph.entries import Entry, Head
    from core.graph.multipliers import Multipliers
    from core.graph.node import Node

#: names that no layer may take: those of a classifier's other values, "scores", which is always the last layer, and
#: "inputs", since tensors "inputs.*" of a model's file are not parameters
RESERVED = ("features", "scores", "labels", "targets", "loss", "inputs")


@dataclass(frozen=True)
class _Place:
    """Place of an entry in the model: the position in the list `of`, and what follows, "" if nothing does.

    `written` is False for entries that a block makes itself; their place is that of the block.
    """

    entry: int
    below: str = ""
    written: bool = True
    of: str = "layers"

    def error(self, message: str, field: str | None = None, axes: int | None = None) -> ModelError:
        parts = [self.below, field if self.written else None]
        return ModelError(message, self.entry, ".".join(part for part in parts if part) or None, self.of, axes)


@dataclass
class Scope:
    """The entries of the model, or of a block: the block, and the name and value of what they read in the beginning."""

    prefix: str | None
    start: str
    value: str
    of: Composite | None = None
    place: _Place = _Place(0)
    #: full names of the values that can be read, by their names here
    known: dict[str, str] = field(init=False)
    blocks: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.known = {self.start: self.value}

    def full(self, name: str) -> str:
        """The name in the graph of an entry of this scope."""
        return name if self.prefix is None else f"{self.prefix}_{name}"

    def place_of(self, index: int) -> _Place:
        """The place in the model of the entry at a position of this scope."""
        if self.of is None:
            return _Place(index)
        if isinstance(self.of, Chain):
            within = f"{self.of.field}.{index}"
            return replace(
                self.place, below=f"{self.place.below}.{within}" if self.place.below else within, written=True
            )
        return replace(self.place, written=False)


class Building:
    """Adds the entries of a model to a graph, blocks within blocks."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._places: dict[str, _Place] = {}
        #: nodes and blocks that another one must read: all except the last of each list
        self._to_be_read: dict[str, _Place] = {}
        #: blocks that have multipliers, those within others first
        self._multiplied: list[tuple[_Place, tuple[str, ...], Mapping[str, Multipliers]]] = []

    def place(self, entries: Sequence[Entry], scope: Scope, output: str) -> None:
        """Add entries that follow one another; the value of the last has the name `output`."""
        names = [_name(scope, index, entry, last=index == len(entries) - 1) for index, entry in enumerate(entries)]
        placed_at: dict[str, int] = {}
        before = scope.value
        for index, (name, entry) in enumerate(zip(names, entries, strict=True)):
            place, last = scope.place_of(index), index == len(entries) - 1
            full = output if last else scope.full(name)
            inputs = [before]
            if entry.inputs is not None:
                for value in entry.inputs:
                    if value not in scope.known:
                        raise _not_earlier(value, names, (index, "inputs"), list(scope.known), place)
                inputs = [scope.known[value] for value in entry.inputs]
            if (earlier := placed_at.setdefault(name, index)) < index:
                raise place.error(f"the name {name!r} is already taken by layer {earlier}", "name")
            if full in self._graph.nodes:
                raise place.error(f"the name {full!r} is already taken", "name")
            if isinstance(entry.node, Composite):
                self._place_block(entry, place, inputs, scope.full(name), full)
                scope.blocks.add(name)
            else:
                self._place_layer(entry, place, inputs, full, self._owner(entry, scope, names, index))
            if not last:
                self._to_be_read[full] = place
            scope.known[name] = before = full

    def _owner(self, entry: Entry, scope: Scope, names: Sequence[str], index: int) -> str | None:
        if entry.share is None:
            return None
        place = scope.place_of(index)
        if entry.share not in scope.known or entry.share == scope.start:
            layers = [name for name in scope.known if name != scope.start]
            raise _not_earlier(entry.share, names, (index, "share"), layers, place)
        if entry.share in scope.blocks:
            raise place.error(
                f"layer {names[index]!r} shares the parameters of {entry.share!r}, which is a block", "share"
            )
        return scope.known[entry.share]

    def _place_layer(self, entry: Entry, place: _Place, inputs: Sequence[str], name: str, share: str | None) -> None:
        self._places[name] = place
        try:
            self._graph.add(name, cast("Node", entry.node), *inputs, share=share, multipliers=entry.multipliers)
        except GraphError as error:
            raise place.error(str(error), error.field or ("name" if "." in name else "inputs")) from None

    def _place_block(self, entry: Entry, place: _Place, inputs: Sequence[str], prefix: str, name: str) -> None:
        block = cast("Composite", entry.node)
        if entry.share is not None:
            raise place.error(f"block {name!r} cannot share the parameters of another", "share")
        if len(inputs) != 1:
            raise place.error(f"block {name!r} takes 1 input, not {len(inputs)}", "inputs")
        first = len(self._graph.nodes)
        self.place(block.entries(), Scope(prefix, INPUT, inputs[0], block, place), name)
        nodes = tuple(islice(reversed(self._graph.nodes), len(self._graph.nodes) - first))[::-1]  # without all before
        if place == _Place(place.entry) and isinstance(block, Block):
            self._graph.groups[name] = Group(block.type, nodes)
        if entry.multipliers is not None:
            self._multiplied.append((place, nodes, entry.multipliers))

    def place_head(self, head: Head, index: int, model: Scope) -> None:
        """Add an auxiliary head, a group of nodes that reads a value of the model."""
        name, place = f"head_{index}" if head.name is None else head.name, _Place(index, of="heads")
        if name in RESERVED or name in self._graph.nodes:
            raise place.error(f"the name {name!r} is {'reserved' if name in RESERVED else 'already taken'}", "name")
        if head.reads not in model.known:
            known, near = ", ".join(model.known), suggest(head.reads, model.known)
            raise place.error(
                f"head {name!r} reads {head.reads!r}, which is not a layer; these are {known}{near}", "reads"
            )
        if not head.layers:
            raise place.error(f"head {name!r} must have at least one layer", "layers")
        first = len(self._graph.nodes)
        self.place(head.layers, Scope(name, INPUT, model.known[head.reads], Chain(head.layers), place), name)
        self._graph.groups[name] = Group("head", tuple(self._graph.nodes)[first:])
        self._graph.heads[name] = head.weight

    def check(self) -> None:
        """Check that every value is read, and the shapes. Raises ModelError."""
        read = {value for placed in self._graph.nodes.values() for value in placed.inputs}
        for name, place in self._to_be_read.items():
            if name not in read:
                raise place.error(f"no layer reads {name!r}: name it in the inputs of one, or leave it out")
        try:
            for multiplied in self._multiplied:
                self._multiply(*multiplied)
            self._graph.parameters()
        except ModelError:
            raise
        except GraphError as error:
            raise self._places.get(error.node or "", _Place(0)).error(str(error), error.field, error.axes) from None
        shapes = self._graph.shapes()
        for name in self._graph.heads:
            if shapes[name] != shapes["scores"]:
                own, wanted = shapes[name][1:], shapes["scores"][1:]
                raise self._places[name].error(f"gives scores of shape {own}, but those of the model have {wanted}")

    def _multiply(self, place: _Place, nodes: Sequence[str], multipliers: Mapping[str, Multipliers]) -> None:
        """Give the multipliers of a block to its layers that have no others for the parameter."""
        shapes, known = self._graph.shapes(), set()
        for name in nodes:
            placed = self._graph.nodes[name]
            declared = placed.node.parameters(*(shapes[value] for value in placed.inputs))
            own = {each.name for each in declared if not each.statistic and placed.owner == name}
            known |= own
            if found := {parameter: multipliers[parameter] for parameter in own & multipliers.keys()}:
                self._graph.multiply(name, found | dict(placed.multipliers or {}))
        for parameter in multipliers.keys() - known:
            names = ", ".join(sorted(known)) or "(none)"
            message = f"has multipliers for {parameter!r}, but the trained parameters of its layers are {names}"
            raise place.error(f"block {nodes[-1]!r} {message}{suggest(parameter, known)}", "multipliers")


def _name(scope: Scope, index: int, entry: Entry, *, last: bool) -> str:
    """The name of an entry in its scope."""
    if scope.of is None and last:
        if entry.name not in {None, "scores"}:
            raise ModelError(f"the last layer is named 'scores', not {entry.name!r}; leave its name out", index, "name")
        return "scores"
    if entry.name in (RESERVED if scope.of is None else (INPUT,)):
        raise scope.place_of(index).error(f"the name {entry.name!r} is reserved", "name")
    # A node that is not registered has no type.
    return f"{index}_{getattr(entry.node, 'type', type(entry.node).__name__)}" if entry.name is None else entry.name


def _not_earlier(
    name: str, names: Sequence[str], where: tuple[int, str], earlier: Sequence[str], place: _Place
) -> ModelError:
    """The error of an entry, at a position of `names`, that names none of the earlier ones in a field."""
    index, of = where
    if name in names:
        which = "itself" if name == names[index] else f"{name!r}, which comes later"
        return place.error(f"layer {names[index]!r} names {which}: it can only name an earlier layer", of)
    known = ", ".join(earlier) or "none"
    near = suggest(name, earlier)
    return place.error(
        f"layer {names[index]!r} names {name!r}, which is not an earlier layer; these are {known}{near}", of
    )
