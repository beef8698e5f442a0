"""Adam with decoupled weight decay."""

from typing import ClassVar

from core.optimizers.adam import Adam
from core.registry import hyperparameter


class AdamW(Adam):
    """Adam with decoupled weight decay: each step starts with `w = (1 - lr weight_decay) w`, as in PyTorch.

    The decay applies to weights, not to biases and other parameters without a penalty; PyTorch decays all parameters
    of a group. It is not part of the loss.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
    """

    type: ClassVar[str] = "adamw"

    weight_decay: float = hyperparameter(
        default=0.01, doc="Each step multiplies the weights by 1 - lr weight_decay.", ge=0
    )
