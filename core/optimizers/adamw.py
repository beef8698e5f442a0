"""Adam with decoupled weight decay."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, blocks, overlaps
from core.optimizers.adam import Adam
from core.registry import hyperparameter


class AdamW(Adam):
    """Adam after `w = (1 - lr weight_decay) w`, which the gradient's mean square does not divide, as in PyTorch.

    The decay leaves out what no penalty counts, such as biases. It is no part of the loss.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
    """

    type: ClassVar[str] = "adamw"

    weight_decay: float = hyperparameter(
        default=0.01, doc="A step takes the share lr weight_decay of each weight.", ge=0
    )

    def update(
        self,
        xp: Namespace,
        parameters: Array,
        gradients: Array,
        state: Mapping[str, Array],
        scratch: Array,
        *,
        learning_rate: float,
        step: int,
        penalized: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take one step in place; see `Optimizer.update`."""
        kept = 1 - learning_rate * self.weight_decay
        for block in blocks(parameters.size):
            for start, stop in overlaps(penalized, block):
                weights = parameters[start:stop]
                xp.multiply(weights, kept, out=weights)
            slots = {name: slot[block] for name, slot in state.items()}
            super().update(
                xp, parameters[block], gradients[block], slots, scratch, learning_rate=learning_rate, step=step
            )
