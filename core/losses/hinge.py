"""The multiclass hinge loss, in its three forms."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from core.arrays import Array, Namespace, Shape, ones, take
from core.graph.node import Workspace, WorkspaceDeclaration
from core.kernels.locate import locate
from core.losses.labels import LabelLoss
from core.registry import hyperparameter


class Hinge(LabelLoss):
    """The hinge loss of scores (batch, classes) and labels y (batch,), to (batch,), one of three functions.

    - weston_watkins, the lecture's: `sum_{j != y} max(0, s_j - s_y + margin)`
    - crammer_singer: `max_{j != y} max(0, s_j - s_y + margin)`
    - one_vs_all: `max(0, margin - s_y) + sum_{j != y} max(0, margin + s_j)`

    Where `squared`, each `max(0, ...)` is squared. A term's derivative is that of what is in it where it is positive,
    and 0 where it is exactly 0; terms that tie for the maximum of crammer_singer share its derivative equally.

    Source: Weston and Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999; Crammer and
    Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR 2, 2001; one against
    the rest as in Caffe and Chainer.
    """

    type: ClassVar[str] = "hinge"

    margin: float = hyperparameter(default=1.0, doc="How far the true class's score must lead.", gt=0)
    form: Literal["weston_watkins", "crammer_singer", "one_vs_all"] = hyperparameter(
        default="weston_watkins", doc="Which of the three functions."
    )
    squared: bool = hyperparameter(default=False, doc="Whether the terms are squared.")

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the gradient for an upstream of one, the labels' positions and scores, and room for squares."""
        scores, labels = shapes
        squares: WorkspaceDeclaration = {"squares": (scores, "scratch")} if self.squared else {}
        return {
            "slope": (scores, "float"),
            "label_scores": (labels, "float"),
            "positions": (labels, "integer"),
            **squares,
        }

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the losses, and keep the gradient."""
        scores, labels = inputs
        terms, label_scores, positions = workspace["slope"], workspace["label_scores"], workspace["positions"]
        locate(xp, labels, scores.shape[1], positions)
        xp.copyto(terms, scores)
        take(xp, terms, positions, out=label_scores)
        if self.form == "one_vs_all":
            xp.negative(label_scores, out=label_scores)
            terms.put(positions, label_scores, mode="clip")
        else:
            xp.subtract(terms, label_scores[:, None], out=terms)
        xp.add(terms, self.margin, out=terms)
        if self.form != "one_vs_all":
            terms.put(positions, 0, mode="clip")
        xp.maximum(terms, 0, out=terms)

        if self.form == "crammer_singer":
            slope = self._largest(xp, terms, output, label_scores)
        else:
            slope = self._summed(xp, terms, output, workspace)
        if self.form == "one_vs_all":
            label_slopes = take(xp, slope, positions, out=label_scores)
        else:
            label_slopes = xp.matmul(slope, ones(xp, scores.shape[1], scores.dtype), out=label_scores)
        xp.negative(label_slopes, out=label_slopes)
        slope.put(positions, label_slopes, mode="clip")
        self.weigh(xp, labels, output, slope, classes=positions, row=label_scores)

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
        is_label = xp.arange(scores.shape[1]) == labels[:, None]
        if self.form == "one_vs_all":
            terms = xp.where(is_label, -scores, scores) + self.margin
        else:
            label_scores = xp.take_along_axis(scores, labels[:, None], axis=1)
            terms = xp.where(is_label, 0, scores - label_scores + self.margin)
        counts: Array = terms > 0
        if self.form == "crammer_singer":
            counts &= terms == terms.max(axis=1, keepdims=True)
        return counts

    def _summed(self, xp: Namespace, terms: Array, output: Array, workspace: Workspace) -> Array:
        """Write the sums of the terms, or of their squares, and turn the terms into their derivatives."""
        if not self.squared:
            xp.matmul(terms, ones(xp, terms.shape[1], terms.dtype), out=output)
            xp.sign(terms, out=terms)
            return terms
        squares = xp.square(terms, out=workspace["squares"])
        xp.matmul(squares, ones(xp, squares.shape[1], squares.dtype), out=output)
        xp.multiply(terms, 2, out=terms)
        return terms

    def _largest(self, xp: Namespace, terms: Array, output: Array, row: Array) -> Array:
        """Write the largest terms, or their squares, and turn the terms into the derivatives of those."""
        largest = xp.max(terms, axis=1, out=output)
        # A difference of two numbers is 0 only where they are equal, and negative elsewhere.
        xp.subtract(terms, largest[:, None], out=terms)
        xp.sign(terms, out=terms)
        xp.add(terms, 1, out=terms)
        xp.sum(terms, axis=1, out=row)
        xp.divide(terms, row[:, None], out=terms)
        if self.squared:
            xp.multiply(largest, 2, out=row)
            xp.square(largest, out=output)
        else:
            xp.sign(largest, out=row)
        xp.multiply(terms, row[:, None], out=terms)
        return terms
