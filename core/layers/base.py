"""Base classes of the layers."""

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Layer, Workspace, sides


class Elementwise(Layer):
    """A function of each element of the input. A subclass implements `function` and `derivative`."""

    def kinks(self) -> tuple[float, ...]:
        """Return the inputs at which the first or second derivative is discontinuous."""
        return ()

    def infer(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write the function of `x` into `output`."""
        raise NotImplementedError

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write the derivative at the input `x`, where the output is `y`, into `slope`."""
        raise NotImplementedError

    def origins(self, *inputs: Array) -> Array | None:
        return inputs[0]

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        self.function(xp, inputs[0], output, workspace)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            self.derivative(xp, inputs[0], output, gradient, workspace)
            xp.multiply(gradient, upstream, out=gradient)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array | None:
        return sides(xp, inputs[0], self.kinks())


class Featurewise(Layer):
    """A layer of inputs (batch, ..., features) whose output has the shape of the input."""

    def infer(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) < 2:
            raise ValueError(f"{self.type} needs an input of shape (batch, ..., features), not {shapes[0]}")
        return shapes[0]


class Arithmetic(Layer):
    """Elementwise arithmetic on inputs of equal shape. Inputs are not broadcast."""

    def infer(self, *shapes: Shape) -> Shape:
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"{self.type} needs inputs of equal shape, not {' and '.join(map(str, shapes))}")
        return shapes[0]
