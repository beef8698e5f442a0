"""Maximum over windows of sequences."""

from typing import ClassVar

from core.graph.node import Kept
from core.layers.convolution.max_pool2d import MaxPool2d
from core.layers.convolution.pooling1d import Pooling1d


class MaxPool1d(Pooling1d):
    """The maximum over windows: (batch, length, channels) to (batch, windows, channels).

    It is `max_pool2d` on images of height 1: padding is ignored, the derivative is 1 for the maximum and 0 for the
    other entries, and of equal ones the first counts.
    """

    type: ClassVar[str] = "max_pool1d"
    retains: ClassVar[frozenset[Kept]] = MaxPool2d.retains
    of_images = MaxPool2d
