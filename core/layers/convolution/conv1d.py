"""Convolution of sequences."""

from typing import ClassVar, Literal

from core.graph.node import Kept
from core.initializers.base import Initializer
from core.initializers.he import He
from core.initializers.zeros import Zeros
from core.layers.convolution.conv2d import Conv2d
from core.layers.convolution.sequences import OfSequences
from core.registry import hyperparameter


class Conv1d(OfSequences):
    """Sequences (batch, length, channels) to (batch, windows, filters).

    Each output is the sum over a window of `x W`, plus b: weight W (kernel, channels / groups, filters), bias b
    (filters,). It is `conv2d` on images of height 1, with the same gradients.
    """

    type: ClassVar[str] = "conv1d"
    retains: ClassVar[frozenset[Kept]] = Conv2d.retains
    of_images = Conv2d

    filters: int = hyperparameter(doc="Number of channels of the output.", ge=1)
    kernel: int = hyperparameter(doc="Length of a window.", ge=1)
    stride: int = hyperparameter(default=1, doc="Distance between windows.", ge=1)
    padding: int | Literal["valid", "same"] = hyperparameter(
        default="valid",
        doc='Zeros on each side; "valid" is none, and "same" gives as many windows as the sequence is long, divided by '
        "the stride.",
        ge=0,
    )
    dilation: int = hyperparameter(default=1, doc="Distance between the entries of a window.", ge=1)
    groups: int = hyperparameter(default=1, doc="Number of parts of the channels.", ge=1)
    weight: Initializer = hyperparameter(default=He(), doc="Initializer of the weights.")
    bias: Initializer | None = hyperparameter(
        default=Zeros(), doc="Initializer of the biases, to which penalties do not apply; null for none."
    )
    penalized: bool = hyperparameter(default=True, doc="Whether penalties and weight decay apply to the weights.")
