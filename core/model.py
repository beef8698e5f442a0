"""The graphs of models that a job describes as a list of layers."""

from collections.abc import Sequence

from core.graph import BATCH, Graph
from core.node import Layer, Loss


def build_classifier(layers: Sequence[Layer], features: int) -> Graph:
    """Return the graph of a chain of layers: input "features" (batch, features), output "scores" (batch, classes).

    The layers before the last are named by position and type: "0_linear", "1_relu", ...
    """
    if not layers:
        raise ValueError("a model needs at least one layer; a linear one makes scores")
    graph = Graph()
    value = graph.input("features", (BATCH, features))
    *hidden, last = layers
    for index, layer in enumerate(hidden):
        value = graph.add(f"{index}_{layer.type}", layer, value)
    graph.add("scores", last, value)
    return graph


def with_loss(graph: Graph, loss: Loss) -> Graph:
    """Add the node "loss", (batch,), to a classifier's graph, and its second input, and return the graph.

    The input is "labels", int64 (batch,), for a loss of class labels, and "targets", shaped like the scores, otherwise.
    """
    if loss.target == "labels":
        target = graph.input("labels", (BATCH,), integer=True)
    else:
        target = graph.input("targets", (BATCH, *graph.shapes()["scores"][1:]))
    graph.add("loss", loss, "scores", target)
    return graph
