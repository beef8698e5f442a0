"""A classifier's graph from a list of layers, in a chain or with branches, as a job describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from core.graph.graph import BATCH, Graph, GraphError
from core.graph.multipliers import Multipliers, multipliers_from_spec
from core.graph.node import Loss, Node, Task
from core.names import suggest
from core.registry import from_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.arrays import Shape

#: names that no layer may take: those of a classifier's other values, "scores", which is always the last layer, and
#: "inputs", since tensors "inputs.*" of a model's file are not parameters
RESERVED = ("features", "scores", "labels", "targets", "loss", "inputs")
#: fields of an entry that say where its node is placed
PLACE = frozenset({"name", "inputs", "share", "multipliers"})
#: the tasks with labels, int64 (batch,); the others have targets of the shape of the scores
LABELLED: Final[frozenset[Task]] = frozenset({"classification", "binary"})


class ModelError(GraphError):
    """An invalid model: `entry` is the position in its list, `field` the field of that entry, None for all of it."""

    def __init__(self, message: str, entry: int = 0, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.entry = entry


@dataclass(frozen=True)
class Entry:
    """An entry of a model's list: a node and its place in the graph.

    `name`: name by which later entries read it. `inputs`: names of earlier entries, or "features", that it reads; by
    default the previous entry. `share`: name of the earlier entry whose parameters it uses.
    `multipliers`: factors of the learning rate and the decay, by name of the parameter, as in {"bias": ...}.
    """

    node: Node
    name: str | None = None
    inputs: tuple[str, ...] | None = None
    share: str | None = None
    multipliers: Mapping[str, Multipliers] | None = None


def entry_from_spec(spec: Mapping[str, Any]) -> Entry:
    """Build an entry from its JSON form: a layer's spec, with the fields of `Entry` beside.

    Raises what `from_spec` raises, TypeError for inputs that are not a list, and what `multipliers_from_spec` raises.
    """
    inputs = spec.get("inputs")
    if isinstance(inputs, str):
        raise TypeError(f"{spec.get('type')}.inputs must be a list of names, not {inputs!r}")
    multipliers = spec.get("multipliers")
    thing = {key: value for key, value in spec.items() if key not in PLACE}
    return Entry(
        cast("Node", from_spec("layer", thing)),
        name=spec.get("name"),
        inputs=None if inputs is None else tuple(inputs),
        share=spec.get("share"),
        multipliers=None
        if multipliers is None
        else multipliers_from_spec(f"{spec.get('type')}.multipliers", multipliers),
    )


def reads_images(layers: Sequence[Node | Entry]) -> bool:
    """Return whether one of the layers that read "features" only accepts images."""
    for index, layer in enumerate(layers):
        entry = layer if isinstance(layer, Entry) else Entry(layer)
        inputs = entry.inputs or (() if index else ("features",))
        if "features" in inputs and entry.node.images:
            return True
    return False


def build_classifier(layers: Sequence[Node | Entry], inputs: int | Sequence[int]) -> Graph:
    """Return the graph of a model: input "features" (batch, *inputs), output "scores", the value of the last layer.

    `inputs` is the number of features of a row, or the shape of a row, such as (28, 28, 1).

    By default each layer reads the previous one; an `Entry` can name other inputs. A layer reads earlier layers only,
    so the graph has no cycle. Layers before the last are named by position and type, "0_linear", "1_relu", ..., unless
    they have a name. ModelError says which entry is wrong, shapes included.
    """
    if not layers:
        raise ValueError("a model needs at least one layer; a linear one makes scores")
    entries = [layer if isinstance(layer, Entry) else Entry(layer) for layer in layers]
    names = [_name(index, entry, last=index == len(entries) - 1) for index, entry in enumerate(entries)]
    graph = Graph()
    before = graph.input("features", (BATCH, *((inputs,) if isinstance(inputs, int) else inputs)))
    for index, (name, entry) in enumerate(zip(names, entries, strict=True)):
        reads = (before,) if entry.inputs is None else entry.inputs
        for value in reads:
            _check_earlier(value, index, "inputs", names, [*graph.inputs, *graph.nodes])
        if entry.share is not None:
            _check_earlier(entry.share, index, "share", names, list(graph.nodes))
        if name in graph.nodes:
            raise ModelError(f"the name {name!r} is already taken by layer {names.index(name)}", index, "name")
        try:
            before = graph.add(name, entry.node, *reads, share=entry.share, multipliers=entry.multipliers)
        except GraphError as error:
            raise ModelError(str(error), index, error.field or ("name" if "." in name else "inputs")) from None
    _check_whole(graph, names)
    return graph


def with_loss(graph: Graph, loss: Loss, task: Task | None = None) -> Graph:
    """Add the node "loss", (batch,), to the graph of a model, and its second input, and return the graph.

    The input is "labels", int64 (batch,), if the task is classification or binary, and "targets", shaped like the
    scores, otherwise. The task may be left out if the loss and the number of scores allow only one. Raises GraphError
    for a task that the loss does not have, and if there is more than one.
    """
    outputs = graph.shapes()["scores"][1:]
    if task is None:
        task = _only_task(loss, outputs)
    elif task not in loss.tasks:
        raise GraphError(f"{loss.type} is a loss for {' or '.join(sorted(loss.tasks))}, not for {task}")
    if task in LABELLED:
        target = graph.input("labels", (BATCH,), integer=True)
    else:
        target = graph.input("targets", (BATCH, *outputs))
    graph.add("loss", loss, "scores", target)
    return graph


def _only_task(loss: Loss, outputs: Shape) -> Task:
    # One score and one label is a binary task, although it could be a multilabel task of one label.
    excluded = {"classification", "multilabel"} if outputs in {(), (1,)} else {"binary"}
    possible = sorted(loss.tasks - excluded) or sorted(loss.tasks)
    if len(possible) > 1:
        tasks = " and ".join(possible)
        raise GraphError(f"{loss.type} with scores of shape {(BATCH, *outputs)} is a loss for {tasks}: name the task")
    return possible[0]


def _name(index: int, entry: Entry, *, last: bool) -> str:
    if last:
        if entry.name not in {None, "scores"}:
            raise ModelError(f"the last layer is named 'scores', not {entry.name!r}; leave its name out", index, "name")
        return "scores"
    if entry.name in RESERVED:
        raise ModelError(f"the name {entry.name!r} is reserved", index, "name")
    # A node that is not registered has no type.
    return f"{index}_{getattr(entry.node, 'type', type(entry.node).__name__)}" if entry.name is None else entry.name


def _check_earlier(name: str, index: int, field: str, names: Sequence[str], earlier: Sequence[str]) -> None:
    if name in earlier:
        return
    if name in names:
        which = "itself" if name == names[index] else f"{name!r}, which comes later"
        raise ModelError(f"layer {names[index]!r} names {which}: it can only name an earlier layer", index, field)
    known = ", ".join(earlier) or "none"
    near = suggest(name, earlier)
    raise ModelError(
        f"layer {names[index]!r} names {name!r}, which is not an earlier layer; these are {known}{near}", index, field
    )


def _check_whole(graph: Graph, names: Sequence[str]) -> None:
    read = {value for placed in graph.nodes.values() for value in placed.inputs}
    for index, name in enumerate(names[:-1]):
        if name not in read:
            raise ModelError(f"no layer reads {name!r}: name it in the inputs of one, or leave it out", index)
    try:
        graph.parameters()
    except GraphError as error:
        raise ModelError(str(error), names.index(error.node) if error.node in names else 0, error.field) from None
