"""A classifier's graph from a list of layers, in a chain or with branches, as a job describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core.graph.block import readers
from core.graph.entries import Entry, Head
from core.graph.graph import BATCH, Graph, GraphError
from core.graph.node import Loss, Node, Task
from core.graph.placing import Building, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Shape
    from core.graph.block import Composite

#: what the first layer reads
FEATURES = "features"
#: the tasks with labels, int64 (batch,); the others have targets of the shape of the scores
LABELLED: Final[frozenset[Task]] = frozenset({"classification", "binary"})


def reads_images(layers: Sequence[Node | Composite | Entry]) -> bool:
    """Return whether one of the layers that read "features" accepts images, but no lists of numbers."""
    return any(node.images for node in readers(_entries(layers), FEATURES))


def build_classifier(
    layers: Sequence[Node | Composite | Entry], inputs: int | Sequence[int], heads: Sequence[Head] = ()
) -> Graph:
    """Return the graph of a model: input "features" (batch, *inputs), output "scores", the value of the last layer.

    `inputs` is the number of features of a row, or the shape of a row, such as (28, 28, 1).

    By default each layer reads the previous one; an `Entry` can name other inputs. A layer reads earlier layers only,
    so the graph has no cycle. Layers before the last are named by position and type, "0_linear", "1_relu", ..., unless
    they have a name. Layers of a block are named likewise, after the name of the block and "_". A block's last layer
    has its name. So are layers of a head; nothing else depends on them. ModelError says which entry is wrong, shapes
    included.
    """
    if not layers:
        raise ValueError("a model needs at least one layer; a linear one makes scores")
    graph = Graph()
    building = Building(graph)
    shape = (inputs,) if isinstance(inputs, int) else inputs
    whole = Scope(None, FEATURES, graph.input(FEATURES, (BATCH, *shape)))
    building.place(_entries(layers), whole, "scores")
    for index, head in enumerate(heads):
        building.place_head(head, index, whole)
    building.check()
    return graph


def _entries(layers: Sequence[Node | Composite | Entry]) -> list[Entry]:
    return [layer if isinstance(layer, Entry) else Entry(layer) for layer in layers]


def with_loss(graph: Graph, loss: Loss, task: Task | None = None) -> Graph:
    """Add the node "loss", (batch,), to the graph of a model, and its second input, and return the graph.

    Each head gets a node "loss/NAME" with the same loss: see `loss_weights`.

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
    for head in graph.heads:
        graph.add(f"loss/{head}", loss, head, target)
    return graph


def loss_weights(graph: Graph) -> dict[str, float]:
    """Return the losses whose weighted sum is minimized: the model's, with 1, and those of its heads."""
    return {"loss": 1.0} | {f"loss/{head}": weight for head, weight in graph.heads.items()}


def _only_task(loss: Loss, outputs: Shape) -> Task:
    # One score and one label is a binary task, although it could be a multilabel task of one label.
    excluded = {"classification", "multilabel"} if outputs in {(), (1,)} else {"binary"}
    possible = sorted(loss.tasks - excluded) or sorted(loss.tasks)
    if len(possible) > 1:
        tasks = " and ".join(possible)
        raise GraphError(f"{loss.type} with scores of shape {(BATCH, *outputs)} is a loss for {tasks}: name the task")
    return possible[0]
