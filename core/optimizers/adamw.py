"""Adam with decoupled weight decay."""

from typing import ClassVar

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
