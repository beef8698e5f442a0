"""A weighted sum of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.graph.node import Kept, Loss
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Workspace, WorkspaceDeclaration


class WeightedSum(Loss):
    """`sum_k weight_k loss_k` of losses that read the same scores and targets, all labels or all values.

    The shapes are those that the losses agree on; the gradient is the weighted sum of theirs.
    """

    type: ClassVar[str] = "weighted_sum"
    target: ClassVar[Literal["labels", "values"]] = "labels"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    losses: tuple[Loss, ...] = hyperparameter(doc="The losses, at least one.")
    weights: tuple[float, ...] = hyperparameter(doc="What each loss is multiplied by.")

    def __post_init__(self) -> None:
        """Check that there is a weight for each loss, and that the losses read the same targets."""
        super().__post_init__()
        if not self.losses:
            raise ValueError("weighted_sum.losses must have at least one loss")
        if len(self.weights) != len(self.losses):
            raise ValueError(
                f"weighted_sum.weights must have one number for each of {len(self.losses)} losses, "
                f"not {len(self.weights)}"
            )
        targets = {loss.target for loss in self.losses}
        if len(targets) > 1:
            kinds = ", ".join(f"{loss.type} of {loss.target}" for loss in self.losses)
            raise ValueError(f"weighted_sum.losses must all be of labels or all of values, not {kinds}")
        # A sum of losses of values is one itself.
        object.__setattr__(self, "target", targets.pop())

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        return next(iter({loss.infer(*shapes) for loss in self.losses}))

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return what each loss works with, its value, and room for one more gradient of each input."""
        own: WorkspaceDeclaration = {
            "upstream": (self.infer(*shapes), "scratch"),
            **{f"gradient{position}": (shape, "scratch") for position, shape in enumerate(shapes)},
        }
        parts = {
            f"{k}.{name}": declared
            for k, loss in enumerate(self.losses)
            for name, declared in {"loss": (self.infer(*shapes), "float"), **loss.workspace(*shapes)}.items()
        }
        return {**own, **parts}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the sum."""
        output.fill(0)
        for loss, weight, value, part in self._parts(workspace):
            loss.forward(xp, inputs, value, part)
            term = xp.multiply(value, weight, out=workspace["upstream"])
            xp.add(output, term, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write the weighted sum of the losses' gradients."""
        parts = [None if total is None else workspace[f"gradient{i}"] for i, total in enumerate(gradients)]
        for total in gradients:
            if total is not None:
                total.fill(0)
        for loss, weight, value, its_workspace in self._parts(workspace):
            scaled = xp.multiply(upstream, weight, out=workspace["upstream"])
            loss.backward(xp, scaled, inputs, value, its_workspace, parts)
            for total, part in zip(gradients, parts, strict=True):
                if total is not None:
                    xp.add(total, part, out=total)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array | None:
        """Return the sides of all losses' kinks, one after another."""
        sides = [side.ravel() for side in (loss.branches(xp, inputs) for loss in self.losses) if side is not None]
        joined: Array | None = xp.concatenate(sides) if sides else None
        return joined

    def _parts(self, workspace: Workspace) -> Iterator[tuple[Loss, float, Array, Workspace]]:
        """Yield each loss, its weight, its value and its own workspace."""
        for k, (loss, weight) in enumerate(zip(self.losses, self.weights, strict=True)):
            prefix = f"{k}."
            own = {name.removeprefix(prefix): array for name, array in workspace.items() if name.startswith(prefix)}
            yield loss, weight, own["loss"], own
