"""A lookup table."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from core.arrays import Array, Namespace, Shape, take
from core.graph.node import Gradients, Inputs, Layer, ParameterDeclaration, Workspace, WorkspaceDeclaration
from core.initializers.base import Initializer
from core.initializers.normal import Normal
from core.registry import hyperparameter

# Rows of the table per matrix product, which limits the memory for the 0/1 matrix of a long table.
PRODUCT_ROWS = 1024


class Embedding(Layer):
    """Row i of a learnable table for each index i: (batch, ...) to (batch, ..., units); table (entries, units).

    Indices are int64, or floats with integer values, such as a column of features. Indices outside [0, entries) are
    clipped, and fractions rounded towards 0; a job whose rows have such indices fails. The gradient of a row is the sum
    of the upstream gradients of all its occurrences. The gradient of the indices is 0.
    """

    type: ClassVar[str] = "embedding"

    entries: int = hyperparameter(doc="Number of rows of the table.", ge=1)
    units: int = hyperparameter(doc="Length of a row.", ge=1)
    table: Initializer = hyperparameter(default=Normal(std=1.0), doc="Initializer of the table.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, ..., units)."""
        return (*shapes[0], self.units)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the table."""
        return (ParameterDeclaration("table", (self.entries, self.units), self.table, penalized=True),)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"indices": (shapes[0], "integer")}

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        return {0: self.entries}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        x, table = inputs
        indices = workspace["indices"]
        xp.copyto(indices, x, casting="unsafe")
        xp.clip(indices, 0, self.entries - 1, out=indices)
        take(xp, table, indices, out=output, axis=0)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
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
    # A scatter-add on a GPU adds in any order, so its bits vary from call to call. A matrix product has one order.
    places, rows = indices.reshape(-1), upstream.reshape(-1, upstream.shape[-1])
    for start in range(0, len(out), PRODUCT_ROWS):
        part = out[start : start + PRODUCT_ROWS]
        read = xp.empty((len(part), len(places)), out.dtype)
        xp.equal(xp.arange(start, start + len(part))[:, None], places, out=read)
        xp.matmul(read, rows, out=part)
