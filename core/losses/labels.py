"""Losses whose targets are class labels: labels as signs, and as weights."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from core.arrays import take
from core.graph.node import Loss
from core.kernels.locate import locate
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Workspace, WorkspaceDeclaration


@lru_cache(maxsize=256)
def _constants(xp: Namespace, values: tuple[float, ...], dtype: np.dtype[Any]) -> Array:
    array: Array = xp.asarray(values, dtype)
    return array


class LabelLoss(Loss):
    """A loss of scores (batch, classes) and labels int64 (batch,).

    Labels outside [0, classes) are not looked for here, on the path of every step: whoever reads the data checks them.
    """

    target: ClassVar[Literal["labels", "values"]] = "labels"

    class_weights: tuple[float, ...] = hyperparameter(
        default=(),
        doc="What the loss of a sample is multiplied by, for each class that it may have; by default 1. The mean loss "
        "is not divided by these weights' mean.",
        ge=0,
    )

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
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

    def weigh(self, xp: Namespace, labels: Array, losses: Array, slope: Array, *, classes: Array, row: Array) -> None:
        """Multiply the losses (batch,) and their gradient by the weights of the samples' classes.

        `classes`, int64 (batch,), and `row`, float (batch,), are scratch.
        """
        if self.class_weights:
            # NumPy copies the indices of `take` where they are read-only, as `labels` may be.
            xp.copyto(classes, labels)
            take(xp, _constants(xp, self.class_weights, losses.dtype), classes, out=row)
            xp.multiply(losses, row, out=losses)
            xp.multiply(slope, row.reshape(row.shape + (1,) * (slope.ndim - 1)), out=slope)


class SignedLoss(LabelLoss):
    """A sum over the scores of a sample of a function of `z`: the score, negated where it should be low.

    Scores (batch,) or (batch, 1) are of label 1 and should be low where the label is 0. What is left to write is the
    function and its derivative.
    """

    def curve(self, xp: Namespace, z: Array, value: Array, slope: Array) -> None:
        """Write the function of `z` into `value` and its derivative into `slope`, which may not be used as scratch."""
        raise NotImplementedError

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        scores, labels = shapes
        if len(scores) != 1 and scores[1:] != (1,):
            raise ValueError(f"{self.type} needs scores of shape (batch,) or (batch, 1), not {scores}")
        self._check(scores, labels, 2)
        return labels

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the gradient for an upstream of one, and room for signs, signed scores and values."""
        scores, labels = shapes
        return {
            "slope": (scores, "float"),
            "sign": (scores, "scratch"),
            "z": (scores, "scratch"),
            "value": (scores, "scratch"),
            "row": (labels, "scratch"),
            "positions": (labels, "integer"),
        }

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the losses, and keep the gradient."""
        scores, labels = inputs
        sign, z, slope = workspace["sign"], workspace["z"], workspace["slope"]
        self._write_signs(xp, labels, sign, workspace)
        xp.multiply(scores, sign, out=z)
        self.curve(xp, z, workspace["value"], slope)
        xp.sum(workspace["value"], axis=tuple(range(1, scores.ndim)), out=output)
        xp.multiply(slope, sign, out=slope)
        self.weigh(xp, labels, output, slope, classes=workspace["positions"], row=workspace["row"])

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write the gradient of the scores; labels have none."""
        gradient = gradients[0]
        if gradient is not None:
            slope = workspace["slope"]
            xp.multiply(slope, upstream.reshape(upstream.shape + (1,) * (slope.ndim - 1)), out=gradient)

    def _write_signs(self, xp: Namespace, labels: Array, sign: Array, workspace: Workspace) -> None:
        """Write 1 where a score should be high and -1 where it should be low."""
        if sign.ndim == 2 and sign.shape[1] > 1:
            positions = workspace["positions"]
            locate(xp, labels, sign.shape[1], positions)
            sign.fill(-1)
            xp.put(sign, positions, 1, mode="clip")
        else:
            xp.multiply(labels.reshape(sign.shape), 2, out=sign)
            xp.subtract(sign, 1, out=sign)
