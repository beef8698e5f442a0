"""Base classes of the layers that copy elements."""

from core.arrays import Array, Namespace
from core.graph.node import Gradients, Inputs, Layer, Workspace, copied


class Reshaping(Layer):
    """A layer that changes the shape of its input, but not the order of the elements in memory (row-major)."""

    def origins(self, *inputs: Array) -> Array | None:
        return copied(self, inputs)

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        xp.copyto(output.reshape(x.shape), x)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            xp.copyto(gradient.reshape(upstream.shape), upstream)


class Indexing(Layer):
    """A layer that returns `x[index]` of its input x."""

    def index_for(self, dimensions: int) -> tuple[slice | int, ...]:
        """Return the index for an input with this number of axes."""
        raise NotImplementedError

    def origins(self, *inputs: Array) -> Array | None:
        return copied(self, inputs)

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        xp.copyto(output, x[self.index_for(x.ndim)])

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            gradient.fill(0)
            xp.copyto(gradient[self.index_for(gradient.ndim)], upstream)
