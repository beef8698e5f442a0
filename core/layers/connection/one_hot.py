"""One-hot codes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Layer, Workspace, WorkspaceDeclaration
from core.kernels.locate import locate
from core.registry import hyperparameter


class OneHot(Layer):
    """1 at the place of each index i and 0 elsewhere: (batch, ...) to (batch, ..., classes).

    Indices are int64, or floats that hold whole numbers, as in a row of features; one outside [0, classes) counts as
    the nearest that is not. The gradient is 0.
    """

    type: ClassVar[str] = "one_hot"

    classes: int = hyperparameter(doc="Length of a code.", ge=1)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, ..., classes)."""
        return (*shapes[0], self.classes)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the places of the ones."""
        return {"places": (shapes[0], "integer")}

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        """Return the limit of the input's indices."""
        return {0: self.classes}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the codes."""
        places = workspace["places"]
        xp.copyto(places, inputs[0], casting="unsafe")
        xp.clip(places, 0, self.classes - 1, out=places)
        flat = places.reshape(-1)
        locate(xp, flat, self.classes, flat)
        output.fill(0)
        xp.put(output, flat, 1, mode="clip")

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write 0."""
        (gradient,) = gradients
        if gradient is not None:
            gradient.fill(0)
