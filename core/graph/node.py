"""Nodes of a computational graph: a forward function, its vector-Jacobian product, and what backward needs retained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np

from core.arrays import Array, Namespace, Shape
from core.registry import Registered

if TYPE_CHECKING:
    from core.initializers.base import Initializer

#: data inputs, then the parameters in the order of `Node.parameters`
Inputs = Sequence[Array]
#: one output buffer for each of the inputs; None where no gradient is wanted
Gradients = Sequence[Array | None]
Kept = Literal["inputs", "output"]
#: What a model is trained for. "classification": at least 2 scores, and one label of as many classes. "binary": one
#: score, and a label 0 or 1. "multilabel": targets of zeros and ones, shaped like the scores. "regression": targets of
#: any value, shaped like the predictions.
Task: TypeAlias = Literal["classification", "binary", "multilabel", "regression"]
#: "float" and "integer" arrays are written by forward and retained for backward. "scratch" is an uninitialised float
#: buffer for the duration of one forward or one backward. "noise" is float32, uniform on [0, 1); the plan fills it
#: before forward, and backward does not receive it.
WorkspaceKind = Literal["float", "integer", "scratch", "noise"]
WorkspaceDeclaration = Mapping[str, tuple[Shape, WorkspaceKind]]
Workspace = Mapping[str, Array]


@dataclass(frozen=True)
class ParameterDeclaration:
    """A parameter: its name, shape and initializer, and whether penalties apply to it.

    `learning_rate` and `decay` are factors of the optimizer's learning rate, and of penalties and weight decay.

    A parameter with a `momentum` is not trained. It is a running average of a statistic of the batches, such as the
    mean in batch normalization: see `core.plan.statistics`.
    """

    name: str
    shape: Shape
    initializer: Initializer
    penalized: bool
    momentum: float | None = None
    learning_rate: float = 1.0
    decay: float = 1.0

    @property
    def statistic(self) -> bool:
        """Whether this is a running average, to which neither penalties nor optimizers apply."""
        return self.momentum is not None


class AxesError(ValueError):
    """An input with another number of axes than a node needs: `axes`, without that of the batch."""

    def __init__(self, message: str, axes: int) -> None:
        super().__init__(message)
        self.axes = axes


class Node:
    """A differentiable function of arrays.

    A node holds no arrays. The plan allocates all buffers and passes them to `forward` and `backward`.
    """

    #: what backward reads; the plan retains nothing else after forward
    retains: ClassVar[frozenset[Kept]] = frozenset()
    #: number of data inputs, without parameters
    arity: ClassVar[int] = 1
    #: whether the node accepts more data inputs than `arity`
    variadic: ClassVar[bool] = False
    #: whether the node accepts images (batch, height, width, channels), but no lists of numbers (batch, features)
    images: ClassVar[bool] = False

    def evaluation(self) -> Node:
        """Return the node to use in evaluation; by default this node itself."""
        return self

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape of the output for data inputs of these shapes.

        Raises ValueError if they do not fit, which is an AxesError if they would with more or fewer axes.
        """
        raise NotImplementedError

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the parameters for data inputs of these shapes. They must not depend on the batch size."""
        return ()

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the additional buffers that the node needs: name -> (shape, kind). See `WorkspaceKind`."""
        return {}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        """Write the value of the function into `output`."""
        raise NotImplementedError

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        """Write `upstream` times the Jacobian with respect to each input into `gradients`, where not None.

        Overwrites only `gradients` and scratch buffers, so that a second call gives the same bits. Inputs and outputs
        that are not in `retains` have the right shape, but contain NaN.
        """
        raise NotImplementedError

    def branches(self, xp: Namespace, inputs: Inputs) -> Array | None:
        """Return on which side of each kink the inputs are, as booleans; None if the function is smooth."""
        return None

    def origins(self, *inputs: Array) -> Array | None:
        """Return, for each entry of the output, the number of the entry of an input that alone determines it.

        `inputs` are of the inputs' shapes, int64, and number their entries. By default None: entries depend on several.
        """
        return None

    def multiply_adds(self, *shapes: Shape) -> int:
        """Return how many multiplications forward takes for data inputs of these shapes, about.

        By default each parameter is used once for each row of the first input.
        """
        batch = shapes[0][0] if shapes and shapes[0] else 1
        return batch * sum(prod(each.shape) for each in self.parameters(*shapes))

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        """Return, for each data input that holds indices, its position and the number of valid indices, from 0."""
        return {}


def copied(node: Node, inputs: Sequence[Array]) -> Array:
    """Return the output of a node without parameters and workspace that only copies entries, in their dtype."""
    output: Array = np.empty(node.infer(*(x.shape for x in inputs)), inputs[0].dtype)
    node.forward(np, inputs, output, {})
    return output


def sides(xp: Namespace, x: Array, kinks: Sequence[float]) -> Array | None:
    """Return where `x` is greater than each of `kinks`: bool (kinks, *x.shape); None if there are no kinks."""
    greater: Array | None = xp.stack([x > kink for kink in kinks]) if kinks else None
    return greater


class Layer(Registered, Node):
    """A node that the spec of a model can name."""

    kind: ClassVar[str] = "layer"


class Loss(Registered, Node):
    """A node that computes one loss per sample, shape (batch,), from predictions and what they should be.

    The second input is labels, int64 (batch,), in classification and binary tasks, and targets, float and of the shape
    of the predictions, in multilabel and regression.
    """

    kind: ClassVar[str] = "loss"
    arity: ClassVar[int] = 2
    #: the tasks for which a model can be trained with it
    tasks: ClassVar[frozenset[Task]]
