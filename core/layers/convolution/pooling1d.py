"""Base class of the layers that reduce windows of sequences."""

from core.layers.convolution.sequences import OfSequences
from core.registry import hyperparameter


class Pooling1d(OfSequences):
    """A reduction of each channel over windows of sequences (batch, length, channels)."""

    kernel: int = hyperparameter(doc="Length of a window.", ge=1)
    stride: int | None = hyperparameter(
        default=None, doc="Distance between windows; by default the length of a window.", ge=1
    )
    padding: int = hyperparameter(default=0, doc="Padding on each side, smaller than a window.", ge=0)
    ceil: bool = hyperparameter(
        default=False,
        doc="Whether the last window may reach beyond the padding, as in Caffe, so that no entry is left out.",
    )
