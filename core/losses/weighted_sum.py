"""A weighted sum of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, get_args

from core.graph.node import Kept, Loss, Task
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class WeightedSum(Loss):
    """`sum_k weight_k loss_k` of losses with the same inputs. Its tasks are those that all of them have.

    The gradient is the weighted sum of the gradients of the losses.
    """

    type: ClassVar[str] = "weighted_sum"
    tasks: ClassVar[frozenset[Task]] = frozenset(get_args(Task))
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    losses: tuple[Loss, ...] = hyperparameter(doc="The losses, at least one.")
    weights: tuple[float, ...] = hyperparameter(doc="The weight of each loss.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.losses:
            raise ValueError("weighted_sum.losses must have at least one loss")
        if len(self.weights) != len(self.losses):
            raise ValueError(
                f"weighted_sum.weights must have one number for each of {len(self.losses)} losses, "
                f"not {len(self.weights)}"
            )
        tasks = frozenset.intersection(*(loss.tasks for loss in self.losses))
        if not tasks:
            kinds = ", ".join(f"{loss.type} ({' or '.join(sorted(loss.tasks))})" for loss in self.losses)
            raise ValueError(f"weighted_sum.losses must have a task in common, not {kinds}")
        # Per instance, unlike in other losses: it depends on the losses.
        object.__setattr__(self, "tasks", tasks)

    def infer(self, *shapes: Shape) -> Shape:
        return next(iter({loss.infer(*shapes) for loss in self.losses}))

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        own: WorkspaceDeclaration = {
            "upstream": (self.infer(*shapes), "scratch"),
            **{f"gradient{position}": (shape, "scratch") for position, shape in enumerate(shapes)},
        }
        # Loss k has its buffers, and its value, under names that begin with "k.".
        parts = {
            f"{k}.{name}": declared
            for k, loss in enumerate(self.losses)
            for name, declared in {"loss": (self.infer(*shapes), "float"), **loss.workspace(*shapes)}.items()
        }
        return {**own, **parts}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        output.fill(0)
        for loss, weight, value, part in self._parts(workspace):
            loss.forward(xp, inputs, value, part)
            term = xp.multiply(value, weight, out=workspace["upstream"])
            xp.add(output, term, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        parts = [None if total is None else workspace[f"gradient{i}"] for i, total in enumerate(gradients)]
        for total in gradients:
            if total is not None:
                total.fill(0)
        for loss, weight, value, loss_workspace in self._parts(workspace):
            scaled = xp.multiply(upstream, weight, out=workspace["upstream"])
            loss.backward(xp, scaled, inputs, value, loss_workspace, parts)
            for total, part in zip(gradients, parts, strict=True):
                if total is not None:
                    xp.add(total, part, out=total)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array | None:
        found = [branches.ravel() for loss in self.losses if (branches := loss.branches(xp, inputs)) is not None]
        joined: Array | None = xp.concatenate(found) if found else None
        return joined

    def index_limits(self, *shapes: Shape) -> Mapping[int, int]:
        return self.losses[0].index_limits(*shapes)

    def _parts(self, workspace: Workspace) -> Iterator[tuple[Loss, float, Array, Workspace]]:
        """Yield each loss, its weight, its value and its own workspace."""
        for k, (loss, weight) in enumerate(zip(self.losses, self.weights, strict=True)):
            prefix = f"{k}."
            own = {name.removeprefix(prefix): array for name, array in workspace.items() if name.startswith(prefix)}
            yield loss, weight, own["loss"], own
