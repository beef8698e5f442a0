"""What a node of a computational graph is: a function, its vector-Jacobian product, and what the latter needs kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from core.arrays import Array, Namespace, Shape
from core.registry import Registered

if TYPE_CHECKING:
    from core.initializers import Initializer

Kept = Literal["inputs", "output"]
NumberKind = Literal["float", "integer"]
WorkspaceDeclaration = Mapping[str, tuple[Shape, NumberKind]]
Workspace = Mapping[str, Array]


@dataclass(frozen=True)
class ParameterDeclaration:
    """A learnable array: its name, shape, how it starts, and whether a penalty on the weights counts it."""

    name: str
    shape: Shape
    initializer: Initializer
    penalized: bool


class Node:
    """A differentiable function of arrays. It holds no arrays itself: a plan owns every buffer and lends it.

    `inputs` of forward and backward are the data inputs, then the parameters in the order of `parameters`.
    """

    #: what backward reads; nothing else outlives forward
    retains: ClassVar[frozenset[Kept]] = frozenset()
    #: data inputs, without parameters
    arity: ClassVar[int] = 1

    def infer(self, *shapes: Shape) -> Shape:
        """Return the output's shape for these data inputs. ValueError says what would fit."""
        raise NotImplementedError

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return what is learnt, given the shapes of the data inputs. It must not depend on the batch size."""
        return ()

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the arrays that forward fills and backward reads: name -> (shape, kind of number)."""
        return {}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the function's value into `output`."""
        raise NotImplementedError

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` times the Jacobian of each input into `gradients`, where not None.

        Overwrites `gradients` and changes nothing else, so that a second call gives the same bits. What `retains` does
        not name has only its shape left, and NaN in it.
        """
        raise NotImplementedError

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array | None:
        """Return which side of each kink the inputs are on, as booleans; None where the function is smooth."""
        return None


class Layer(Registered, Node):
    """A node of a model: one data input, perhaps parameters."""

    kind: ClassVar[str] = "layer"


class Arithmetic(Registered, Node):
    """A node of plain arithmetic, without parameters. Inputs have equal shapes: broadcasting is refused."""

    kind: ClassVar[str] = "node"

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape that all inputs share."""
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"{self.type} needs inputs of equal shape, not {' and '.join(map(str, shapes))}")
        return shapes[0]


class Loss(Registered, Node):
    """A node of predictions and targets that gives one loss per sample, shape (batch,)."""

    kind: ClassVar[str] = "loss"
    arity: ClassVar[int] = 2
    #: what the second input is: class labels, int64 (batch,), or values like the predictions
    target: ClassVar[Literal["labels", "values"]]


def infer_loss_of_values(name: str, predictions: Shape, targets: Shape) -> Shape:
    """Return the shape of the losses, (batch,), for predictions and targets of equal shape (batch, ...)."""
    if not predictions or predictions != targets:
        raise ValueError(
            f"{name} needs predictions and targets of equal shape (batch, ...), not {predictions} and {targets}"
        )
    return predictions[:1]
