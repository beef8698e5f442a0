"""How many values the layers see that normalize over a shard, such as batch norm."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from workers.data.splitting import split_evenly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core import Graph


def normalizing(graph: Graph) -> list[str]:
    """The layers that normalize over a shard."""
    shapes = graph.shapes()
    return [
        name
        for name, placed in graph.nodes.items()
        if any(declared.statistic for declared in graph.parameters_of(placed.owner, shapes))
    ]


def normalized_values(graph: Graph, batch: int, shards: int, layers: Sequence[str]) -> dict[str, int]:
    """Values of each feature in the smallest shard of a batch that has rows, by the layer that normalizes over them.

    `layers` are those of `normalizing`.
    """
    if not layers:
        return {}
    rows = min(len(shard) for shard in split_evenly(batch, shards) if shard)
    shapes = graph.shapes(rows)
    return {name: prod(shapes[graph.nodes[name].inputs[0]][:-1]) for name in layers}
