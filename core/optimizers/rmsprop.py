"""RMSProp."""

from collections.abc import Mapping
from math import sqrt
from typing import ClassVar

from core.arrays import Array, Namespace
from core.optimizers.base import Optimizer, Step
from core.registry import hyperparameter


class RMSProp(Optimizer):
    """`v = decay v + (1 - decay) g²; w = w - lr g / (sqrt(v) + epsilon)`, as in PyTorch, not centered.

    The slot holds `v / (1 - decay)`, a sum in which each square enters with a factor of 1; the missing factor is part
    of the learning rate and of epsilon.

    Source: Tieleman and Hinton, "Lecture 6.5: rmsprop", Coursera, 2012.
    """

    type: ClassVar[str] = "rmsprop"

    lr: float = hyperparameter(default=0.01, doc="Learning rate before the schedule's factor.", gt=0)
    decay: float = hyperparameter(default=0.99, doc="Decay of the mean square per step.", ge=0, lt=1)
    epsilon: float = hyperparameter(default=1e-8, doc="Added to the root of the mean square.", ge=1e-30, le=1)

    @property
    def slots(self) -> tuple[str, ...]:
        """The decaying sum of the gradients' squares."""
        return ("square_sum",)

    def move(
        self, xp: Namespace, weights: Array, gradient: Array, state: Mapping[str, Array], change: Array, step: Step
    ) -> None:
        """Take the step on a block; see `Optimizer.move`."""
        spread = sqrt(1 - self.decay)  # sqrt(v) = spread * sqrt(square_sum)
        rate, epsilon = step.learning_rate / spread, self.epsilon / spread
        square_sum = state["square_sum"]
        xp.multiply(square_sum, self.decay, out=square_sum)
        xp.multiply(gradient, gradient, out=change)
        xp.add(square_sum, change, out=square_sum)
        xp.sqrt(square_sum, out=change)
        xp.add(change, epsilon, out=change)
        xp.divide(gradient, change, out=change)
        xp.multiply(change, rate, out=change)
        xp.subtract(weights, change, out=weights)
