"""One-hot encoding."""

from collections.abc import Mapping
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Layer, Workspace, WorkspaceDeclaration
from core.kernels.locate import locate
from core.registry import hyperparameter


class OneHot(Layer):
    """The one-hot vector of each index i, 1 at i and 0 elsewhere: (batch, ...) to (batch, ..., classes).

    Indices are int64, or floats with integer values, such as a column of features. Indices outside [0, classes) are
    clipped, and fractions rounded towards 0; a job whose rows have such indices fails. The gradient is 0.
    """

    type: ClassVar[str] = "one_hot"

    classes: int = hyperparameter(doc="Length of a one-hot vector.", ge=1)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, ..., classes)."""
        return (*shapes[0], self.classes)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"places": (shapes[0], "integer")}

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        return {0: self.classes}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        places = workspace["places"]
        xp.copyto(places, inputs[0], casting="unsafe")
        xp.clip(places, 0, self.classes - 1, out=places)
        flat = places.reshape(-1)
        locate(xp, flat, self.classes, flat)
        output.fill(0)
        xp.put(output, flat, 1, mode="clip")

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            gradient.fill(0)
