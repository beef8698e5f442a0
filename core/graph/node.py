"""What a node of a computational graph is: a function, its vector-Jacobian product, and what the latter needs kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from core.arrays import Array, Namespace, Shape
from core.registry import Registered

if TYPE_CHECKING:
    from core.initializers.base import Initializer

Kept = Literal["inputs", "output"]
#: "float" and "integer" arrays are filled by forward and kept for backward. A "scratch" is a float array that each of
#: the two may use as it likes: it holds no number from before. A "noise" is float32, uniform on [0, 1), filled by the
#: plan before forward and gone after it.
WorkspaceKind = Literal["float", "integer", "scratch", "noise"]
WorkspaceDeclaration = Mapping[str, tuple[Shape, WorkspaceKind]]
Workspace = Mapping[str, Array]


@dataclass(frozen=True)
class ParameterDeclaration:
    """A learnable array: its name, shape, how it starts, and whether a penalty on the weights counts it.

    One with a `momentum` is not learnt but a running average of something about the batches, such as the mean of batch
    normalization: see `core.plan.statistics`.
    """

    name: str
    shape: Shape
    initializer: Initializer
    penalized: bool
    momentum: float | None = None

    @property
    def statistic(self) -> bool:
        """Whether this is a running average, which no penalty counts and no optimizer moves."""
        return self.momentum is not None


class Node:
    """A differentiable function of arrays. It holds no arrays itself: a plan owns every buffer and lends it.

    `inputs` of forward and backward are the data inputs, then the parameters in the order of `parameters`.
    """

    #: what backward reads; nothing else outlives forward
    retains: ClassVar[frozenset[Kept]] = frozenset()
    #: data inputs, without parameters
    arity: ClassVar[int] = 1
    #: whether there may be more data inputs than `arity`
    variadic: ClassVar[bool] = False

    def evaluation(self) -> Node:
        """Return the node that stands for this one when a trained model is used: itself, unless training differs."""
        return self

    def infer(self, *shapes: Shape) -> Shape:
        """Return the output's shape for these data inputs. ValueError says what would fit."""
        raise NotImplementedError

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return what is learnt, given the shapes of the data inputs. It must not depend on the batch size."""
        return ()

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the arrays to work with besides: name -> (shape, kind), see `WorkspaceKind`."""
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

        Overwrites `gradients` and scratch and changes nothing else, so that a second call gives the same bits. What
        `retains` does not name has only its shape left, and NaN in it.
        """
        raise NotImplementedError

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array | None:
        """Return which side of each kink the inputs are on, as booleans; None where the function is smooth."""
        return None

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        """Return how many values the entries of an index have, from 0: position of the data input -> their number."""
        return {}


class Elementwise(Node):
    """A function of each number by itself: what is left to write is the function and its derivative."""

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return shapes[0]

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write the function of `x` into `output`."""
        raise NotImplementedError

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write the derivative at `x`, where the function is `y`, into `slope`."""
        raise NotImplementedError

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the function of the input."""
        self.function(xp, inputs[0], output, workspace)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` times the derivative."""
        (gradient,) = gradients
        if gradient is not None:
            self.derivative(xp, inputs[0], output, gradient, workspace)
            xp.multiply(gradient, upstream, out=gradient)


class Layer(Registered, Node):
    """A node that a model can name."""

    kind: ClassVar[str] = "layer"


class Arithmetic(Layer):
    """Elementwise arithmetic without parameters. Inputs have equal shapes: broadcasting is refused."""

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

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        """Return the number of classes for labels: the columns of the scores, 2 where there is one score a sample."""
        scores = shapes[0]
        return {1: scores[1] if scores[1:] > (1,) else 2} if self.target == "labels" else {}
