"""Mean over windows of sequences."""

from typing import ClassVar

from core.graph.node import Kept
from core.layers.convolution.average_pool2d import AveragePool2d
from core.layers.convolution.pooling1d import Pooling1d


class AveragePool1d(Pooling1d):
    """The mean over windows: (batch, length, channels) to (batch, windows, channels).

    It is `average_pool2d` on images of height 1: padding counts as zeros, and the sum is divided by the number of
    entries of the window that lie in the sequence or its padding.
    """

    type: ClassVar[str] = "average_pool1d"
    retains: ClassVar[frozenset[Kept]] = AveragePool2d.retains
    of_images = AveragePool2d
