"""Softmax cross-entropy."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape, ones, take
from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration
from core.kernels.locate import locate
from core.losses.labels import LabelLoss
from core.registry import hyperparameter


class SoftmaxCrossEntropy(LabelLoss):
    """`-log(exp(s_y) / sum_j exp(s_j))` per sample: scores s (batch, classes), labels y int64 (batch,), to (batch,).

    With m the maximum score, `e_j = exp(s_j - m)`, and A the sum of e_j over the other classes j != y, the loss is
    computed as `log1p((e_y - 1) + A) - (s_y - m)`. Its gradient is `e_j / (e_y + A)`, and `-A / (e_y + A)` at y. If s_y
    is the maximum, `e_y - 1` is exactly 0; otherwise A >= 1. So no digits cancel, and even in float32 a loss of 1e-11
    is precise.

    With `label_smoothing` e and K classes, the target distribution is `1 - e + e / K` at y and `e / K` elsewhere. This
    adds `e (s_y - mean(s))` to the loss, and `e - e / K` at y and `-e / K` elsewhere to its gradient.

    It is PyTorch's `CrossEntropyLoss`, except with `class_weights`: PyTorch divides the sum over the batch by the sum
    of the weights of its labels, and with label smoothing it weights the term of each class by that class's weight.
    Here the sum is divided by the number of rows, and the loss of a row is weighted by the weight of its label.

    Source: the lecture; label smoothing: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016.
    """

    type: ClassVar[str] = "softmax"

    label_smoothing: float = hyperparameter(
        default=0.0, doc="Share of the target that is distributed evenly over all classes.", ge=0, lt=1
    )

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        # "slope" holds the numerators of the gradient, and "total" their common denominator.
        spread: WorkspaceDeclaration = {"spread": (shapes[0], "scratch")} if self.label_smoothing else {}
        return {**super().workspace(*shapes), "total": (shapes[1], "float"), **spread}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        scores, labels = inputs
        exponentials, total = workspace["slope"], workspace["total"]
        label_scores, positions = workspace["row"], workspace["positions"]
        locate(xp, labels, scores.shape[1], positions)
        scores.max(axis=1, out=output)
        xp.subtract(scores, output[:, None], out=exponentials)
        take(xp, exponentials, positions, out=label_scores)
        xp.exp(exponentials, out=exponentials)
        exponentials.put(positions, 0, mode="clip")
        others = xp.matmul(exponentials, ones(xp, scores.shape[1], scores.dtype), out=output)
        xp.negative(others, out=others)
        exponentials.put(positions, others, mode="clip")
        xp.expm1(label_scores, out=total)
        xp.subtract(total, others, out=total)
        xp.log1p(total, out=output)
        xp.subtract(output, label_scores, out=output)
        xp.add(total, 1, out=total)
        if self.label_smoothing:
            self._smooth(xp, scores, output, workspace)
        self.weigh(xp, labels, output, exponentials, workspace)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        gradient = gradients[0]
        if gradient is not None:
            xp.divide(workspace["slope"], workspace["total"][:, None], out=gradient)
            xp.multiply(gradient, upstream[:, None], out=gradient)

    def _smooth(self, xp: Namespace, scores: Array, losses: Array, workspace: Workspace) -> None:
        """Add the terms of label smoothing to the losses, and, times the denominator, to the gradient's numerators."""
        spread, label_scores, positions = workspace["spread"], workspace["row"], workspace["positions"]
        numerators, total = workspace["slope"], workspace["total"]
        classes = scores.shape[1]
        # Differences of halves are exact where those of the scores are, and do not overflow.
        xp.multiply(scores, 0.5, out=spread)
        take(xp, spread, positions, out=label_scores)
        xp.subtract(label_scores[:, None], spread, out=spread)
        xp.multiply(spread, 2 * self.label_smoothing / classes, out=spread)
        excess = xp.sum(spread, axis=1, out=label_scores)
        xp.add(losses, excess, out=losses)

        share = xp.multiply(total, self.label_smoothing / classes, out=label_scores)
        xp.subtract(numerators, share[:, None], out=numerators)
        take(xp, numerators, positions, out=label_scores)
        spread_of_total = xp.multiply(total, self.label_smoothing, out=spread[:, 0])
        xp.add(label_scores, spread_of_total, out=label_scores)
        xp.put(numerators, positions, label_scores, mode="clip")
