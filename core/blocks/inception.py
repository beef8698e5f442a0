"""Inception blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.block import INPUT, Block
from core.graph.entries import Entry
from core.initializers.base import Initializer
from core.initializers.he import He
from core.initializers.zeros import Zeros
from core.layers.activation.rectifying.relu import ReLU
from core.layers.convolution.conv2d import Conv2d
from core.layers.convolution.max_pool2d import MaxPool2d
from core.layers.shape.concat import Concat
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence


class Inception(Block):
    """Four branches of images whose channels are concatenated: GoogLeNet's module with dimension reductions.

    A 1 x 1 convolution; a 3 x 3 and a 5 x 5 one, each after a 1 x 1 one that reduces the channels; and a 1 x 1 one
    after a maximum over 3 x 3 windows. Height and width stay. Every convolution is followed by a ReLU.

    Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015, figure 2(b); the fields are the columns of its
    table 1.
    """

    type: ClassVar[str] = "inception"

    filters_1x1: int = hyperparameter(doc="Filters of the 1 x 1 convolution.", ge=1)
    filters_3x3_reduce: int = hyperparameter(doc="Filters of the 1 x 1 convolution before the 3 x 3 one.", ge=1)
    filters_3x3: int = hyperparameter(doc="Filters of the 3 x 3 convolution.", ge=1)
    filters_5x5_reduce: int = hyperparameter(doc="Filters of the 1 x 1 convolution before the 5 x 5 one.", ge=1)
    filters_5x5: int = hyperparameter(doc="Filters of the 5 x 5 convolution.", ge=1)
    filters_pool: int = hyperparameter(doc="Filters of the 1 x 1 convolution after the maximum.", ge=1)
    weight: Initializer = hyperparameter(default=He(), doc="Initializer of the weights.")
    bias: Initializer = hyperparameter(default=Zeros(), doc="Initializer of the biases.")

    def entries(self) -> Sequence[Entry]:
        pool = Entry(MaxPool2d(kernel=3, stride=1, padding=1), name="pool", inputs=(INPUT,))
        return [
            *self._convolution("1x1", self.filters_1x1, 1, INPUT),
            *self._convolution("3x3_reduce", self.filters_3x3_reduce, 1, INPUT),
            *self._convolution("3x3", self.filters_3x3, 3, "relu_3x3_reduce"),
            *self._convolution("5x5_reduce", self.filters_5x5_reduce, 1, INPUT),
            *self._convolution("5x5", self.filters_5x5, 5, "relu_5x5_reduce"),
            pool,
            *self._convolution("pool_proj", self.filters_pool, 1, "pool"),
            Entry(Concat(), name="output", inputs=("relu_1x1", "relu_3x3", "relu_5x5", "relu_pool_proj")),
        ]

    def _convolution(self, name: str, filters: int, kernel: int, reads: str) -> list[Entry]:
        convolution = Conv2d(filters, kernel, padding=kernel // 2, weight=self.weight, bias=self.bias)
        return [Entry(convolution, name=name, inputs=(reads,)), Entry(ReLU(), name=f"relu_{name}")]
