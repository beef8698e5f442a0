"""The multiclass hinge loss of Weston and Watkins."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from core.arrays import Array, Namespace, Shape
from core.labels import infer_loss_of_labels, locate
from core.node import Loss, Workspace, WorkspaceDeclaration
from core.registry import hyperparameter


class Hinge(Loss):
    """`sum_{j != y} max(0, s_j - s_y + margin)` per sample: scores (batch, classes), labels (batch,) to (batch,).

    A term that is exactly 0 has gradient 0. Labels outside [0, classes) are not looked for here, on the path of every
    step: whoever reads the data checks them.

    Source: Weston and Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999.
    """

    type: ClassVar[str] = "hinge"
    target: ClassVar[Literal["labels", "values"]] = "labels"

    margin: float = hyperparameter(default=1.0, doc="How far the true class's score must lead.", gt=0)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        scores, labels = shapes
        return infer_loss_of_labels(self.type, scores, labels)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the gradient for an upstream of one, and the labels' positions and scores."""
        scores, labels = shapes
        return {"slope": (scores, "float"), "label_scores": (labels, "float"), "positions": (labels, "integer")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the losses, and keep the gradient: 1 where a term counts, minus their number at the label."""
        scores, labels = inputs
        terms, label_scores, positions = workspace["slope"], workspace["label_scores"], workspace["positions"]
        locate(xp, labels, scores.shape[1], positions)
        xp.copyto(terms, scores)
        xp.take(terms, positions, out=label_scores, mode="clip")
        xp.subtract(terms, label_scores[:, None], out=terms)
        xp.add(terms, self.margin, out=terms)
        xp.put(terms, positions, 0, mode="clip")
        xp.maximum(terms, 0, out=terms)
        xp.sum(terms, axis=1, out=output)

        slope = xp.sign(terms, out=terms)
        count = xp.sum(slope, axis=1, out=label_scores)
        xp.negative(count, out=count)
        xp.put(slope, positions, count, mode="clip")

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
            xp.multiply(workspace["slope"], upstream[:, None], out=gradient)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which terms count."""
        scores, labels = inputs
        label_scores = xp.take_along_axis(scores, labels[:, None], axis=1)
        counts: Array = scores - label_scores + self.margin > 0
        return counts
