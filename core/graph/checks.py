"""Input checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.graph.graph import BATCH, Graph, GraphError
from core.graph.indices import first_invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from core.arrays import Array, Shape


def check_inputs(graph: Graph, inputs: Mapping[str, npt.ArrayLike]) -> None:
    """Check inputs against the declarations of a graph and the index ranges of its nodes.

    Raises GraphError, which names the input, the element and the node, if an input is missing or unknown, a shape does
    not fit, a number is not finite, or an index, such as a class label, is out of range. Plans do not check this, since
    it would slow down every step. Call this function where data is read.
    """
    if set(inputs) != set(graph.inputs):
        raise GraphError(f"the graph's inputs are {_listed(graph.inputs)}, not {_listed(inputs)}")
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
        raise GraphError(f"input {name!r} must have shape {shape}, not {array.shape}")
    if array.dtype.kind not in ("iu" if integer else "iuf"):
        raise GraphError(
            f"input {name!r} must have an {'integer' if integer else 'integer or float'} dtype, not {array.dtype}"
        )
    if not np.isfinite(array).all():
        place = _first(~np.isfinite(array))
        raise GraphError(f"input {name!r} must be finite, but is {array[place]} at {list(place)}")


def _check_indices(name: str, array: Array, node: str, limit: int) -> None:
    place = first_invalid(array, limit)
    if place is not None:
        raise GraphError(
            f"input {name!r} is {array[place]} at {list(place)}, but node {node!r} needs integers from 0 to "
            f"{limit - 1}",
            node,
        )


def _first(where: Array) -> tuple[int, ...]:
    return tuple(int(index) for index in np.argwhere(where)[0])


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"
