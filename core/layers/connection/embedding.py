"""A lookup table."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from core.arrays import Array, Namespace, Shape, take
from core.graph.node import Layer, ParameterDeclaration, Workspace, WorkspaceDeclaration
from core.initializers.base import Initializer
from core.initializers.normal import Normal
from core.registry import hyperparameter

# Rows of the table at a time, so that a long table's gradient does not need much memory for who reads which row.
PRODUCT_ROWS = 1024


class Embedding(Layer):
    """Row i of a learnt table for each index i: (batch, ...) to (batch, ..., units); table (entries, units).

    Indices are int64, or floats that hold whole numbers, as in a row of features; one outside [0, entries) counts as
    the nearest that is not. The gradient of a row is the sum of `upstream` over the places that read it; that of the
    indices is 0.
    """

    type: ClassVar[str] = "embedding"

    entries: int = hyperparameter(doc="Number of rows of the table.", ge=1)
    units: int = hyperparameter(doc="Length of a row.", ge=1)
    table: Initializer = hyperparameter(default=Normal(std=1.0), doc="How the table starts.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, ..., units)."""
        return (*shapes[0], self.units)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the table."""
        return (ParameterDeclaration("table", (self.entries, self.units), self.table, penalized=True),)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the indices."""
        return {"indices": (shapes[0], "integer")}

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        """Return the limit of the input's indices."""
        return {0: self.entries}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the rows, and keep the indices."""
        x, table = inputs
        indices = workspace["indices"]
        xp.copyto(indices, x, casting="unsafe")
        xp.clip(indices, 0, self.entries - 1, out=indices)
        take(xp, table, indices, out=output, axis=0)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Add `upstream` up by row of the table."""
        x_gradient, table_gradient = gradients
        if x_gradient is not None:
            x_gradient.fill(0)
        if table_gradient is not None:
            _add_up(xp, workspace["indices"], upstream, table_gradient)


def _add_up(xp: Namespace, indices: Array, upstream: Array, out: Array) -> None:
    """Write into row i of `out` the sum of the rows of `upstream` (..., units) where `indices` (...) is i."""
    if xp is np:
        out.fill(0)
        np.add.at(out, indices, upstream)
        return
    # A GPU adds at indices in any order, with other bits each time, whereas a product of matrices has one order.
    places, rows = indices.reshape(-1), upstream.reshape(-1, upstream.shape[-1])
    for start in range(0, len(out), PRODUCT_ROWS):
        part = out[start : start + PRODUCT_ROWS]
        read = xp.empty((len(part), len(places)), out.dtype)
        xp.equal(xp.arange(start, start + len(part))[:, None], places, out=read)
        xp.matmul(read, rows, out=part)
