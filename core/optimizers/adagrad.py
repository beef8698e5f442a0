"""Adagrad."""

from collections.abc import Mapping
from typing import ClassVar

from core.arrays import Array, Namespace
from core.optimizers.base import Optimizer, Step
from core.registry import hyperparameter


class Adagrad(Optimizer):
    """`v = v + g²; w = w - lr g / (sqrt(v) + epsilon)`, as in PyTorch.

    Source: Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 2011.
    """

    type: ClassVar[str] = "adagrad"

    lr: float = hyperparameter(default=0.01, doc="Learning rate before the schedule's factor.", gt=0)
    epsilon: float = hyperparameter(default=1e-10, doc="Added to the root of the sum of squares.", ge=1e-30, le=1)

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of the gradients' squares."""
        return ("square_sum",)

    def move(
        self, xp: Namespace, weights: Array, gradient: Array, state: Mapping[str, Array], change: Array, step: Step
    ) -> None:
        """Take the step on a block; see `Optimizer.move`."""
        square_sum = state["square_sum"]
        xp.multiply(gradient, gradient, out=change)
        xp.add(square_sum, change, out=square_sum)
        xp.sqrt(square_sum, out=change)
        xp.add(change, self.epsilon, out=change)
        xp.divide(gradient, change, out=change)
        xp.multiply(change, step.learning_rate, out=change)
        xp.subtract(weights, change, out=weights)
