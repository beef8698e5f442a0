"""Softmax cross-entropy."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from core.arrays import Array, Namespace, Shape
from core.labels import infer_loss_of_labels, locate
from core.node import Loss, Workspace, WorkspaceDeclaration


class SoftmaxCrossEntropy(Loss):
    """`-log(exp(s_y) / sum_j exp(s_j))` per sample: scores (batch, classes), labels int64 (batch,), to (batch,).

    With m the largest score, `e_j = exp(s_j - m)` and A the sum of e_j over the other classes j != y, the loss is
    `log1p((e_y - 1) + A) - (s_y - m)` and its gradient is `e_j / (e_y + A)`, and `-A / (e_y + A)` at y. Where y scores
    highest, `e_y - 1` is exactly 0; elsewhere A >= 1. So neither formula cancels, and a loss of 1e-11 keeps its digits
    in float32 too. Labels outside [0, classes) are not looked for here, on the path of every step: whoever reads the
    data checks them.
    """

    type: ClassVar[str] = "softmax"
    target: ClassVar[Literal["labels", "values"]] = "labels"

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        scores, labels = shapes
        return infer_loss_of_labels(self.type, scores, labels)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the gradient's numerators and their common denominator, and the labels' positions and scores."""
        scores, labels = shapes
        return {
            "numerators": (scores, "float"),
            "total": (labels, "float"),
            "label_scores": (labels, "float"),
            "positions": (labels, "integer"),
        }

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the losses, and keep the gradient up to a division."""
        scores, labels = inputs
        exponentials, total = workspace["numerators"], workspace["total"]
        label_scores, positions = workspace["label_scores"], workspace["positions"]
        locate(xp, labels, scores.shape[1], positions)
        xp.max(scores, axis=1, out=output)
        xp.subtract(scores, output[:, None], out=exponentials)
        xp.take(exponentials, positions, out=label_scores, mode="clip")
        xp.exp(exponentials, out=exponentials)
        xp.put(exponentials, positions, 0, mode="clip")
        others = xp.sum(exponentials, axis=1, out=output)
        xp.negative(others, out=others)
        xp.put(exponentials, positions, others, mode="clip")
        xp.expm1(label_scores, out=total)
        xp.subtract(total, others, out=total)
        xp.log1p(total, out=output)
        xp.subtract(output, label_scores, out=output)
        xp.add(total, 1, out=total)

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
            xp.divide(workspace["numerators"], workspace["total"][:, None], out=gradient)
            xp.multiply(gradient, upstream[:, None], out=gradient)
