"""Base classes of the losses whose targets are class labels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from core.arrays import along_rows, take
from core.graph.node import Loss, Task
from core.kernels.locate import locate
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


@lru_cache(maxsize=256)
def _constants(xp: Namespace, values: tuple[float, ...], dtype: np.dtype[Any]) -> Array:
    array: Array = xp.asarray(values, dtype)
    return array


class LabelLoss(Loss):
    """A loss of scores (batch, classes) and labels int64 (batch,).

    A subclass implements `forward`, which writes the losses and, into `workspace["slope"]`, their derivatives with
    respect to the scores. Labels outside [0, classes) are not detected here, since that would slow down every step.
    Check them where data is read.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"classification"})

    class_weights: tuple[float, ...] = hyperparameter(
        default=(),
        doc="For each class, the factor of the loss of its samples; by default 1. The mean loss is not divided by the "
        'mean of these weights. In the spec of a job also "balanced": the rows divided by the number of classes and by '
        "the rows of the class, over the training rows.",
        ge=0,
    )

    def infer(self, *shapes: Shape) -> Shape:
        scores, labels = shapes
        if len(scores) != 2 or scores[1] < 2:
            raise ValueError(f"{self.type} needs scores of shape (batch, at least 2 classes), not {scores}")
        self._check(scores, labels, scores[1])
        return labels

    def _check(self, scores: Shape, labels: Shape, classes: int) -> None:
        if labels != scores[:1]:
            raise ValueError(
                f"{self.type} needs labels of shape {scores[:1]} for scores of shape {scores}, not {labels}"
            )
        if len(self.class_weights) not in {0, classes}:
            raise ValueError(
                f"{self.type}.class_weights must have one number for each of {classes} classes, "
                f"not {len(self.class_weights)}"
            )

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        """Return the number of classes: the number of columns of the scores, or 2 if there is one score per sample."""
        scores = shapes[0]
        return {1: scores[1] if scores[1:] > (1,) else 2}

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        scores, labels = shapes
        return {"slope": (scores, "float"), "row": (labels, "scratch"), "positions": (labels, "integer")}

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        gradient = gradients[0]
        if gradient is not None:
            slope = workspace["slope"]
            xp.multiply(slope, along_rows(upstream, slope), out=gradient)

    def weigh(self, xp: Namespace, labels: Array, losses: Array, slope: Array, workspace: Workspace) -> None:
        """Multiply the losses (batch,) and their derivatives in place by the class weights of the labels.

        Overwrites "positions" and "row" of the workspace.
        """
        if self.class_weights:
            # NumPy's `take` copies indices that are read-only, as `labels` may be.
            classes, weights = workspace["positions"], workspace["row"]
            xp.copyto(classes, labels)
            take(xp, _constants(xp, self.class_weights, losses.dtype), classes, out=weights)
            xp.multiply(losses, weights, out=losses)
            xp.multiply(slope, along_rows(weights, slope), out=slope)


class SignedLoss(LabelLoss):
    """The sum of a function of z over the scores of a sample: z is the score of the label, or minus another score.

    Scores (batch,) or (batch, 1) are scores of label 1: z is the score if the label is 1, and minus the score if it is
    0. A subclass implements `curve`, the function and its derivative.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"binary"})

    def curve(self, xp: Namespace, z: Array, value: Array, slope: Array) -> None:
        """Write the function of `z` into `value`, and its derivative into `slope`."""
        raise NotImplementedError

    def infer(self, *shapes: Shape) -> Shape:
        scores, labels = shapes
        if len(scores) != 1 and scores[1:] != (1,):
            raise ValueError(f"{self.type} needs scores of shape (batch,) or (batch, 1), not {scores}")
        self._check(scores, labels, 2)
        return labels

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        scores = shapes[0]
        own: WorkspaceDeclaration = dict.fromkeys(("sign", "z", "value"), (scores, "scratch"))
        return {**super().workspace(*shapes), **own}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        scores, labels = inputs
        sign, z, slope = workspace["sign"], workspace["z"], workspace["slope"]
        self._write_signs(xp, labels, sign, workspace)
        xp.multiply(scores, sign, out=z)
        self.curve(xp, z, workspace["value"], slope)
        xp.sum(workspace["value"], axis=tuple(range(1, scores.ndim)), out=output)
        xp.multiply(slope, sign, out=slope)
        self.weigh(xp, labels, output, slope, workspace)

    def _write_signs(self, xp: Namespace, labels: Array, sign: Array, workspace: Workspace) -> None:
        """Write 1 where z is the score, and -1 where it is minus the score."""
        if sign.ndim == 2 and sign.shape[1] > 1:
            positions = workspace["positions"]
            locate(xp, labels, sign.shape[1], positions)
            sign.fill(-1)
            xp.put(sign, positions, 1, mode="clip")
        else:
            xp.multiply(labels.reshape(sign.shape), 2, out=sign)
            xp.subtract(sign, 1, out=sign)
