"""Lion."""

from collections.abc import Mapping
from typing import ClassVar

from core.arrays import Array, Namespace
from core.optimizers.base import Optimizer, Step
from core.registry import hyperparameter


class Lion(Optimizer):
    """`w = w - lr (sign(beta1 m + (1 - beta1) g) + weight_decay w); m = beta2 m + (1 - beta2) g`.

    Each step moves each parameter by the learning rate, which is therefore chosen 3 to 10 times smaller than Adam's.
    The slot holds `m / (1 - beta2)`, a sum in which each gradient enters with a factor of 1. The decay applies to
    weights, not to biases and other parameters without a penalty.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2.
    """

    type: ClassVar[str] = "lion"

    lr: float = hyperparameter(default=0.0001, doc="Learning rate before the schedule's factor.", gt=0)
    beta1: float = hyperparameter(default=0.9, doc="Weight of the mean gradient in the direction.", ge=0, lt=1)
    beta2: float = hyperparameter(default=0.99, doc="Decay of the mean gradient per step.", ge=0, lt=1)
    weight_decay: float = hyperparameter(
        default=0.0, doc="Each step multiplies the weights by 1 - lr weight_decay.", ge=0
    )

    @property
    def slots(self) -> tuple[str, ...]:
        """The decaying sum of the gradients."""
        return ("gradient_sum",)

    def move(
        self, xp: Namespace, weights: Array, gradient: Array, state: Mapping[str, Array], change: Array, step: Step
    ) -> None:
        """Take the step on a block; see `Optimizer.move`."""
        gradient_sum = state["gradient_sum"]
        xp.multiply(gradient_sum, self.beta1 * (1 - self.beta2) / (1 - self.beta1), out=change)
        xp.add(change, gradient, out=change)
        xp.sign(change, out=change)
        xp.multiply(change, step.learning_rate, out=change)
        xp.subtract(weights, change, out=weights)
        xp.multiply(gradient_sum, self.beta2, out=gradient_sum)
        xp.add(gradient_sum, gradient, out=gradient_sum)
