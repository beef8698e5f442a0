"""A look at the data, off the path of every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.graph.graph import BATCH, Graph, GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from core.arrays import Array, Shape


def check_inputs(graph: Graph, inputs: Mapping[str, npt.ArrayLike]) -> None:
    """Check data against what the graph declares and its nodes can read.

    Raises GraphError that names the input, the entry and the node: for an input that is missing or unknown, a shape
    that does not fit, a number that is not finite, and an index, such as a class label, out of its range. Plans look at
    none of this, as it would cost every step some time: use it where data comes in.
    """
    if set(inputs) != set(graph.inputs):
        raise GraphError(f"the graph's inputs are {_listed(graph.inputs)}; given are {_listed(inputs)}")
    arrays = {name: np.asarray(values) for name, values in inputs.items()}
    batch = 1
    for name, declared in graph.inputs.items():
        if BATCH in declared.shape and arrays[name].ndim == len(declared.shape):
            batch = arrays[name].shape[declared.shape.index(BATCH)]
            break
    shapes = graph.shapes(batch)
    for name, array in arrays.items():
        _check_array(name, array, shapes[name], integer=graph.inputs[name].integer)
    for name, placed in graph.nodes.items():
        limits = placed.node.index_limits(*(shapes[value] for value in placed.inputs))
        for position, limit in limits.items():
            source = placed.inputs[position]
            if source in arrays:
                _check_indices(source, arrays[source], name, limit)


def _check_array(name: str, array: Array, shape: Shape, *, integer: bool) -> None:
    if array.shape != shape:
        raise GraphError(f"input {name!r} is of shape {array.shape}, but must be of shape {shape}")
    if array.dtype.kind not in ("iu" if integer else "iuf"):
        raise GraphError(f"input {name!r} holds {array.dtype}, but must hold {'integers' if integer else 'numbers'}")
    if not np.isfinite(array).all():
        place = _first(~np.isfinite(array))
        raise GraphError(f"input {name!r} has {array[place]} at {list(place)}: every number must be finite")


def _check_indices(name: str, array: Array, node: str, limit: int) -> None:
    wrong = (array < 0) | (array >= limit) | (array != np.floor(array))
    if wrong.any():
        place = _first(wrong)
        raise GraphError(
            f"input {name!r} has {array[place]} at {list(place)}, but node {node!r} takes the whole numbers from 0 to "
            f"{limit - 1}",
            node,
        )


def _first(where: Array) -> tuple[int, ...]:
    return tuple(int(index) for index in np.argwhere(where)[0])


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"
