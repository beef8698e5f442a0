"""Sigmoid cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from core.graph.node import Task
from core.losses.labels import LabelLoss
from core.losses.soft_margin import SoftMargin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class SigmoidCrossEntropy(SoftMargin):
    """`sum_j log(1 + exp(-z_j))` per sample, where z_j is the score s_j if label j is true, and -s_j otherwise.

    Scores (batch, K), each label against the rest, with the label of each sample (batch,) or with float targets
    (batch, K), which are 1 for true labels and 0 for the others; or scores (batch,) or (batch, 1) with labels 0 and 1,
    (batch,). The loss is (batch,). It is the cross-entropy of `1 / (1 + exp(-s))` and the targets, computed as
    `max(-z, 0) + log1p(exp(-|z|))`. The derivative with respect to z is `-1 / (1 + exp(z))`.

    It is a sum over the scores of a sample, where PyTorch's `BCEWithLogitsLoss` is their mean: K times as much.

    A target t between 0 and 1 is allowed: the loss of a score is `t log(1 + exp(-s)) + (1 - t) log(1 + exp(s))`.
    """

    type: ClassVar[str] = "sigmoid_cross_entropy"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})

    def infer(self, *shapes: Shape) -> Shape:
        scores, truth = shapes
        if _has_targets(truth):
            return self._infer_with_targets(scores, truth)
        one_column = len(scores) < 2 or scores[1:] == (1,)
        return super().infer(*shapes) if one_column else LabelLoss.infer(self, *shapes)

    def _infer_with_targets(self, scores: Shape, targets: Shape) -> Shape:
        if len(scores) != 2 or scores != targets:
            raise ValueError(
                f"{self.type} needs labels of shape {scores[:1]}, or scores and targets of equal shape (batch, K), "
                f"not {scores} and {targets}"
            )
        if self.class_weights:
            raise ValueError(
                f"{self.type}.class_weights are for one label per sample: leave them out if each label has a target"
            )
        return scores[:1]

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        return {} if _has_targets(shapes[1]) else super().index_limits(*shapes)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        scores, truth = shapes
        if not _has_targets(truth):
            return super().workspace(*shapes)
        # Backward needs the scores for the gradient with respect to the targets.
        kept: WorkspaceDeclaration = {"slope": (scores, "float"), "scores": (scores, "float")}
        return {**kept, **dict.fromkeys(("sign", "z", "value"), (scores, "scratch"))}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        scores, targets = inputs
        if not _has_targets(targets.shape):
            super().forward(xp, inputs, output, workspace)
            return
        sign, z, value, slope = (workspace[name] for name in ("sign", "z", "value", "slope"))
        xp.copyto(workspace["scores"], scores)
        # The nearest of 0 and 1 makes the sign. The loss of any other target differs from the loss of the nearest, at
        # the distance u, by a linear term:
        # `t log(1 + exp(-s)) + (1 - t) log(1 + exp(s)) = log(1 + exp(-z)) + u z`.
        xp.greater_equal(targets, 0.5, out=sign)
        xp.multiply(sign, 2, out=sign)
        xp.subtract(sign, 1, out=sign)
        xp.multiply(scores, sign, out=z)
        self.curve(xp, z, value, slope)
        xp.sum(value, axis=1, out=output)
        # -u, because subtracting 0 keeps the bits of -0.
        minus_u = xp.subtract(targets, 0.5, out=value)
        xp.abs(minus_u, out=minus_u)
        xp.subtract(minus_u, 0.5, out=minus_u)
        xp.subtract(slope, minus_u, out=slope)
        xp.multiply(slope, sign, out=slope)
        # An infinite score times 0 would be NaN.
        largest = np.finfo(z.dtype).max
        xp.clip(z, -largest, largest, out=z)
        xp.multiply(z, minus_u, out=z)
        xp.subtract(output, xp.sum(z, axis=1, out=sign[:, 0]), out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        super().backward(xp, upstream, inputs, output, workspace, gradients)
        target_gradient = gradients[1]
        if target_gradient is not None:
            xp.multiply(workspace["scores"], upstream[:, None], out=target_gradient)
            xp.negative(target_gradient, out=target_gradient)


def _has_targets(truth: Shape) -> bool:
    """Whether the second input has one number for each score, and not one label for each sample."""
    return len(truth) > 1
