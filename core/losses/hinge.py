"""The multiclass hinge loss, in three forms."""

from typing import ClassVar, Literal

from core.arrays import Array, Namespace, Shape, ones, take
from core.graph.node import Inputs, Workspace, WorkspaceDeclaration
from core.kernels.locate import locate
from core.kernels.ties import write_derivative_of_max
from core.losses.labels import LabelLoss
from core.registry import hyperparameter


class Hinge(LabelLoss):
    """The hinge loss per sample, in one of three forms: scores s (batch, classes) and labels y (batch,), to (batch,).

    - weston_watkins, as in the lecture: `sum_{j != y} max(0, s_j - s_y + margin)`
    - crammer_singer: `max_{j != y} max(0, s_j - s_y + margin)`
    - one_vs_all: `max(0, margin - s_y) + sum_{j != y} max(0, margin + s_j)`

    With `squared`, each `max(0, ...)` is squared. The derivative of `max(0, t)` is 0 at t = 0. If terms tie for the
    maximum in crammer_singer, the derivative is divided equally between them.

    With K classes, weston_watkins is K times PyTorch's `MultiMarginLoss`, and squared, K times that with p = 2.
    scikit-learn's `hinge_loss` of several classes is crammer_singer.

    Source: Weston and Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999; Crammer and
    Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR 2, 2001; one_vs_all as
    in Caffe and Chainer.
    """

    type: ClassVar[str] = "hinge"

    margin: float = hyperparameter(
        default=1.0, doc="Required difference between the score of the true class and the others.", gt=0
    )
    form: Literal["weston_watkins", "crammer_singer", "one_vs_all"] = hyperparameter(
        default="weston_watkins", doc="Which of the three forms."
    )
    squared: bool = hyperparameter(default=False, doc="Whether the terms are squared.")

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        squares: WorkspaceDeclaration = {"squares": (shapes[0], "scratch")} if self.squared else {}
        return {**super().workspace(*shapes), **squares}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        scores, labels = inputs
        terms, label_scores, positions = workspace["slope"], workspace["row"], workspace["positions"]
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
        self.weigh(xp, labels, output, slope, workspace)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array:
        scores, labels = inputs
        is_label = xp.arange(scores.shape[1]) == labels[:, None]
        if self.form == "one_vs_all":
            terms = xp.where(is_label, -scores, scores) + self.margin
        else:
            label_scores = xp.take_along_axis(scores, labels[:, None], axis=1)
            terms = xp.where(is_label, 0, scores - label_scores + self.margin)
        positive: Array = terms > 0
        if self.form == "crammer_singer":
            positive &= terms == terms.max(axis=1, keepdims=True)
        return positive

    def _summed(self, xp: Namespace, terms: Array, output: Array, workspace: Workspace) -> Array:
        """Write the sums of the terms, or of their squares, and replace the terms by their derivatives."""
        if not self.squared:
            xp.matmul(terms, ones(xp, terms.shape[1], terms.dtype), out=output)
            xp.sign(terms, out=terms)
            return terms
        squares = xp.square(terms, out=workspace["squares"])
        xp.matmul(squares, ones(xp, squares.shape[1], squares.dtype), out=output)
        xp.multiply(terms, 2, out=terms)
        return terms

    def _largest(self, xp: Namespace, terms: Array, output: Array, row: Array) -> Array:
        """Write the largest terms, or their squares, and replace the terms by the derivatives of these."""
        largest = xp.max(terms, axis=1, out=output)
        write_derivative_of_max(xp, terms, largest, row)
        if self.squared:
            xp.multiply(largest, 2, out=row)
            xp.square(largest, out=output)
        else:
            xp.sign(largest, out=row)
        xp.multiply(terms, row[:, None], out=terms)
        return terms
